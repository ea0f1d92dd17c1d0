package autopaho_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// The connections to the store die without a word, and new ones are good. A call on
// one of the dead ones never ended, and its lane stood still, while a renewal that had
// got a new connection kept the lease.
func TestStoreIsLostInSilence(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	for kind, urls := range map[string]func(t *testing.T) (direct, addr string){
		"postgres": func(t *testing.T) (string, string) {
			t.Helper()
			s := testenv.SharedPostgres(t)
			return s.URL(), s.Addr()
		},
		"redis": func(t *testing.T) (string, string) {
			t.Helper()
			s := testenv.SharedRedis(t)
			return fmt.Sprintf("%s?prefix=%s", s.URL(), strings.ToLower(strings.ReplaceAll(t.Name(), "/", "."))), s.Addr()
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			direct, addr := urls(t)
			ctx := within(t, 2*time.Minute)
			store := opened(t, direct)
			proxy := fault.Start(t, addr)
			failed := make(chan struct{}, 1)
			client(t, autopaho.Config{
				Servers: []string{b.URL()}, Store: opened(t, strings.ReplaceAll(direct, addr, proxy.Addr())),
				Relay: autopaho.RelayConfig{Lease: time.Minute},
				OnEvent: func(e autopaho.Event) {
					if e.Kind == autopaho.EventError {
						select {
						case failed <- struct{}{}:
						default:
						}
					}
				},
			})
			t.Cleanup(func() { proxy.CutAll(fault.RST) }) // who closes need not wait for the dead ones
			send := func(id string) {
				_, err := store.Enqueue(ctx, []persist.Message{{ID: id, Topic: "t", QoS: 1}})
				require.NoError(t, err)
			}
			sent := func() bool {
				stats, err := store.Stats(ctx)
				require.NoError(t, err)
				return stats.Pending == 0
			}
			send("a")
			eventually(t, sent, 30*time.Second, 10*time.Millisecond, "the first message")
			proxy.BlackHole(true)
			send("b")
			select {
			case <-failed: // a call has reached its limit
			case <-time.After(20 * time.Second):
				t.Fatal("a call waits for what will never come")
			}
			proxy.BlackHole(false)
			back := time.Now()
			eventually(t, sent, 20*time.Second, 10*time.Millisecond, "the second message")
			t.Logf("sent %s after the return", time.Since(back).Round(time.Millisecond))
		})
	}
}

// slowStore has lanes that are slow to hand out: each time it takes so long, unless
// the caller gives up before.
type slowStore struct {
	persist.Store
	takes time.Duration
}

func (s *slowStore) AcquireLane(ctx context.Context, n int, owner string, ttl time.Duration) (persist.Lane, error) {
	lane, err := s.Store.AcquireLane(ctx, n, owner, ttl)
	if err != nil {
		return nil, err
	}
	return &slowLane{lane, s.takes}, nil
}

type slowLane struct {
	persist.Lane
	takes time.Duration
}

func (l *slowLane) Next(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
	slow, cancel := context.WithTimeout(ctx, l.takes)
	defer cancel()
	<-slow.Done()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.Lane.Next(ctx, limit, maxBytes)
}

// A store that is slow, and lives, is given the time that it takes.
func TestSlowStoreIsWaitedFor(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: &slowStore{memoryStore(t), autopaho.StoreTimeout + time.Second/2}})
	m, err := c.Enqueue(t.Context(), autopaho.Message{ID: "a", Topic: "t", QoS: 1})
	require.NoError(t, err)
	_, err = m.Wait(within(t, time.Minute))
	require.NoError(t, err)
}

// verySlowStore takes so long for whatever it is asked, unless the caller gives up before.
type verySlowStore struct {
	persist.Store
	takes time.Duration
}

func (s *verySlowStore) pass(ctx context.Context) error {
	slow, cancel := context.WithTimeout(ctx, s.takes)
	defer cancel()
	<-slow.Done()
	return ctx.Err()
}

func (s *verySlowStore) ExpireProcessed(ctx context.Context, limit int) (int, error) {
	if err := s.pass(ctx); err != nil {
		return 0, err
	}
	return s.Store.ExpireProcessed(ctx, limit)
}

func (s *verySlowStore) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	if err := s.pass(ctx); err != nil {
		return nil, err
	}
	return s.Store.Enqueue(ctx, msgs)
}

// Impatient callers have opened the breaker of a store that is slow: those who have the
// time are let through all the same, before long.
func TestVerySlowStoreIsNotAway(t *testing.T) {
	t.Parallel()
	store := &verySlowStore{memoryStore(t), 2 * time.Second}
	c := client(t, autopaho.Config{
		Servers: []string{"mqtt://127.0.0.1:1"}, Store: store, Relay: autopaho.RelayConfig{Off: true},
	})
	var open *autopaho.BreakerError
	eventually(t, func() bool {
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := c.Enqueue(short, autopaho.Message{Topic: "t", QoS: 1})
		return errors.As(err, &open)
	}, 20*time.Second, time.Millisecond, "the breaker is open")
	eventually(t, func() bool {
		_, err := c.Enqueue(within(t, time.Minute), autopaho.Message{Topic: "t", QoS: 1})
		return err == nil
	}, 30*time.Second, 50*time.Millisecond, "a message is stored")
}
