package autopaho_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// The Session Expiry Interval passes while a client is away: mosquitto forgets its
// session, and with it what it kept for a subscriber, or where a publisher's QoS 2
// exchanges stood. The client is told, subscribes again, and of what the outbox has
// accepted nothing is lost or has its effect twice.
func TestSessionExpiresWhileAway(t *testing.T) {
	t.Parallel()
	for _, away := range []string{"subscriber", "publisher"} {
		t.Run(away, func(t *testing.T) {
			t.Parallel()
			m := testenv.Mosquitto(t, testenv.MosquittoOptions{Extra: []string{"max_queued_messages 0"}})
			proxy := fault.Start(t, m.Addr())
			ctx := within(t, 60*time.Second)
			url := map[bool]string{true: proxy.URL(), false: m.URL()}
			var lost, others atomic.Int32
			onEvent := func(e autopaho.Event) {
				switch {
				case e.Kind != autopaho.EventSessionLost:
				case e.ClientID == away:
					lost.Add(1)
				case e.ClientID == "subscriber" || e.ClientID == "publisher":
					others.Add(1)
				}
			}
			eff := newEffects()
			sub := client(t, autopaho.Config{
				Servers: []string{url[away == "subscriber"]}, ClientID: "subscriber", SessionExpiry: time.Second,
				Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true}, OnEvent: onEvent,
			})
			_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
				Filters: []string{"a"}, QoS: 2, Group: "g", Receipts: true, Handler: eff.handle,
			})
			require.NoError(t, err)
			store := memoryStore(t)
			pub := client(t, autopaho.Config{
				Servers: []string{url[away == "publisher"]}, SessionExpiry: time.Second, Store: store, OnEvent: onEvent,
				Relay:    autopaho.RelayConfig{ClientID: "publisher"},
				Policies: qos.Policies{Default: qos.Policy{Receipt: true, ReceiptTimeout: 500 * time.Millisecond}},
			})
			const n = 50
			var handles []*autopaho.Enqueued
			enqueue := func() *autopaho.Enqueued {
				msgs := make([]autopaho.Message, n)
				for i := range msgs {
					msgs[i] = autopaho.Message{Topic: "a", QoS: byte(1 + i%2)}
				}
				q, err := pub.Enqueue(ctx, msgs...)
				require.NoError(t, err)
				handles = append(handles, q)
				return q
			}
			_, err = enqueue().WaitAcknowledged(ctx)
			require.NoError(t, err)

			if away == "subscriber" {
				require.NoError(t, proxy.Refuse(true))
				proxy.CutAll(fault.RST)
				_, err = enqueue().Wait(ctx) // the broker has them, for nobody who would come in time
				require.NoError(t, err)
			} else {
				// Some of them are on their way when the connection goes.
				require.NoError(t, proxy.Refuse(true))
				proxy.CutAfter(fault.ToServer, 1000, fault.RST)
				enqueue()
				eventually(t, func() bool { return proxy.Open() == 0 }, 20*time.Second, time.Millisecond, "cut off")
				enqueue()
			}
			eventually(t, func() bool { return strings.Contains(m.Log(), "Expiring client "+away) },
				20*time.Second, 10*time.Millisecond, "session of the %s expired", away)
			enqueue()
			require.Zero(t, lost.Load(), "told before it could be known")
			require.NoError(t, proxy.Refuse(false))

			for _, q := range handles {
				results, err := q.WaitAcknowledged(ctx)
				require.NoError(t, err)
				for _, r := range results {
					require.NoError(t, r.Err())
					require.Equal(t, persist.StateAcknowledged, r.State)
				}
			}
			eff.waitFor(t, ctx, n*len(handles))
			eff.requireOnce(t)
			require.EqualValues(t, 1, lost.Load())
			require.Zero(t, others.Load(), "the session of who stayed is lost")
			st, err := store.Stats(ctx)
			require.NoError(t, err)
			require.Zero(t, st.Pending+st.Delivered)
			// Before the broker goes: what was sent twice is answered twice.
			require.NoError(t, pub.Close(ctx))
			require.NoError(t, sub.Close(ctx))
		})
	}
}
