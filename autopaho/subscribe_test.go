package autopaho_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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

// effects counts what handlers did, by message ID and in order.
type effects struct {
	mu    sync.Mutex
	count map[string]int
	order []string
	grown chan struct{}
}

func newEffects() *effects { return &effects{count: map[string]int{}, grown: make(chan struct{}, 1)} }

func (e *effects) handle(_ context.Context, m *autopaho.Received) error {
	e.mu.Lock()
	e.count[m.ID]++
	e.order = append(e.order, string(m.Payload))
	e.mu.Unlock()
	select {
	case e.grown <- struct{}{}:
	default:
	}
	return nil
}

// waitFor waits until n different messages were handled.
func (e *effects) waitFor(t *testing.T, ctx context.Context, n int) {
	t.Helper()
	for {
		e.mu.Lock()
		got := len(e.count)
		e.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-e.grown:
		case <-ctx.Done():
			require.FailNow(t, "too few effects", "%d of %d", got, n)
		}
	}
}

func (e *effects) requireOnce(t *testing.T) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, n := range e.count {
		require.Equal(t, 1, n, "message %s", id)
	}
}

// Two replicas of a group, over a broker that drops connections with acks on
// the way: every message has one effect.
func TestGroupProcessesOnceOverDrops(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Seed: 3, DropEvery: brokertest.Range{Min: 100, Max: 300}, DropLimit: 20})
	shared := memoryStore(t)
	eff := newEffects()
	ctx := within(t, 60*time.Second)
	replicas := make([]*autopaho.Client, 2)
	for i := range replicas {
		replicas[i] = client(t, autopaho.Config{
			Servers: []string{b.URL()}, ClientID: "replica-" + strconv.Itoa(i), Store: shared,
			Relay: autopaho.RelayConfig{Off: true}, ReceiveMaximum: 20,
		})
		_, err := replicas[i].Subscribe(ctx, autopaho.SubscribeConfig{
			Filters: []string{"work/#"}, Group: "g", Handler: eff.handle,
		})
		require.NoError(t, err)
	}
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t)})
	const n = 2000
	for range n / 100 {
		var msgs []autopaho.Message
		for j := range 100 {
			msgs = append(msgs, autopaho.Message{Topic: fmt.Sprintf("work/%d", j%10)})
		}
		_, err := pub.Enqueue(ctx, msgs...)
		require.NoError(t, err)
	}
	eff.waitFor(t, ctx, n)
	eff.requireOnce(t)
}

// Close finishes handlers and sends their acknowledgements: nothing that was
// processed comes again.
func TestCloseLeavesNoRedelivery(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}})
	eff := newEffects() // no store: only the acknowledgements prevent a second time
	for round := range 5 {
		sub, err := autopaho.New(ctx, autopaho.Config{
			Servers: []string{b.URL()}, ClientID: "sub", ReceiveMaximum: 20,
		})
		require.NoError(t, err)
		_, err = sub.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Handler: eff.handle})
		require.NoError(t, err)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					_, err := pub.Publish(ctx, autopaho.Message{
						ID: fmt.Sprintf("%d-%d-%d", round, w, i), Topic: "a", QoS: 1,
					})
					if !errors.Is(err, context.Canceled) {
						require.NoError(t, err)
					}
				}
			})
		}
		eff.waitFor(t, ctx, (round+1)*100)
		require.NoError(t, sub.Close(ctx))
		close(stop)
		wg.Wait()
	}
	eff.requireOnce(t)
}

