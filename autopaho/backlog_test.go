package autopaho_test

import (
	"context"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/sqlite"
	"github.com/oncemq/oncemq/qos"
)

// waitOne waits for the result of a handle of one message.
func waitOne(t *testing.T, ctx context.Context, q *autopaho.Enqueued) autopaho.Result {
	t.Helper()
	results, err := q.Wait(ctx)
	require.NoError(t, err)
	require.Len(t, results, 1)
	return results[0]
}

// requireEnded demands that a message ended in that state, and says so as an error.
func requireEnded(t *testing.T, r autopaho.Result, state persist.State, reason string) {
	t.Helper()
	require.Equal(t, state, r.State)
	require.Contains(t, r.Reason, reason)
	var failed *autopaho.DeliveryError
	require.ErrorAs(t, r.Err(), &failed)
	require.ErrorIs(t, failed, autopaho.ErrNotDelivered)
	require.Equal(t, state, failed.State)
	require.ErrorContains(t, failed, state.String())
}

// What gave way in a full outbox ends visibly for who waits, with a relay of his own
// or without.
func TestWaitEndsWhenDropped(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]bool{"no relay": true, "a relay without a broker": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 20*time.Second)
			s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "o.db"), sqlite.Options{MaxMessages: 1})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
			c := client(t, autopaho.Config{
				Servers: []string{"mqtt://127.0.0.1:1"}, Store: s, Relay: autopaho.RelayConfig{Off: off},
				Policies: qos.Policies{Default: qos.Policy{WhenFull: qos.DropOldest}},
			})
			first, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
			require.NoError(t, err)
			second, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
			require.NoError(t, err)
			requireEnded(t, waitOne(t, ctx, first), persist.StateDropped, "full outbox")
			require.Equal(t, persist.StatePending, second.Results()[0].State)
		})
	}
}

// While the broker is away only the newest state of a topic is kept. Each message is
// delivered or superseded, the last one delivered, and those before it in order.
func TestSupersededWhileAway(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, open func(t *testing.T) persist.Store) {
		t.Helper()
		b := startBroker(t, brokertest.Options{})
		b.Stop()
		ctx := within(t, 60*time.Second)
		store := open(t)
		c := client(t, autopaho.Config{
			Servers: []string{b.URL()}, Store: store,
			Policies: qos.Policies{Rules: []qos.Rule{{Filter: "door/+", Policy: qos.Policy{Supersede: true}}}},
		})
		const n = 100
		var handles []*autopaho.Enqueued
		for i := range n {
			q, err := c.Enqueue(ctx, autopaho.Message{Topic: "door/" + strconv.Itoa(i%2), Payload: []byte(strconv.Itoa(i))})
			require.NoError(t, err)
			handles = append(handles, q)
		}
		events, err := c.Enqueue(ctx, autopaho.Message{Topic: "log", Payload: []byte("a")}, autopaho.Message{Topic: "log", Payload: []byte("b")})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			st, err := store.Stats(ctx)
			return err == nil && st.Pending == 4 && st.Superseded == n-2
		}, 20*time.Second, time.Millisecond, "two states and two events are left")
		require.NoError(t, b.Start())
		_, err = events.Wait(ctx)
		require.NoError(t, err)
		for i, q := range handles {
			if r := waitOne(t, ctx, q); i < n-2 {
				requireEnded(t, r, persist.StateSuperseded, "newer message")
			} else {
				require.NoError(t, r.Err())
			}
		}
		for i := range 2 {
			arrivals := b.FirstArrivals("door/" + strconv.Itoa(i))
			require.Len(t, arrivals, 1)
			require.Equal(t, strconv.Itoa(n-2+i), string(arrivals[0].Packet.Payload))
		}
		require.Len(t, b.FirstArrivals("log"), 2)
	})
}

