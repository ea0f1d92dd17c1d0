package autopaho_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// Two replicas that both hear every message, over a broker that drops
// connections: one of them processes it, the other settles a duplicate.
func TestUnsharedReplicasProcessOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"memory", "sqlite"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{Seed: 11, DropEvery: brokertest.Range{Min: 200, Max: 500}, DropLimit: 10})
			ctx := within(t, 60*time.Second)
			store := memoryStore(t)
			if kind == "sqlite" {
				store = sqliteStore(t, filepath.Join(t.TempDir(), "store.db"))
			}
			eff := newEffects()
			replicas := make([]*autopaho.Client, 2)
			for i := range replicas {
				replicas[i] = client(t, autopaho.Config{
					Servers: []string{b.URL()}, ClientID: "replica-" + strconv.Itoa(i), Store: store,
					Relay: autopaho.RelayConfig{Off: true}, ReceiveMaximum: 20,
				})
				_, err := replicas[i].Subscribe(ctx, autopaho.SubscribeConfig{
					Filters: []string{"work/#"}, Group: "g", Unshared: true, Handler: eff.handle,
				})
				require.NoError(t, err)
			}
			pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t)})
			const n = 1000
			msgs := make([]autopaho.Message, n)
			for i := range msgs {
				msgs[i] = autopaho.Message{Topic: fmt.Sprintf("work/%d", i%10)}
			}
			_, err := pub.Enqueue(ctx, msgs...)
			require.NoError(t, err)
			eff.waitFor(t, ctx, n)
			require.Eventually(t, func() bool {
				one, two := replicas[0].Counters(), replicas[1].Counters()
				return one.Processed+two.Processed == n && one.Duplicates+two.Duplicates >= n &&
					replicas[0].Unsettled()+replicas[1].Unsettled() == 0
			}, 20*time.Second, 5*time.Millisecond)
			eff.requireOnce(t)
		})
	}
}

// A replica cannot renew its claim and outlives its lease: its handler is told,
// another replica takes the message over, and the late completion of the first
// changes nothing.
func TestLateCompletionIsRefused(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"one", "batch"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			ctx := within(t, 30*time.Second)
			shared := memoryStore(t)
			cutOff, faults := persisttest.NewFaulty(shared)
			start := func(name string, store *autopaho.Config, handle autopaho.Handler) *autopaho.Client {
				store.Servers, store.ClientID, store.Relay.Off = []string{b.URL()}, name, true
				c := client(t, *store)
				cfg := autopaho.SubscribeConfig{Filters: []string{"a"}, Group: "g", Unshared: true, Lease: time.Second, Handler: handle}
				if mode == "batch" {
					cfg.Handler = nil
					cfg.BatchHandler = func(ctx context.Context, msgs []*autopaho.Received) error {
						for _, m := range msgs {
							if err := handle(ctx, m); err != nil {
								return err
							}
						}
						return nil
					}
				}
				_, err := c.Subscribe(ctx, cfg)
				require.NoError(t, err)
				return c
			}
			begun, goOn := make(chan int64, 1), make(chan struct{})
			told := make(chan error, 1)
			first := start("first", &autopaho.Config{Store: cutOff}, func(ctx context.Context, m *autopaho.Received) error {
				begun <- m.Epoch
				<-ctx.Done()
				told <- context.Cause(ctx)
				<-goOn
				return nil // and says that it has succeeded
			})
			pub := client(t, autopaho.Config{Servers: []string{b.URL()}})
			_, err := pub.Publish(ctx, autopaho.Message{ID: "m", Topic: "a", QoS: 1})
			require.NoError(t, err)
			epoch := <-begun
			faults.Add(persisttest.Fault{Op: persisttest.OpRenewClaims, Times: -1, Mode: persisttest.Failed})

			var later atomic.Int64
			second := start("second", &autopaho.Config{Store: shared}, func(_ context.Context, m *autopaho.Received) error {
				later.Store(m.Epoch)
				return nil
			})
			_, err = pub.Publish(ctx, autopaho.Message{ID: "m", Topic: "a", QoS: 1})
			require.NoError(t, err)
			require.Eventually(t, func() bool { return second.Counters().Processed == 1 }, 10*time.Second, time.Millisecond)
			require.Greater(t, later.Load(), epoch, "the fencing token of the later holder is higher")
			require.True(t, errors.Is(<-told, dedup.ErrClaimLost), "the handler of the first was not told")
			require.Zero(t, first.Counters().Processed)
			close(goOn)
			// Both of its deliveries are settled, and it processed neither.
			require.Eventually(t, func() bool { return first.Unsettled() == 0 }, 10*time.Second, time.Millisecond)
			require.Zero(t, first.Counters().Processed)
			require.EqualValues(t, 2, first.Counters().Duplicates)
			require.EqualValues(t, 1, second.Counters().Processed)
		})
	}
}
