package autopaho_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// A relay that got a lane and never heard of it does not wait for its own lease.
func TestLaneOfALostAnswerIsTakenAnew(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store, faults := persisttest.NewFaulty(memoryStore(t), persisttest.Fault{Op: persisttest.OpAcquireLane, Mode: persisttest.Applied})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Lease: time.Hour}})
	ctx := within(t, 20*time.Second)
	_, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	drained(t, ctx, store)
	require.Equal(t, 1, faults.Failed())
}

// Nor does one whose drain could not release the lane: here it ended because the
// store did not say what it had handed out.
func TestUnreleasedLaneIsTakenAnew(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store, faults := persisttest.NewFaulty(memoryStore(t),
		persisttest.Fault{Op: persisttest.OpLaneNext, Mode: persisttest.Applied}, persisttest.Fault{Op: persisttest.OpLaneRelease})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Lease: time.Hour}})
	ctx := within(t, 20*time.Second)
	_, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	drained(t, ctx, store)
	require.Equal(t, 2, faults.Failed())
}

// A lane that was given back and could not be released is released in the end: the
// relay whose share it is need not wait for the lease.
func TestUnreleasedSurplusIsGivenBack(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	inner := lanesStore(t, 2)
	store, faults := persisttest.NewFaulty(inner)
	cfg := autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Lease: 9 * time.Second}}
	client(t, cfg)
	awaitCounts(t, inner, 20*time.Second, 2)
	faults.Add(persisttest.Fault{Op: persisttest.OpLaneRelease})
	_, err := inner.AnnounceRelay(t.Context(), "another", time.Hour)
	require.NoError(t, err)
	eventually(t, func() bool {
		infos, err := inner.Lanes(t.Context())
		return err == nil && faults.Failed() == 1 && slices.ContainsFunc(infos, func(info persist.LaneInfo) bool {
			return info.Epoch > 1 && info.Remaining <= 0
		})
	}, 40*time.Second, 20*time.Millisecond, "the lane was not given back")
}
