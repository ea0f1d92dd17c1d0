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
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// A replica stood still for longer than its claims lasted. What had waited for a
// worker was begun all the same, with a context that had ended already; a handler
// that heeds its context failed as often as it is tried, and the message became a
// dead letter without having been worked on, and what another replica had completed
// by then was processed twice.
func TestNoHandlerBeginsUnderALostClaim(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	inner := memoryStore(t)
	store, faults := persisttest.NewFaulty(inner)
	ctx := within(t, time.Minute)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
	var late, done, taken atomic.Int32
	// elsewhere is another replica that gets the claim of a message, and completes it.
	elsewhere := func(id string) {
		for {
			claims, err := inner.Claim(ctx, persist.ClaimRequest{Group: "g", Owner: "other", TTL: time.Minute, Keys: []string{id}})
			if err != nil {
				t.Error(err)
				return
			}
			if claims[0].State != persist.ClaimGranted {
				continue // its lease has not ended yet
			}
			if _, err := inner.Complete(ctx, "g", []persist.Completion{{Claim: claims[0]}}, time.Hour); err != nil {
				t.Error(err)
			}
			return
		}
	}
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a/+"}, Group: "g", Lease: time.Second, Workers: 1,
		Handler: func(ctx context.Context, m *autopaho.Received) error {
			if ctx.Err() != nil {
				late.Add(1)
				return ctx.Err()
			}
			if m.ID == "0" && faults.Calls(persisttest.OpClaim) > 0 && done.Load() == 0 {
				<-ctx.Done() // no renewal succeeds: the claims of all of them are lost
				elsewhere("3")
				faults.Heal()
			}
			if m.ID == "3" {
				taken.Add(1)
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
		return counters.Processed+counters.Duplicates+counters.Dead >= n
	}, 30*time.Second, 5*time.Millisecond)
	require.Zero(t, c.Counters().Dead)
	require.Zero(t, taken.Load(), "it was completed by another replica")
	require.Zero(t, late.Load(), "handlers that began when the claim was lost")
}
