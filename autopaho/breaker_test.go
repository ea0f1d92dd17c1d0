package autopaho_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
	"github.com/oncemq/oncemq/qos"
)

// hookLog notes what OnBreaker was told.
type hookLog struct {
	mu    sync.Mutex
	calls []autopaho.BreakerStatus
}

func (h *hookLog) told(s autopaho.BreakerStatus) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, s)
}

// states are those that it was told of one breaker.
func (h *hookLog) states(name autopaho.BreakerName) []autopaho.BreakerState {
	h.mu.Lock()
	defer h.mu.Unlock()
	var states []autopaho.BreakerState
	for _, c := range h.calls {
		if c.Name == name {
			states = append(states, c.State)
		}
	}
	return states
}

// breakerOf is a breaker's status.
func breakerOf(t *testing.T, c *autopaho.Client, name autopaho.BreakerName) autopaho.BreakerStatus {
	t.Helper()
	for _, b := range c.Status(t.Context()).Breakers {
		if b.Name == name {
			return b
		}
	}
	require.FailNow(t, "there is no such breaker", "%s", name)
	return autopaho.BreakerStatus{}
}

// stuckStore is a store that does not answer while it is stuck.
type stuckStore struct {
	persist.Store

	mu    sync.Mutex
	stuck chan struct{} // closed when it goes on; nil if it is not stuck
}

func (s *stuckStore) stick() (release func()) {
	stuck := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stuck = stuck
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stuck = nil
		close(stuck)
	}
}

func (s *stuckStore) wait(ctx context.Context, op string) error {
	s.mu.Lock()
	stuck := s.stuck
	s.mu.Unlock()
	if stuck == nil {
		return nil
	}
	select {
	case <-stuck:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
}

func (s *stuckStore) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	if err := s.wait(ctx, "enqueue"); err != nil {
		return nil, err
	}
	return s.Store.Enqueue(ctx, msgs)
}

func (s *stuckStore) ExpireProcessed(ctx context.Context, limit int) (int, error) {
	if err := s.wait(ctx, "expire"); err != nil {
		return 0, err
	}
	return s.Store.ExpireProcessed(ctx, limit)
}

func (s *stuckStore) Stats(ctx context.Context) (persist.Stats, error) {
	if err := s.wait(ctx, "stats"); err != nil {
		return persist.Stats{}, err
	}
	return s.Store.Stats(ctx)
}

// The store goes away: after a few failures Enqueue does not wait for it any more
// and says so, the hook and the status tell, and within two seconds of its return
// all is as before, though nobody has come to try.
func TestStoreBreaker(t *testing.T) {
	t.Parallel()
	store, faults := persisttest.NewFaulty(memoryStore(t))
	var hook hookLog
	var events hookLog
	c := client(t, autopaho.Config{
		Servers: []string{"mqtt://127.0.0.1:1"}, Store: store, Relay: autopaho.RelayConfig{Off: true}, OnBreaker: hook.told,
		OnEvent: func(e autopaho.Event) {
			if e.Kind == autopaho.EventBreaker {
				events.told(e.Breaker)
			}
		},
	})
	ctx := within(t, 20*time.Second)
	enqueue := func() error {
		_, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
		return err
	}
	require.NoError(t, enqueue())
	require.Equal(t, autopaho.BreakerClosed, breakerOf(t, c, autopaho.BreakerStore).State)

	faults.Add(persisttest.Fault{Times: -1, Mode: persisttest.Failed})
	for range 3 {
		require.ErrorIs(t, enqueue(), persisttest.ErrInjected)
	}
	calls := faults.Calls(persisttest.OpEnqueue)
	var open *autopaho.BreakerError
	for range 100 {
		err := enqueue()
		require.ErrorAs(t, err, &open)
		require.ErrorIs(t, err, persist.ErrUnavailable)
		require.NotErrorIs(t, err, persist.ErrUnknownOutcome)
	}
	require.ErrorIs(t, open.Err, persisttest.ErrInjected)
	require.Equal(t, calls, faults.Calls(persisttest.OpEnqueue), "the store was asked")
	require.NotEqual(t, autopaho.BreakerClosed, breakerOf(t, c, autopaho.BreakerStore).State)
	require.ErrorAs(t, c.Status(ctx).StoreErr, &open)
	require.Equal(t, []autopaho.BreakerState{autopaho.BreakerOpen}, hook.states(autopaho.BreakerStore))
	// A probe with more patience may be the first to find it healed, before the breaker is
	// half-open.
	eventually(t, func() bool { return slices.Contains(events.states(autopaho.BreakerStore), autopaho.BreakerHalfOpen) },
		20*time.Second, time.Millisecond, "it is tried")

	faults.Heal()
	back := time.Now()
	require.Eventually(t, func() bool {
		return breakerOf(t, c, autopaho.BreakerStore).State == autopaho.BreakerClosed
	}, 10*time.Second, time.Millisecond)
	require.Less(t, time.Since(back), 2*time.Second)
	require.NoError(t, enqueue())
	require.NoError(t, breakerOf(t, c, autopaho.BreakerStore).Err)
	require.Eventually(t, func() bool { return len(hook.states(autopaho.BreakerStore)) == 2 }, 5*time.Second, time.Millisecond)
	require.Equal(t, []autopaho.BreakerState{autopaho.BreakerOpen, autopaho.BreakerClosed}, hook.states(autopaho.BreakerStore))
	seen := events.states(autopaho.BreakerStore)
	require.Equal(t, autopaho.BreakerOpen, seen[0])
	require.Equal(t, autopaho.BreakerHalfOpen, seen[1])
	require.Equal(t, autopaho.BreakerClosed, seen[len(seen)-1])
}

