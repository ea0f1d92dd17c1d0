package autopaho_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// A replica stood still for longer than its claims lasted. What had waited for a
// worker was begun all the same, with a context that had ended already; a handler
// that heeds its context failed as often as it is tried, and the message became a
// dead letter without having been worked on.
func TestLostClaimIsNoFailure(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store, faults := persisttest.NewFaulty(memoryStore(t))
	ctx := within(t, time.Minute)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
	var done atomic.Int32
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a/+"}, Group: "g", Lease: time.Second, Workers: 1,
		Handler: func(ctx context.Context, m *autopaho.Received) error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if m.ID == "0" && faults.Calls(persisttest.OpClaim) > 0 && done.Load() == 0 {
				<-ctx.Done() // no renewal succeeds: the claims of all of them are lost
				faults.Heal()
			}
			done.Add(1)
			return nil
		},
	})
	require.NoError(t, err)
	faults.Add(persisttest.Fault{Op: persisttest.OpRenewClaims, Times: -1})
	const n = 5
	for i := range n {
		_, err := c.Publish(ctx, autopaho.Message{ID: strconv.Itoa(i), Topic: "a/" + strconv.Itoa(i), QoS: 1})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		counters := c.Counters()
		return counters.Processed+counters.Dead >= n
	}, 30*time.Second, 5*time.Millisecond)
	require.Zero(t, c.Counters().Dead)
}
