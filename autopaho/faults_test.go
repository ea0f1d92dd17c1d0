package autopaho_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
	"github.com/oncemq/oncemq/qos"
)

func modes() []persisttest.Mode { return []persisttest.Mode{persisttest.Failed, persisttest.Applied} }

// Whatever call of the store fails, and whether or not it was applied: what
// Enqueue accepted arrives in order, and what it refused does not arrive, unless
// it said that the outcome is unknown.
func TestPublishWithFailingStore(t *testing.T) {
	t.Parallel()
	ops := map[persisttest.Op]int{ // and how often each is called at least
		persisttest.OpEnqueue: 6, persisttest.OpLanes: 2, persisttest.OpAcquireLane: 1, persisttest.OpLaneNext: 4,
		persisttest.OpLaneSettle: 3, persisttest.OpLaneAcknowledge: 3,
	}
	eachBackend(t, func(t *testing.T, open func(t *testing.T) persist.Store) {
		t.Helper()
		for op, calls := range ops {
			for _, mode := range modes() {
				for n := 1; n <= calls; n++ {
					t.Run(fmt.Sprintf("%s/%s/%d", op, mode, n), func(t *testing.T) {
						t.Parallel()
						publishUnderFault(t, open(t), persisttest.Fault{Op: op, N: n, Times: 2, Mode: mode})
					})
				}
			}
		}
	})
}

func publishUnderFault(t *testing.T, inner persist.Store, fault persisttest.Fault) {
	t.Helper()
	b := startBroker(t, brokertest.Options{})
	store, faults := persisttest.NewFaulty(inner, fault)
	ctx := within(t, 30*time.Second)
	listen := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "consumer"})
	_, err := listen.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Receipts: true,
		Handler: func(context.Context, *autopaho.Received) error { return nil },
	})
	require.NoError(t, err)

	var c *autopaho.Client
	for c == nil { // New looks at the lanes, and says so if it cannot
		c, err = autopaho.New(ctx, autopaho.Config{
			Servers: []string{b.URL()}, Store: store,
			Relay: autopaho.RelayConfig{Lease: time.Second, Poll: 20 * time.Millisecond},
			Policies: qos.Policies{Default: qos.Policy{
				Receipt: fault.Op == persisttest.OpLaneAcknowledge, ReceiptTimeout: 200 * time.Millisecond,
			}},
		})
		if err != nil {
			require.ErrorIs(t, err, persisttest.ErrInjected)
		}
	}
	defer func() { require.NoError(t, c.Close(within(t, 10*time.Second))) }()

	var want []string
	unknown := map[string]bool{}
	for i := range 40 {
		id := strconv.Itoa(i)
		q, err := c.Enqueue(ctx, autopaho.Message{ID: id, Topic: "a", Payload: []byte(id)})
		switch {
		case err == nil:
			want = append(want, id)
			if i%10 == 9 {
				results, err := q.WaitAcknowledged(ctx)
				require.NoError(t, err)
				require.NoError(t, results[0].Err())
				drained(t, ctx, store) // so that there are several settlements
			}
		case errors.Is(err, persist.ErrUnknownOutcome):
			unknown[id] = true
		default:
			require.ErrorIs(t, err, persisttest.ErrInjected)
		}
	}
	drained(t, ctx, store)
	require.Positive(t, faults.Failed(), "the fault was never met")
	var got []string
	for _, a := range b.FirstArrivals("a") {
		if id := string(a.Packet.Payload); !unknown[id] {
			got = append(got, id)
		}
	}
	require.Equal(t, want, got)
}

// drained waits until the outbox is empty.
func drained(t *testing.T, ctx context.Context, store persist.Store) {
	t.Helper()
	require.Eventually(t, func() bool {
		st, err := store.Stats(ctx)
		return err == nil && st.Pending == 0 && st.Delivered == 0
	}, 20*time.Second, 5*time.Millisecond)
}

