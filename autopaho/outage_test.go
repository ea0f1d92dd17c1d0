package autopaho_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
	"github.com/oncemq/oncemq/qos"
)

// A message over which the broker drops the connection without a word becomes a
// dead letter that says so, and the lane goes on.
func TestMessageThatMakesTheBrokerDropUs(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{
		Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			if d == brokertest.In && p.Type == brokertest.PUBLISH && p.Topic == "bad" {
				return brokertest.Cut
			}
			return brokertest.Pass
		},
	})
	ctx := within(t, 60*time.Second)
	store := memoryStore(t)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store})
	var msgs []autopaho.Message
	for i := range 100 {
		topic := "good"
		if i == 50 {
			topic = "bad"
		}
		msgs = append(msgs, autopaho.Message{Topic: topic})
	}
	q, err := c.Enqueue(ctx, msgs...)
	require.NoError(t, err)
	results, err := q.Wait(ctx)
	require.NoError(t, err)
	for i, r := range results {
		if i != 50 {
			require.NoError(t, r.Err(), "%d", i)
		}
	}
	require.EqualError(t, results[50].Err(), "message "+q.IDs()[50]+
		" failed: the server drops the connection without a word whenever it is sent this message")
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Equal(t, q.IDs()[50], letters[0].Message.ID)
	require.Equal(t, results[50].Reason, letters[0].Reason)
}

// The broker that comes back allows less than the one that went: what no longer
// fits is put aside with the reason, and the rest flows.
func TestLimitsChangeBetweenConnections(t *testing.T) {
	t.Parallel()
	before := startBroker(t, brokertest.Options{})
	before.HoldAcks()
	ctx := within(t, 30*time.Second)
	store := memoryStore(t)
	c := client(t, autopaho.Config{Servers: []string{before.URL()}, Store: store})
	bad := map[int]string{10: "Maximum Packet Size", 11: "Maximum QoS", 12: "retained"}
	msgs := make([]autopaho.Message, 40)
	for i := range msgs {
		msgs[i] = autopaho.Message{Topic: "a", QoS: 1, Payload: fmt.Appendf(nil, "%d", i)}
	}
	msgs[10].Payload = []byte(strings.Repeat("x", 2000))
	msgs[11].QoS = 2
	msgs[12].Retain = true
	q, err := c.Enqueue(ctx, msgs...)
	require.NoError(t, err)
	require.NoError(t, before.WaitFirstArrivals(ctx, len(msgs))) // all are in flight

	one := byte(1)
	before.Close()
	after := startBroker(t, brokertest.Options{
		Addr: before.Addr(), MaximumPacketSize: 1000, MaximumQoS: &one, RetainUnavailable: true, ReceiveMaximum: 3,
	})
	results, err := q.Wait(ctx)
	require.NoError(t, err)
	for i, r := range results {
		if reason := bad[i]; reason != "" {
			require.ErrorContains(t, r.Err(), reason)
			continue
		}
		require.NoError(t, r.Err(), "%d", i)
	}
	require.Empty(t, after.Violations())
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, len(bad))
}

// A store that takes longer for a call than a lease lasts does not lose the lane:
// the lease is renewed on a path of its own.
func TestSlowStoreKeepsTheLane(t *testing.T) {
	t.Parallel()
	for _, op := range []persisttest.Op{persisttest.OpLaneNext, persisttest.OpLaneSettle} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			inner := memoryStore(t)
			store, faults := persisttest.NewFaulty(inner)
			ctx := within(t, 60*time.Second)
			relay := autopaho.RelayConfig{Lease: 2 * time.Second, Poll: 20 * time.Millisecond}
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: relay})
			q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
			require.NoError(t, err)
			_, err = q.Wait(ctx)
			require.NoError(t, err)
			lanes, err := inner.Lanes(ctx)
			require.NoError(t, err)
			client(t, autopaho.Config{Servers: []string{b.URL()}, Store: inner, Relay: relay}) // stands by

			hold := faults.Hold(op, 1)
			q, err = c.Enqueue(ctx, autopaho.Message{Topic: "a"})
			require.NoError(t, err)
			<-hold.Reached()
			renewals := faults.Calls(persisttest.OpLaneRenew)
			// Three renewals are the time of a lease.
			require.Eventually(t, func() bool { return faults.Calls(persisttest.OpLaneRenew) >= renewals+7 }, 30*time.Second, 5*time.Millisecond)
			now, err := inner.Lanes(ctx)
			require.NoError(t, err)
			require.Equal(t, lanes[0].Epoch, now[0].Epoch, "the lane was taken over")
			hold.Release()
			_, err = q.Wait(ctx)
			require.NoError(t, err)
			drained(t, ctx, inner)
			require.Len(t, b.Arrivals(), 2)
		})
	}
}

