package autopaho_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

func (s *lossyCalls) Lookup(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
	s.lossy.begins("Lookup")
	return s.Store.Lookup(ctx, refs)
}

func (s *lossyPostgres) Lookup(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
	return s.calls.Lookup(ctx, refs)
}

// The connections to the store die without a word as Wait looks up what another process
// delivers, and as it does so for the last time, since the client has ended.
func TestWaitGoesOnAfterSilentLoss(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	for _, closes := range []bool{false, true} {
		name := "stays"
		if closes {
			name = "closes"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, time.Minute)
			s := newLossy(t, "postgres")
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: s.store(), Relay: autopaho.RelayConfig{Off: true}})
			t.Cleanup(func() { s.proxy.CutAll(fault.RST) }) // who closes need not wait for the dead ones
			q, err := c.Enqueue(ctx, autopaho.Message{ID: "a", Topic: "t/" + name, QoS: 1})
			require.NoError(t, err)
			if closes {
				client(t, autopaho.Config{Servers: []string{b.URL()}, Store: s.direct})
				drained(t, ctx, s.direct)
				require.NoError(t, c.Close(ctx))
			}
			s.loseAt("Lookup")
			waited := make(chan error, 1)
			go func() {
				_, err := q.Wait(ctx)
				waited <- err
			}()
			back := s.returned(t, false)
			if !closes {
				client(t, autopaho.Config{Servers: []string{b.URL()}, Store: s.direct})
			}
			require.NoError(t, <-waited)
			t.Logf("returned %s after the return", time.Since(back).Round(time.Millisecond))
		})
	}
}

// Wait listens for results while a look-up hangs, and ends that.
func TestWaitListensWhileItLooksUp(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := &hangingLookup{Store: memoryStore(t), asked: make(chan struct{}, 1)}
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store})
	ctx := within(t, time.Minute)
	// A machine that has a lot to do may have the look-up reach its limit before, once.
	for tries := 0; store.ended.Load() == 0 && tries < 10; tries++ {
		b.HoldAcks()
		q, err := c.Enqueue(ctx, autopaho.Message{Topic: "t", QoS: 1, Droppable: true})
		require.NoError(t, err)
		waited := make(chan error, 1)
		go func() {
			_, err := q.Wait(ctx)
			waited <- err
		}()
		<-store.asked
		b.ReleaseAcks()
		require.NoError(t, <-waited)
	}
	require.NotZero(t, store.ended.Load(), "the look-ups were waited for")
}

// hangingLookup is a store that says nothing of what became of messages.
type hangingLookup struct {
	persist.Store
	asked chan struct{} // holds one
	ended atomic.Int32  // how often the caller wanted to know no more, before its time was over
}

func (s *hangingLookup) Lookup(ctx context.Context, _ []persist.Ref) ([]persist.Fate, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	if errors.Is(ctx.Err(), context.Canceled) {
		s.ended.Add(1)
	}
	return nil, ctx.Err()
}

// A store that takes longer for a look-up than it is waited for at first is given the
// time that it takes, and a caller's context ends all the same.
func TestWaitIsPatientWithSlowStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &slowLookup{memoryStore(t), 4 * time.Second}
		c := client(t, autopaho.Config{Servers: []string{"mqtt://127.0.0.1:1"}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
		q, err := c.Enqueue(t.Context(), autopaho.Message{Topic: "t", QoS: 1})
		require.NoError(t, err)
		_, err = q.Wait(within(t, 100*time.Millisecond)) // before the first
		require.ErrorIs(t, err, context.DeadlineExceeded)
		begun := time.Now()
		_, err = q.Wait(within(t, time.Second)) // in the midst of it
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(begun))

		lane, err := store.AcquireLane(t.Context(), q.Refs()[0].Lane, "other", time.Minute)
		require.NoError(t, err)
		entries, err := lane.Next(t.Context(), 1, 1000)
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.NoError(t, lane.Settle(t.Context(), []persist.Settlement{{Position: entries[0].Position, Outcome: persist.OutcomeDelivered}}))
		begun = time.Now()
		_, err = q.Wait(within(t, time.Minute))
		require.NoError(t, err)
		require.Less(t, time.Since(begun), 20*time.Second)
	})
}

type slowLookup struct {
	persist.Store
	takes time.Duration
}

func (s *slowLookup) Lookup(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
	slow, cancel := context.WithTimeout(ctx, s.takes)
	defer cancel()
	<-slow.Done()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.Store.Lookup(ctx, refs)
}