// The same for the consumer: every message has one effect, since no replica
// dies, whatever the store answers.
func TestConsumeWithFailingStore(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, open func(t *testing.T) persist.Store) {
		t.Helper()
		for _, op := range []persisttest.Op{persisttest.OpClaim, persisttest.OpComplete, persisttest.OpRenewClaims, persisttest.OpExpireProcessed} {
			for _, mode := range modes() {
				for n := 1; n <= 3; n++ {
					t.Run(fmt.Sprintf("%s/%s/%d", op, mode, n), func(t *testing.T) {
						t.Parallel()
						consumeUnderFault(t, open(t), persisttest.Fault{Op: op, N: n, Times: 2, Mode: mode})
					})
				}
			}
		}
	})
}

func consumeUnderFault(t *testing.T, inner persist.Store, fault persisttest.Fault) {
	t.Helper()
	b := startBroker(t, brokertest.Options{})
	store, _ := persisttest.NewFaulty(inner, fault)
	ctx := within(t, 30*time.Second)
	eff := newEffects()
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: store, ClientID: "c", Relay: autopaho.RelayConfig{Off: true},
	})
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Group: "g", Lease: time.Second, Handler: eff.handle,
	})
	require.NoError(t, err)
	for i := range 30 {
		_, err := c.Publish(ctx, autopaho.Message{ID: strconv.Itoa(i), Topic: "a", QoS: 1})
		require.NoError(t, err)
	}
	eff.waitFor(t, ctx, 30)
	require.Eventually(t, func() bool {
		n := c.Counters()
		return n.Processed+n.Duplicates >= 30 && c.Status(ctx).Connections[0].Unacked == 0
	}, 20*time.Second, 5*time.Millisecond)
	eff.requireOnce(t)
}

// The store is away: nothing is acknowledged, nothing runs, and work goes on by
// itself when it is back.
func TestStoreOutageStopsConsumer(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store, faults := persisttest.NewFaulty(memoryStore(t))
	ctx := within(t, 30*time.Second)
	eff := newEffects()
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, ClientID: "c", Relay: autopaho.RelayConfig{Off: true}})
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Group: "g", Handler: eff.handle})
	require.NoError(t, err)
	faults.Add(persisttest.Fault{Times: -1, Mode: persisttest.Failed})
	for i := range 20 {
		_, err := c.Publish(ctx, autopaho.Message{ID: strconv.Itoa(i), Topic: "a", QoS: 1})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return faults.Calls(persisttest.OpTime) >= 3 }, 10*time.Second, time.Millisecond)
	require.Zero(t, c.Counters().Processed)
	require.Error(t, c.Status(ctx).StoreErr)
	back := time.Now()
	faults.Heal()
	eff.waitFor(t, ctx, 20)
	require.Less(t, time.Since(back), 3*time.Second)
	eff.requireOnce(t)
}

// Another client takes a lane's session: the relay takes it back twice, then
// stays down and says why. The message stays in the outbox.
func TestTakeoverIsNotFought(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := memoryStore(t)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store})
	ctx := within(t, 30*time.Second)
	q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	laneClient := fmt.Sprintf("oncemq-%s-0", store.Identity()[:12])
	for c.Err() == nil {
		intruder, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}, ClientID: laneClient})
		require.NoError(t, err)
		connections := b.Connections()
		_, err = intruder.Subscribe(ctx, autopaho.SubscribeConfig{
			Filters: []string{"x"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
		})
		if err != nil { // it was thrown out in turn
			require.ErrorIs(t, err, autopaho.ErrDuplicateClientID)
		}
		// Either the lane comes back, or it stays down for good.
		require.Eventually(t, func() bool {
			return c.Err() != nil || b.Connections() > connections+1
		}, 10*time.Second, 5*time.Millisecond)
		require.NoError(t, intruder.Close(ctx))
	}
	require.ErrorIs(t, c.Err(), autopaho.ErrDuplicateClientID)
	_, err = c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err, "a message is accepted all the same")
	st, err := store.Stats(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, st.Pending)
}
