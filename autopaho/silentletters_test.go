package autopaho_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

func (s *lossyCalls) AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error {
	s.lossy.begins("AddDeadLetters")
	return s.Store.AddDeadLetters(ctx, letters)
}

func (s *lossyPostgres) AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error {
	return s.calls.AddDeadLetters(ctx, letters)
}

// The connections to the store die without a word as a dead letter is to be stored: of a
// subscription without a group, or of a message that no subscription wants. It is stored
// all the same, and the message acknowledged after that.
func TestDeadLetterIsStoredAfterSilentLoss(t *testing.T) {
	t.Parallel()
	for name, topic := range map[string]string{"failed": "new/1", "unrouted": "old/1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 2*time.Minute)
			s := newLossy(t, "postgres")
			stored := make(chan int, 1) // when the message is acknowledged
			b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
				if d == brokertest.In && p.Type == brokertest.PUBACK {
					letters, _ := s.direct.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
					stored <- len(letters)
				}
				return brokertest.Pass
			}})
			keepSubscription(t, b, "sub", "old/#")
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "sub", Store: s.store(), Relay: autopaho.RelayConfig{Off: true}})
			t.Cleanup(func() { s.proxy.CutAll(fault.RST) }) // who closes need not wait for the dead ones
			c.SetUnroutedWait(10 * time.Millisecond)
			_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
				Filters: []string{"new/#"}, Handler: func(context.Context, *autopaho.Received) error { return autopaho.Permanent(errors.New("no")) },
			})
			require.NoError(t, err)
			s.loseAt("AddDeadLetters")
			b.Publish(brokertest.Packet{Topic: topic, QoS: 1})
			back := s.returned(t, false)
			select {
			case n := <-stored:
				require.NotZero(t, n, "it was acknowledged before")
			case <-time.After(time.Minute):
				require.FailNow(t, "the message is not acknowledged")
			}
			t.Logf("acknowledged %s after the return", time.Since(back).Round(time.Millisecond))
		})
	}
}

// A store that takes longer for dead letters than it is waited for at first is given the
// time that it takes.
func TestDeadLetterIsStoredBySlowStore(t *testing.T) {
	t.Parallel()
	for name, topic := range map[string]string{"failed": "new/1", "unrouted": "old/1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 2*time.Minute)
			b := startBroker(t, brokertest.Options{})
			keepSubscription(t, b, "sub", "old/#")
			store := &slowLetters{memoryStore(t), autopaho.StoreTimeout + time.Second/2}
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "sub", Store: store, Relay: autopaho.RelayConfig{Off: true}})
			c.SetUnroutedWait(10 * time.Millisecond)
			_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
				Filters: []string{"new/#"}, Handler: func(context.Context, *autopaho.Received) error { return autopaho.Permanent(errors.New("no")) },
			})
			require.NoError(t, err)
			b.Publish(brokertest.Packet{Topic: topic, QoS: 1})
			eventually(t, func() bool { return c.Counters().Dead+c.Counters().Unrouted > 0 }, time.Minute, 10*time.Millisecond, "it is put aside")
		})
	}
}

type slowLetters struct {
	persist.Store
	takes time.Duration
}

func (s *slowLetters) AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error {
	slow, cancel := context.WithTimeout(ctx, s.takes)
	defer cancel()
	<-slow.Done()
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.Store.AddDeadLetters(ctx, letters)
}