// An error is tried again up to the attempts, a permanent one is not, a panic
// is an error; all end as dead letters, acknowledged, and others flow.
func TestPoisonBecomesDeadLetter(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := memoryStore(t)
	ctx := within(t, 30*time.Second)
	eff := newEffects()
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, ClientID: "c"})
	var mu sync.Mutex
	tries := map[string]int{}
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"p/#"}, Group: "g", Attempts: 3,
		Backoff: qos.Backoff{Initial: time.Millisecond, Max: time.Millisecond},
		Handler: func(ctx context.Context, m *autopaho.Received) error {
			mu.Lock()
			tries[m.Topic]++
			mu.Unlock()
			switch m.Topic {
			case "p/error":
				return errors.New("cannot")
			case "p/permanent":
				return autopaho.Permanent(errors.New("never"))
			case "p/panic":
				panic("boom")
			}
			return eff.handle(ctx, m)
		},
	})
	require.NoError(t, err)
	_, err = c.Enqueue(ctx,
		autopaho.Message{Topic: "p/error"}, autopaho.Message{Topic: "p/permanent"},
		autopaho.Message{Topic: "p/panic"}, autopaho.Message{Topic: "p/good"})
	require.NoError(t, err)
	eff.waitFor(t, ctx, 1)
	require.Eventually(t, func() bool {
		return c.Status(ctx).Counters.Dead == 3
	}, 10*time.Second, 5*time.Millisecond)
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{Side: persist.SideConsumer}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 3)
	mu.Lock()
	defer mu.Unlock()
	require.Equal(t, map[string]int{"p/error": 3, "p/permanent": 1, "p/panic": 3, "p/good": 1}, tries)
}

// Handlers of one ordering key run one after another, in the order of arrival.
func TestOrderPerKey(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 30*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), ClientID: "c"})
	eff := newEffects()
	var mu sync.Mutex
	last := map[string]int{}
	running := map[string]bool{}
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"o/#"}, Group: "g", Workers: 8,
		Handler: func(ctx context.Context, m *autopaho.Received) error {
			n, err := strconv.Atoi(string(m.Payload))
			if err != nil {
				return err
			}
			mu.Lock()
			wrong := running[m.OrderingKey] || last[m.OrderingKey] >= n
			running[m.OrderingKey], last[m.OrderingKey] = true, n
			mu.Unlock()
			if wrong {
				t.Errorf("key %s: %d is out of order", m.OrderingKey, n)
			}
			defer func() {
				mu.Lock()
				running[m.OrderingKey] = false
				mu.Unlock()
			}()
			return eff.handle(ctx, m)
		},
	})
	require.NoError(t, err)
	var msgs []autopaho.Message
	for i := range 2000 {
		msgs = append(msgs, autopaho.Message{
			Topic: fmt.Sprintf("o/%d", i%7), OrderingKey: fmt.Sprintf("k%d", i%13), Payload: []byte(strconv.Itoa(i + 1)),
		})
	}
	_, err = c.Enqueue(ctx, msgs...)
	require.NoError(t, err)
	eff.waitFor(t, ctx, 2000)
	eff.requireOnce(t)
}

// The second promise: a broker that forgets what it acknowledged loses nothing
// that asked for a receipt.
func TestReceiptsSurviveForgetfulBroker(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	store := memoryStore(t)
	pub := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: store,
		Policies: qos.Policies{Default: qos.Policy{Receipt: true, ReceiptTimeout: 300 * time.Millisecond}},
	})
	const n = 1000
	var handles []*autopaho.Enqueued
	for i := range n / 100 {
		var msgs []autopaho.Message
		for j := range 100 {
			msgs = append(msgs, autopaho.Message{Topic: "r", Payload: []byte(strconv.Itoa(i*100 + j))})
		}
		q, err := pub.Enqueue(ctx, msgs...)
		require.NoError(t, err)
		handles = append(handles, q)
	}
	// The broker takes them, nobody listens, and then it forgets everything.
	for _, q := range handles {
		_, err := q.Wait(ctx)
		require.NoError(t, err)
	}
	b.Stop()
	b.Forget()
	require.NoError(t, b.Start())

	eff := newEffects()
	sub := client(t, autopaho.Config{
		Servers: []string{b.URL()}, ClientID: "sub", Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true},
	})
	_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"r"}, Group: "g", Receipts: true, Handler: eff.handle,
	})
	require.NoError(t, err)
	for _, q := range handles {
		results, err := q.WaitAcknowledged(ctx)
		require.NoError(t, err)
		for _, r := range results {
			require.Equal(t, persist.StateAcknowledged, r.State)
		}
	}
	eff.waitFor(t, ctx, n)
	eff.requireOnce(t)
	st, err := store.Stats(ctx)
	require.NoError(t, err)
	require.Zero(t, st.Pending+st.Delivered)
}