// A message that is in flight is left alone, and each one that comes while it is
// takes the place of the one before.
func TestInFlightIsNotSuperseded(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	b.HoldAcks()
	ctx := within(t, 20*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t)})
	send := func(payload string) *autopaho.Enqueued {
		q, err := c.Enqueue(ctx, autopaho.Message{Topic: "t", Payload: []byte(payload), Supersede: true})
		require.NoError(t, err)
		return q
	}
	first := send("1")
	require.NoError(t, b.WaitFirstArrivals(ctx, 1))
	last := send("2")
	require.NoError(t, b.WaitFirstArrivals(ctx, 2))
	b.ReleaseAcks()
	require.NoError(t, waitOneErr(t, ctx, first))
	require.NoError(t, waitOneErr(t, ctx, last))
	require.Zero(t, c.Status(ctx).Outbox.Superseded)
}

func waitOneErr(t *testing.T, ctx context.Context, q *autopaho.Enqueued) error {
	t.Helper()
	r := waitOne(t, ctx, q)
	return r.Err()
}

// A relay that has read states and cannot send them keeps the newest of each topic,
// whoever read them first.
func TestNextRelaySupersedes(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	b.Stop()
	ctx := within(t, 30*time.Second)
	store := memoryStore(t)
	offline := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
	var handles []*autopaho.Enqueued
	for i := range 5 {
		q, err := offline.Enqueue(ctx, autopaho.Message{Topic: "t", Payload: []byte(strconv.Itoa(i)), Supersede: true})
		require.NoError(t, err)
		handles = append(handles, q)
		// As a relay does that dies before it sends.
		lane, err := store.AcquireLane(ctx, 0, "dies", time.Hour)
		require.NoError(t, err)
		_, err = lane.Next(ctx, 100, 1<<20)
		require.NoError(t, err)
		require.NoError(t, lane.Release(ctx))
	}
	st, err := store.Stats(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 5, st.Pending, "what was handed out stays")
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store})
	require.Eventually(t, func() bool {
		st, err := store.Stats(ctx)
		return err == nil && st.Pending == 1 && st.Superseded == 4 && c.Counters().Superseded == 4
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, b.Start())
	for i, q := range handles {
		if r := waitOne(t, ctx, q); i < 4 {
			requireEnded(t, r, persist.StateSuperseded, "newer message")
		} else {
			require.NoError(t, r.Err())
		}
	}
	require.Len(t, b.FirstArrivals("t"), 1)
}

// The maximum age of an outbox ends messages as expired while the broker is away, and
// one whose own expiry passes too. Nothing of the age is told to the broker.
func TestAgeWhileAway(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	b.Stop()
	ctx := within(t, 30*time.Second)
	store := memory.New(memory.Options{MaxAge: 500 * time.Millisecond})
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store})
	old, err := c.Enqueue(ctx, autopaho.Message{Topic: "old"})
	require.NoError(t, err)
	expired, err := c.Enqueue(ctx, autopaho.Message{Topic: "expired", Expiry: 10 * time.Millisecond})
	require.NoError(t, err)
	requireEnded(t, waitOne(t, ctx, expired), persist.StateExpired, "its expiry passed")
	requireEnded(t, waitOne(t, ctx, old), persist.StateExpired, "maximum age")
	st, err := store.Stats(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 2, st.Expired)
	require.Zero(t, st.Pending)
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Contains(t, letters[1].Reason, "maximum age")

	require.NoError(t, b.Start())
	for { // one that is sent in time
		q, err := c.Enqueue(ctx, autopaho.Message{Topic: "new", Retain: true})
		require.NoError(t, err)
		if waitOneErr(t, ctx, q) == nil {
			break
		}
	}
	require.Empty(t, b.FirstArrivals("old"))
	require.Empty(t, b.FirstArrivals("expired"))
	_, told := b.FirstArrivals("new")[0].Packet.Properties.Num(brokertest.PropMessageExpiryInterval)
	require.False(t, told, "the broker would forget the retained message by it")
}

// A backlog that got too old while no relay was there is not sent by the next one.
func TestAgeOfABacklog(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 30*time.Second)
	store := memory.New(memory.Options{MaxAge: time.Millisecond})
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	offline := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
	const n = 2000
	msgs := make([]autopaho.Message, n)
	for i := range msgs {
		msgs[i].Topic = "t"
	}
	q, err := offline.Enqueue(ctx, msgs...)
	require.NoError(t, err)
	<-time.After(5 * time.Millisecond) // the store's clock is the wall's
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store})
	results, err := q.Wait(ctx)
	require.NoError(t, err)
	for _, r := range results {
		requireEnded(t, r, persist.StateExpired, "maximum age")
	}
	require.Empty(t, b.FirstArrivals("t"))
	require.EqualValues(t, n, c.Counters().Expired)
}