// The store is away while messages wait and flow: nothing is lost, Enqueue says at
// once that it does not accept, and relay and consumer go on by themselves within
// two seconds of its return.
func TestStoreOutageOfPublisherAndConsumer(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store, faults := persisttest.NewFaulty(memoryStore(t))
	ctx := within(t, 60*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, ClientID: "c"})
	eff := newEffects()
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Group: "g", Handler: eff.handle})
	require.NoError(t, err)
	b.HoldAcks()
	accepted := 0
	for range 20 {
		_, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
		require.NoError(t, err)
		accepted++
	}
	require.NoError(t, b.WaitFirstArrivals(ctx, accepted))
	faults.Add(persisttest.Fault{Times: -1, Mode: persisttest.Failed})
	b.ReleaseAcks()
	require.Eventually(t, func() bool { // relay and consumer have found out
		return breakerOf(t, c, autopaho.BreakerStore).State != autopaho.BreakerClosed
	}, 10*time.Second, time.Millisecond)
	processed := c.Counters().Processed
	var open *autopaho.BreakerError
	for range 1000 {
		_, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
		require.ErrorAs(t, err, &open)
	}
	require.Equal(t, processed, c.Counters().Processed)
	faults.Heal()
	back := time.Now()
	require.Eventually(t, func() bool {
		_, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
		return err == nil
	}, 10*time.Second, time.Millisecond)
	require.Less(t, time.Since(back), 3*time.Second)
	accepted++
	eff.waitFor(t, ctx, accepted)
	eff.requireOnce(t)
	drained(t, ctx, store)
}

// The first message after the broker is back does not wait for long. The bounds
// are wide, for a machine that is busy; internal/session has the exact ones.
func TestFirstMessageAfterOutage(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	ctx := within(t, 2*time.Minute)
	c := client(t, autopaho.Config{Servers: []string{m.URL()}, Store: memoryStore(t)})
	send := func() *autopaho.Enqueued {
		q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
		require.NoError(t, err)
		return q
	}
	_, err := send().Wait(ctx)
	require.NoError(t, err)
	var waits []time.Duration
	for i := range 8 {
		m.Kill()
		q := send()
		select {
		case <-time.After(time.Duration(i) * 300 * time.Millisecond): // the outage
		case <-ctx.Done():
		}
		m.Start()
		back := time.Now()
		_, err := q.Wait(ctx)
		require.NoError(t, err)
		waits = append(waits, time.Since(back).Round(time.Millisecond))
	}
	t.Logf("first message after %v", waits)
	for _, w := range waits {
		require.Less(t, w, 10*time.Second)
	}
}

// Credentials that were changed while the client was connected are used for the
// next connection of each of its sessions.
func TestCredentialsAreRenewed(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{"u": "1"}})
	ctx := within(t, 30*time.Second)
	password := make(chan string, 1)
	password <- "1"
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: memoryStore(t),
		Credentials: func(context.Context) (autopaho.Credentials, error) {
			p := <-password
			password <- p
			return autopaho.Credentials{Username: "u", Password: []byte(p)}, nil
		},
	})
	eff := newEffects()
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Handler: eff.handle})
	require.NoError(t, err)
	_, err = c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	eff.waitFor(t, ctx, 1)
	b.Close()
	b2 := startBroker(t, brokertest.Options{Addr: b.Addr(), Credentials: map[string]string{"u": "2"}})
	require.Eventually(t, func() bool { // refused with the old one, and not for good
		for _, s := range c.Status(ctx).Connections {
			if s.Attempts < 2 {
				return false
			}
		}
		return true
	}, 20*time.Second, time.Millisecond)
	require.NoError(t, c.Err())
	<-password
	password <- "2"
	// The new broker has no session of either side.
	require.NoError(t, b2.Wait(ctx, func() bool { return b2.Subscribers("a") == 1 }))
	_, err = c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	eff.waitFor(t, ctx, 2)
	require.Len(t, b2.Connected(), 2)
}

// mosquitto is started again: after SIGTERM it has the sessions still, and all that
// waited comes without receipts; after kill -9 it has none, which is told, and
// everything is subscribed to and sent again.
func TestBrokerIsStartedAgain(t *testing.T) {
	t.Parallel()
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %t", killed), func(t *testing.T) {
			t.Parallel()
			m := testenv.Mosquitto(t, testenv.MosquittoOptions{Persistence: true})
			ctx := within(t, 60*time.Second)
			var lost atomic.Int32
			eff := newEffects()
			sub := client(t, autopaho.Config{
				Servers: []string{m.URL()}, ClientID: "sub", Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true},
				OnEvent: func(e autopaho.Event) {
					if e.Kind == autopaho.EventSessionLost && e.ClientID == "sub" {
						lost.Add(1)
					}
				},
			})
			// mosquitto 2.0.11 keeps a session over a restart, but not its shared
			// subscriptions.
			_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
				Filters: []string{"a"}, Group: "g", Unshared: true, Receipts: true, Handler: eff.handle,
			})
			require.NoError(t, err)
			pub := client(t, autopaho.Config{
				Servers: []string{m.URL()}, Store: memoryStore(t),
				Policies: qos.Policies{Default: qos.Policy{ReceiptTimeout: 500 * time.Millisecond}},
			})
			const n = 50
			for round := range 3 {
				msgs := make([]autopaho.Message, n)
				for i := range msgs {
					msgs[i] = autopaho.Message{Topic: "a", Receipt: killed}
				}
				_, err := pub.Enqueue(ctx, msgs...)
				require.NoError(t, err)
				if killed {
					m.Kill()
				} else {
					m.Stop()
				}
				m.Start()
				eff.waitFor(t, ctx, n*(round+1))
			}
			eff.requireOnce(t)
			want := int32(0)
			if killed {
				want = 3
			}
			require.Eventually(t, func() bool { return lost.Load() == want }, 20*time.Second, 5*time.Millisecond)
			// Before the broker goes, which the last receipts wait for.
			require.NoError(t, pub.Close(ctx))
			require.NoError(t, sub.Close(ctx))
		})
	}
}
