package autopaho_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// A relay that reached the store and not the broker once kept its lanes, whose
// messages waited although another relay could have sent them.
func TestRelayStandsAside(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 4} {
		t.Run(fmt.Sprint(lanes), func(t *testing.T) {
			t.Parallel()
			away, b := startBroker(t, brokertest.Options{}), startBroker(t, brokertest.Options{})
			away.Stop()
			store := lanesStore(t, lanes)
			ctx := within(t, raceSlows*60*time.Second)
			relay := autopaho.RelayConfig{Lease: raceSlows * time.Second}
			lost := client(t, autopaho.Config{Servers: []string{away.URL()}, Store: store, Relay: relay})
			awaitCounts(t, store, 2*time.Second, lanes)
			for lane := range lanes {
				_, err := lost.Enqueue(ctx, autopaho.Message{Topic: topicOf(lane, lanes)})
				require.NoError(t, err)
			}
			client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: relay})
			require.NoError(t, b.WaitFirstArrivals(ctx, lanes))
			awaitCounts(t, store, 5*time.Second, lanes)
			require.Empty(t, lost.Status(ctx).Lanes)

			// It comes again, and has its share if the broker is there.
			require.NoError(t, away.Start())
			if lanes > 1 {
				awaitCounts(t, store, 20*time.Second, lanes/2, lanes/2)
				require.NoError(t, away.Wait(ctx, func() bool { return len(away.Connected()) == lanes/2 }))
			}
		})
	}
}

// While the broker is away for all, somebody holds every lane: whoever rested would
// not be there when it comes back. A relay that is alone does not rest at all.
func TestLastRelayStays(t *testing.T) {
	t.Parallel()
	for _, relays := range []int{1, 2} {
		t.Run(fmt.Sprint(relays), func(t *testing.T) {
			t.Parallel()
			const lanes = 4
			b := startBroker(t, brokertest.Options{})
			b.Stop()
			store := lanesStore(t, lanes)
			ctx := within(t, raceSlows*60*time.Second)
			const lease = raceSlows * time.Second
			var one *autopaho.Client
			for range relays {
				one = client(t, autopaho.Config{
					Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Lease: lease},
				})
			}
			for lane := range lanes {
				_, err := one.Enqueue(ctx, autopaho.Message{Topic: topicOf(lane, lanes)})
				require.NoError(t, err)
			}
			if relays > 1 {
				awaitCounts(t, store, 5*time.Second, lanes/2, lanes/2)
			}
			awaitCounts(t, store, 20*time.Second, lanes) // one of two has stood aside
			held := epochs(t, ctx, store)
			require.Never(t, func() bool {
				return !slices.Equal(held, epochs(t, ctx, store)) || !slices.Equal([]int{lanes}, counts(t, ctx, store))
			}, 3*lease, 20*time.Millisecond, "the last relay gave a lane back")
			require.NoError(t, b.Start())
			require.NoError(t, b.WaitFirstArrivals(ctx, lanes))
		})
	}
}