// A delayed message holds up nobody, is not sent early, survives its process, and
// keeps its place among the delayed ones of its key.
func TestDelay(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 30*time.Second)
	path := filepath.Join(t.TempDir(), "outbox.db")
	begun := time.Now()
	const delay = 2 * time.Second
	first := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: sqliteStore(t, path), Relay: autopaho.RelayConfig{Off: true}})
	_, err := first.Enqueue(ctx,
		autopaho.Message{Topic: "t", Payload: []byte("late 1"), Delay: delay},
		autopaho.Message{Topic: "t", Payload: []byte("late 2"), Delay: autopaho.DelayUntil(begun.Add(delay))},
		autopaho.Message{Topic: "t", Payload: []byte("now"), Delay: autopaho.DelayUntil(begun)})
	require.NoError(t, err)
	require.NoError(t, first.Close(ctx))

	second := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: sqliteStore(t, path)})
	_, err = second.Enqueue(ctx, autopaho.Message{Topic: "t", Payload: []byte("now too")})
	require.NoError(t, err)
	require.NoError(t, b.WaitFirstArrivals(ctx, 2))
	inTime := time.Since(begun) < delay // else the machine was too slow to tell
	require.NoError(t, b.WaitFirstArrivals(ctx, 4))
	require.GreaterOrEqual(t, time.Since(begun), delay, "early")
	var got []string
	for _, a := range b.FirstArrivals("t") {
		got = append(got, string(a.Packet.Payload))
	}
	require.ElementsMatch(t, []string{"late 1", "late 2", "now", "now too"}, got)
	if inTime {
		require.Equal(t, []string{"now", "now too"}, got[:2])
	}
}

// What contradicts itself is refused before anything is stored, in one line that
// names the field.
func TestContradictions(t *testing.T) {
	t.Parallel()
	c := client(t, autopaho.Config{
		Servers: []string{"mqtt://127.0.0.1:1"}, Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true},
		Policies: qos.Policies{Rules: []qos.Rule{
			{Filter: "short", Policy: qos.Policy{Expiry: time.Minute}},
			{Filter: "state", Policy: qos.Policy{Supersede: true}},
			{Filter: "full", Policy: qos.Policy{WhenFull: qos.DropOldest}},
		}},
	})
	for name, bad := range map[string]struct {
		m    autopaho.Message
		says string
	}{
		"delay as long as the expiry": {autopaho.Message{Topic: "a", Expiry: time.Minute, Delay: time.Minute}, "delay: 1m0s is not less than the expiry, 1m0s"},
		"and the policy's expiry":     {autopaho.Message{Topic: "short", Delay: time.Hour}, "delay: 1h0m0s is not less than the expiry, 1m0s"},
		"superseded receipt":          {autopaho.Message{Topic: "a", Supersede: true, Receipt: true}, "supersede: cannot be asked for together with a receipt"},
		"superseded or dropped":       {autopaho.Message{Topic: "a", Supersede: true, Droppable: true}, "supersede: cannot be asked for by a message that may be dropped"},
		"superseded by another topic": {autopaho.Message{Topic: "a", Supersede: true, OrderingKey: "k"}, "supersede: keeps the newest message of a topic"},
		"the policy says so":          {autopaho.Message{Topic: "state", OrderingKey: "k"}, "supersede: keeps the newest message of a topic"},
	} {
		_, err := c.Enqueue(t.Context(), bad.m)
		require.ErrorIs(t, err, autopaho.ErrInvalidMessage, name)
		require.ErrorContains(t, err, bad.says, name)
		require.NotContains(t, err.Error(), "\n", name)
	}
	for _, good := range []autopaho.Message{
		{Topic: "a", Expiry: time.Minute, Delay: time.Minute - 1},
		{Topic: "state", Receipt: true}, // the publisher's word is stronger
		{Topic: "state", OrderingKey: "state"},
		{Topic: "full", Supersede: true},
	} {
		_, err := c.Enqueue(t.Context(), good)
		require.NoError(t, err)
	}
}