func TestSubscribeRefused(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{
		Answers: []brokertest.Answer{{Topic: "no", On: brokertest.SUBSCRIBE, Code: 0x87}},
	})
	ctx := within(t, 10*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	handler := func(context.Context, *autopaho.Received) error { return nil }
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"no"}, Handler: handler})
	var refused *autopaho.SubscribeError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, byte(0x87), refused.Code)
	_, err = c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a/#/b"}, Handler: handler})
	require.ErrorIs(t, err, autopaho.ErrConfig)
	s, err := c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"yes"}, Handler: handler})
	require.NoError(t, err)
	require.NoError(t, s.Close(ctx))
}

// Whatever the Receive Maximum, at every level: all arrive, once, and the broker
// never has more un-acknowledged than that.
func TestReceiveMaximum(t *testing.T) {
	t.Parallel()
	for _, maximum := range []int{1, 2, 3, 20} {
		for _, level := range []byte{1, 2} {
			t.Run(fmt.Sprintf("%d/qos%d", maximum, level), func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, brokertest.Options{Seed: 5, DropEvery: brokertest.Range{Min: 40, Max: 120}, DropLimit: 8})
				ctx := within(t, 60*time.Second)
				eff := newEffects()
				sub := client(t, autopaho.Config{
					Servers: []string{b.URL()}, ClientID: "sub", Store: memoryStore(t), ReceiveMaximum: maximum,
					Relay: autopaho.RelayConfig{Off: true},
				})
				_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
					Filters: []string{"r/#"}, QoS: level, Group: "g", Handler: eff.handle,
				})
				require.NoError(t, err)
				pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t)})
				var msgs []autopaho.Message
				for i := range 300 {
					msgs = append(msgs, autopaho.Message{Topic: fmt.Sprintf("r/%d", i%5), QoS: level})
				}
				_, err = pub.Enqueue(ctx, msgs...)
				require.NoError(t, err)
				eff.waitFor(t, ctx, 300)
				eff.requireOnce(t)
				require.Empty(t, b.Violations())
			})
		}
	}
}

// The store is away and the connection flaps: what is redelivered does not pile
// up, and all is processed once when the store is back.
func TestStoreOutageWithFlappingConnection(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store, faults := persisttest.NewFaulty(memoryStore(t))
	ctx := within(t, 30*time.Second)
	eff := newEffects()
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: store, ClientID: "c", Relay: autopaho.RelayConfig{Off: true}, ReceiveMaximum: 20,
	})
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Group: "g", Handler: eff.handle})
	require.NoError(t, err)
	faults.Add(persisttest.Fault{Times: -1, Mode: persisttest.Failed})
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}})
	for i := range 20 {
		_, err := pub.Publish(ctx, autopaho.Message{ID: strconv.Itoa(i), Topic: "a", QoS: 1})
		require.NoError(t, err)
	}
	for round := range 10 {
		require.Eventually(t, func() bool { return c.Counters().Received >= uint64(20*(round+1)) }, 10*time.Second, time.Millisecond)
		require.LessOrEqual(t, c.Unsettled(), 40, "after %d redeliveries", round)
		b.ResetAll()
	}
	faults.Heal()
	eff.waitFor(t, ctx, 20)
	eff.requireOnce(t)
}

// A message whose receipt never comes is sent again, up to its attempts, and
// fails with that reason.
func TestReceiptThatNeverComes(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := memoryStore(t)
	ctx := within(t, 20*time.Second)
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Poll: 10 * time.Millisecond},
		Policies: qos.Policies{Default: qos.Policy{Receipt: true, ReceiptTimeout: 20 * time.Millisecond, Attempts: 3}},
	})
	q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	results, err := q.WaitAcknowledged(ctx)
	require.NoError(t, err)
	require.ErrorContains(t, results[0].Err(), "no receipt came although it was sent 3 times")
	require.Len(t, b.Arrivals(), 3)
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
}
