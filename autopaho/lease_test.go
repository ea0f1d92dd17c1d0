package autopaho_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// A relay whose lease the store does not renew makes no connection: it would end
// that of the lane's next holder.
func TestNoConnectionWithoutLease(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store, faults := persisttest.NewFaulty(memoryStore(t))
	ctx := within(t, 30*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Lease: time.Second}})
	q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)

	faults.Add(persisttest.Fault{Op: persisttest.OpLaneRenew, N: 1, Times: -1, Mode: persisttest.Failed})
	calls := faults.Calls(persisttest.OpLaneRenew)
	require.Eventually(t, func() bool { return faults.Calls(persisttest.OpLaneRenew) > calls+3 }, 10*time.Second, time.Millisecond)
	q, err = c.Enqueue(ctx, autopaho.Message{Topic: "b"})
	require.NoError(t, err)
	connections := b.Connections()
	b.ResetAll()
	require.Never(t, func() bool { return b.Connections() > connections }, time.Second, 10*time.Millisecond)
	require.Len(t, b.Arrivals(), 1, "sent without a lease")
	faults.Heal()
	_, err = q.Wait(ctx)
	require.NoError(t, err)
}

// The next holder of a lane takes its session. That is right, however often it
// happens: only who takes it without a lease is not fought for long.
func TestTakeoverByNextHolder(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := memoryStore(t)
	faulty, faults := persisttest.NewFaulty(store)
	ctx := within(t, 60*time.Second)
	relay := autopaho.RelayConfig{Lease: time.Second}
	weak := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: faulty, Relay: relay})
	for round := range 3 {
		require.Eventually(t, func() bool { return len(weak.Status(ctx).Lanes) == 1 && len(b.Connected()) == 1 }, 10*time.Second, time.Millisecond)
		faults.Add(persisttest.Fault{Op: persisttest.OpLaneRenew, N: 1, Times: -1, Mode: persisttest.Failed})
		next := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: relay})
		q, err := next.Enqueue(ctx, autopaho.Message{Topic: "a"})
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(next.Status(ctx).Lanes) == 1 }, 10*time.Second, time.Millisecond)
		_, err = q.Wait(ctx)
		require.NoError(t, err)
		require.NoError(t, b.Wait(ctx, func() bool { return b.Stats().Takeovers == round+1 }))
		require.Eventually(t, func() bool { return len(weak.Status(ctx).Lanes) == 0 }, 10*time.Second, time.Millisecond)
		faults.Heal()
		require.NoError(t, next.Close(ctx))
	}
	require.NoError(t, weak.Err())
}

// The other relays know that one leaves before its lanes are free.
func TestWithdrawnBeforeRelease(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := lanesStore(t, 2)
	faulty, faults := persisttest.NewFaulty(store)
	ctx := within(t, 30*time.Second)
	c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}, Store: faulty})
	require.NoError(t, err)
	awaitCounts(t, store, 5*time.Second, 2)
	hold := faults.Hold(persisttest.OpAnnounceRelay, 1)
	closed := make(chan error, 1)
	go func() { closed <- c.Close(ctx) }()
	<-hold.Reached()
	require.NoError(t, b.Wait(ctx, func() bool { return len(b.Connected()) == 0 }))
	require.Never(t, func() bool { return len(counts(t, context.Background(), store)) == 0 }, 200*time.Millisecond, 5*time.Millisecond)
	hold.Release()
	require.NoError(t, <-closed)
	require.Empty(t, counts(t, ctx, store))
}
