package autopaho_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/qos"
)

// The broker forgets its sessions in the middle of a QoS 2 exchange with a member of a
// shared subscription (C11). It need not give the message to another [MQTT-4.8.2-5],
// and this one does not: the receipt that does not come brings it back, and it has one
// effect.
func TestSharedQoS2SessionEnds(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]struct {
		direction brokertest.Direction
		kind      brokertest.Type
		lost      bool // nobody has worked on it
	}{
		"before PUBLISH": {brokertest.Out, brokertest.PUBLISH, true},
		"before PUBREC":  {brokertest.In, brokertest.PUBREC, false},
		"before PUBREL":  {brokertest.Out, brokertest.PUBREL, false},
		"before PUBCOMP": {brokertest.In, brokertest.PUBCOMP, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 60*time.Second)
			var armed atomic.Bool
			hit := make(chan struct{}, 1)
			b := startBroker(t, brokertest.Options{Intercept: func(id string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
				if !strings.HasPrefix(id, "worker-") || d != at.direction || p.Type != at.kind || !armed.CompareAndSwap(true, false) {
					return brokertest.Pass
				}
				hit <- struct{}{}
				return brokertest.Drop
			}})
			shared, eff := memoryStore(t), newEffects()
			for i := range 2 {
				c := client(t, autopaho.Config{
					Servers: []string{b.URL()}, ClientID: "worker-" + strconv.Itoa(i), Store: shared, Relay: autopaho.RelayConfig{Off: true},
				})
				_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
					Filters: []string{"a"}, QoS: 2, Group: "g", Receipts: true, Handler: eff.handle,
				})
				require.NoError(t, err)
			}
			store := memoryStore(t)
			pub := client(t, autopaho.Config{
				Servers: []string{b.URL()}, Store: store,
				Policies: qos.Policies{Default: qos.Policy{Receipt: true, ReceiptTimeout: 200 * time.Millisecond}},
			})
			const n, often = 20, 3
			for i := range n {
				armed.Store(i < often)
				q, err := pub.Enqueue(ctx, autopaho.Message{Topic: "a", QoS: 2})
				require.NoError(t, err)
				_, err = q.Wait(ctx)
				require.NoError(t, err)
				if i < often {
					select {
					case <-hit: // and the publisher's exchange is over
						b.Forget()
					case <-ctx.Done():
						require.FailNow(t, "there was no such packet")
					}
				}
				results, err := q.WaitAcknowledged(ctx)
				require.NoError(t, err)
				require.NoError(t, results[0].Err())
			}
			eff.waitFor(t, ctx, n)
			eff.requireOnce(t)
			if at.lost {
				require.GreaterOrEqual(t, pub.Counters().Resent, uint64(often))
			}
			stats, err := store.Stats(ctx)
			require.NoError(t, err)
			require.Zero(t, stats.Pending+stats.Delivered, "the outbox is empty")
			require.Empty(t, b.Violations())
		})
	}
}