// A store that hangs costs a few callers their time-out, not all of them, and
// not Status.
func TestStoreBreakerSparesTimeouts(t *testing.T) {
	t.Parallel()
	store := &stuckStore{Store: memoryStore(t)}
	c := client(t, autopaho.Config{
		Servers: []string{"mqtt://127.0.0.1:1"}, Store: store, Relay: autopaho.RelayConfig{Off: true},
	})
	release := store.stick()
	enqueue := func(timeout time.Duration) error {
		_, err := c.Enqueue(within(t, timeout), autopaho.Message{Topic: "a"})
		return err
	}
	for range 3 {
		require.ErrorIs(t, enqueue(20*time.Millisecond), context.DeadlineExceeded)
	}
	begun := time.Now()
	for range 20 {
		require.ErrorIs(t, enqueue(time.Minute), persist.ErrUnavailable)
		require.Error(t, c.Status(within(t, time.Minute)).StoreErr)
	}
	require.Less(t, time.Since(begun), 10*time.Second)
	release()
	require.Eventually(t, func() bool { return enqueue(time.Second) == nil }, 2*time.Second, time.Millisecond)
}

// Callers without patience are not the store's fault: whoever comes next is
// served after the time of one call.
func TestStoreBreakerAndImpatientCallers(t *testing.T) {
	t.Parallel()
	// A machine that has a lot to do may be late once, but not each time.
	var took time.Duration
	for range 5 {
		store := &stuckStore{Store: memoryStore(t)}
		c := client(t, autopaho.Config{
			Servers: []string{"mqtt://127.0.0.1:1"}, Store: store, Relay: autopaho.RelayConfig{Off: true},
		})
		release := store.stick()
		for range 3 {
			_, err := c.Enqueue(within(t, time.Millisecond), autopaho.Message{Topic: "a"})
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		release()
		begun := time.Now()
		eventually(t, func() bool {
			_, err := c.Enqueue(within(t, 20*time.Second), autopaho.Message{Topic: "a"})
			return err == nil
		}, 20*time.Second, time.Millisecond, "a message is stored")
		if took = time.Since(begun); took < time.Second {
			return
		}
	}
	require.Less(t, took, time.Second)
}

// A broker that refuses everything is not sent the whole backlog for that, and
// gets it once it takes messages again.
func TestBrokerBreakerOnRefusals(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "#", Code: 0x97}}, ReceiveMaximum: 50})
	var hook hookLog
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: memoryStore(t), OnBreaker: hook.told,
		Policies: qos.Policies{Default: qos.Policy{
			Attempts: 10_000, Backoff: qos.Backoff{Initial: time.Millisecond, Max: 5 * time.Millisecond},
		}},
	})
	ctx := within(t, 60*time.Second)
	const n = 2000
	handles := make([]*autopaho.Enqueued, n/100)
	begun := time.Now()
	for i := range handles {
		msgs := make([]autopaho.Message, 100)
		for j := range msgs {
			msgs[j] = autopaho.Message{Topic: "a"}
		}
		var err error
		handles[i], err = c.Enqueue(ctx, msgs...)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return len(hook.states(autopaho.BreakerBroker)) == 1 }, 20*time.Second, time.Millisecond)
	var refused *autopaho.DeliveryError
	require.ErrorAs(t, breakerOf(t, c, autopaho.BreakerBroker).Err, &refused)
	require.Equal(t, byte(0x97), refused.ReasonCode)
	// Without a breaker the broker is sent some ten thousand a second.
	require.Eventually(t, func() bool { return len(b.Arrivals()) > 300 }, 20*time.Second, time.Millisecond)
	require.GreaterOrEqual(t, time.Since(begun), 300*time.Millisecond, "the breaker lets 64 through each 200 ms")
	require.Less(t, float64(len(b.Arrivals()))/time.Since(begun).Seconds(), 1500.0)

	b.SetAnswers()
	for _, q := range handles {
		results, err := q.Wait(ctx)
		require.NoError(t, err)
		for _, r := range results {
			require.NoError(t, r.Err())
		}
	}
	require.Eventually(t, func() bool { return len(hook.states(autopaho.BreakerBroker)) == 2 }, 10*time.Second, time.Millisecond)
	require.Equal(t, autopaho.BreakerClosed, breakerOf(t, c, autopaho.BreakerBroker).State)
}

