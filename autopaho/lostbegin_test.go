package autopaho_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// Before a message is begun again the store is told, and may answer that the claim is
// another replica's. The handler was run all the same, under a context that nobody had
// ended: what the other had completed was processed twice.
func TestNoSecondAttemptUnderALostClaim(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := memoryStore(t)
	ctx := within(t, 60*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
	// elsewhere is another replica that gets the claim and completes the message.
	elsewhere := func(epoch int64) error {
		if err := store.Release(ctx, "g", []persist.Claim{{Key: "m", State: persist.ClaimGranted, Epoch: epoch}}); err != nil {
			return err
		}
		claims, err := store.Claim(ctx, persist.ClaimRequest{Group: "g", Owner: "other", TTL: time.Minute, Keys: []string{"m"}})
		if err != nil {
			return err
		}
		_, err = store.Complete(ctx, "g", []persist.Completion{{Claim: claims[0]}}, time.Hour)
		return err
	}
	var runs atomic.Int32
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Group: "g", Lease: time.Minute,
		Handler: func(_ context.Context, m *autopaho.Received) error {
			if runs.Add(1) == 1 {
				return errors.Join(errors.New("the first time"), elsewhere(m.Epoch))
			}
			return nil
		},
	})
	require.NoError(t, err)
	_, err = c.Publish(ctx, autopaho.Message{ID: "m", Topic: "a", QoS: 1})
	require.NoError(t, err)
	eventually(t, func() bool {
		counters := c.Counters()
		return counters.Processed+counters.Duplicates+counters.Dead > 0
	}, 30*time.Second, 5*time.Millisecond, "the end of the message")
	require.EqualValues(t, 1, c.Counters().Duplicates)
	require.EqualValues(t, 1, runs.Load(), "another replica had completed it")
}