// One topic that is refused opens nothing while others flow, and does not hold
// them up.
func TestBrokerBreakerIsNotForOneTopic(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "no", Code: 0x97}}})
	var hook hookLog
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: memoryStore(t), OnBreaker: hook.told,
		Policies: qos.Policies{Default: qos.Policy{Attempts: 10_000, Backoff: qos.Backoff{Initial: time.Hour, Max: time.Hour}}},
	})
	ctx := within(t, 30*time.Second)
	for i := range 100 {
		_, err := c.Enqueue(ctx, autopaho.Message{Topic: "no"})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return c.Counters().Retried > uint64(i) }, 10*time.Second, time.Millisecond)
		q, err := c.Enqueue(ctx, autopaho.Message{Topic: "yes"})
		require.NoError(t, err)
		_, err = q.Wait(ctx)
		require.NoError(t, err)
	}
	require.Empty(t, hook.states(autopaho.BreakerBroker))
}

// The broker is away and comes back: the breaker tells, and does not hold up the
// first message; with nothing to send it closes as well.
func TestBrokerBreakerOnOutage(t *testing.T) {
	t.Parallel()
	for _, waiting := range []int{0, 10} {
		t.Run(fmt.Sprintf("%d messages wait", waiting), func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			var hook hookLog
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), OnBreaker: hook.told})
			ctx := within(t, 30*time.Second)
			q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
			require.NoError(t, err)
			_, err = q.Wait(ctx)
			require.NoError(t, err)
			b.Stop()
			require.Eventually(t, func() bool {
				return breakerOf(t, c, autopaho.BreakerBroker).State == autopaho.BreakerOpen
			}, 10*time.Second, time.Millisecond)
			require.Error(t, breakerOf(t, c, autopaho.BreakerBroker).Err)
			for range waiting {
				_, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
				require.NoError(t, err)
			}
			require.NoError(t, b.Start())
			require.NoError(t, b.WaitFirstArrivals(ctx, 1+waiting))
			require.Eventually(t, func() bool { return len(hook.states(autopaho.BreakerBroker)) == 2 }, 10*time.Second, time.Millisecond)
			require.Equal(t, autopaho.BreakerClosed, breakerOf(t, c, autopaho.BreakerBroker).State)
		})
	}
}
