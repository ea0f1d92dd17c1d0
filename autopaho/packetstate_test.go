package autopaho_test

import (
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// takenOnce checks that the broker has taken each of n messages exactly once.
func takenOnce(t *testing.T, b *brokertest.Broker, n int) {
	t.Helper()
	copies := make(map[string]int)
	for _, a := range b.Arrivals() {
		if !a.Repeat && a.Code < 0x80 {
			copies[a.MessageID]++
		}
	}
	require.Len(t, copies, n)
	for id, c := range copies {
		require.Equal(t, 1, c, "copies of %s", id)
	}
	require.Empty(t, b.Violations())
}

// A publisher that drains a store is killed with -9 again and again, at any moment:
// a consumer of a real broker gets every message exactly once.
func TestExactlyOnceAcrossManyKills(t *testing.T) {
	t.Parallel()
	const n, kills = 2000, 5
	eachDurableURL(t, func(t *testing.T, url string) {
		t.Helper()
		ctx := within(t, 2*time.Minute)
		m := testenv.Mosquitto(t, testenv.MosquittoOptions{Extra: []string{"max_queued_messages 0", "max_inflight_messages 500"}})
		var mu sync.Mutex
		got := make(map[string]int)
		count := func() int { mu.Lock(); defer mu.Unlock(); return len(got) }
		consumer := client(t, autopaho.Config{Servers: []string{m.URL()}})
		_, err := consumer.Subscribe(ctx, autopaho.SubscribeConfig{
			Filters: []string{"exactly"}, QoS: 2,
			Handler: func(_ context.Context, r *autopaho.Received) error {
				mu.Lock()
				defer mu.Unlock()
				got[r.ID]++
				return nil
			},
		})
		require.NoError(t, err)
		store := opened(t, url)
		for i := range kills {
			enqueueExactly(t, store, i*n/kills, n/kills)
			before := count()
			p := startPublisher(t, m.URL(), url, neverDies)
			require.Eventually(t, func() bool { return count() > before+i*37 }, 30*time.Second, time.Millisecond)
			p.Kill()
			require.NotZero(t, p.Wait(10*time.Second))
		}
		relayOn(t, m.URL(), store)
		require.Eventually(t, func() bool { return count() == n }, time.Minute, 10*time.Millisecond)
		drained(t, ctx, store)
		mu.Lock()
		defer mu.Unlock()
		for id, copies := range got {
			require.Equal(t, 1, copies, "copies of %s", id)
		}
	})
}

// The holder of a lane stands still past its lease with messages in flight. The next
// holder goes on with them, and the first one changes nothing when it wakes up.
func TestExactlyOnceAcrossTakeover(t *testing.T) {
	t.Parallel()
	const n = 300
	eachDurableURL(t, func(t *testing.T, url string) {
		t.Helper()
		ctx := within(t, time.Minute)
		b := startBroker(t, brokertest.Options{})
		store := opened(t, url)
		enqueueExactly(t, store, 0, n)
		b.HoldAcks()
		p := startPublisher(t, b.URL(), url, neverDies)
		require.NoError(t, b.WaitFirstArrivals(ctx, n))
		p.Pause()
		relayOn(t, b.URL(), store)
		require.NoError(t, b.Wait(ctx, func() bool { return b.Stats().Takeovers == 1 }))
		p.Continue()
		_, err := p.Stderr.WaitFor(ctx, func(line string) bool { return strings.Contains(line, "lane given up") })
		require.NoError(t, err)
		b.ReleaseAcks()
		drained(t, ctx, store)
		enqueueExactly(t, store, n, 10)
		drained(t, ctx, store)
		takenOnce(t, b, n+10)
		p.Terminate()
		require.Zero(t, p.Wait(10*time.Second), p.Stderr.String())
	})
}

// Whichever save fails, and whether or not it was applied: every message is taken
// exactly once, over connections that break.
func TestExactlyOnceWithFailingSaves(t *testing.T) {
	t.Parallel()
	for _, mode := range []persisttest.Mode{persisttest.Failed, persisttest.Applied, persisttest.Lost} {
		for n := 1; n <= 8; n++ {
			t.Run(fmt.Sprintf("%s/%d", mode, n), func(t *testing.T) {
				t.Parallel()
				ctx := within(t, time.Minute)
				b := startBroker(t, brokertest.Options{CutAfterPubrec: n, CutAfterPubrel: n})
				store, faults := persisttest.NewFaulty(memoryStore(t), persisttest.Fault{Op: persisttest.OpSaveSession, N: n, Times: 2, Mode: mode})
				c := relayOn(t, b.URL(), store)
				for i := range 10 {
					q, err := c.Enqueue(ctx, autopaho.Message{ID: strconv.Itoa(i), Topic: "exactly", QoS: 2})
					require.NoError(t, err)
					if i%2 == 1 {
						_, err = q.Wait(ctx)
						require.NoError(t, err)
					}
				}
				drained(t, ctx, store)
				require.Equal(t, 2, faults.Failed())
				takenOnce(t, b, 10)
			})
		}
	}
}

// While the session cannot be saved nothing leaves, the connection stays, and Close
// does not wait for a store that does not come back.
func TestStoreAwayAtTheBarrier(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	b := startBroker(t, brokertest.Options{})
	inner := memoryStore(t)
	store, faults := persisttest.NewFaulty(inner, persisttest.Fault{Op: persisttest.OpSaveSession, Times: -1})
	c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}, Store: store, AckTimeout: 400 * time.Millisecond})
	require.NoError(t, err)
	_, err = c.Enqueue(ctx, autopaho.Message{ID: "one", Topic: "exactly", QoS: 2}, autopaho.Message{ID: "two", Topic: "exactly", QoS: 1})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return faults.Failed() > 8 }, 20*time.Second, 10*time.Millisecond)
	require.Empty(t, b.Arrivals())
	require.Equal(t, 1, b.Connections(), "the broker cannot answer what it was not sent")
	began := time.Now()
	require.NoError(t, c.Close(within(t, 20*time.Second)))
	require.Less(t, time.Since(began), 10*time.Second)
	require.Empty(t, b.Arrivals())

	relayOn(t, b.URL(), inner)
	drained(t, ctx, inner)
	takenOnce(t, b, 2)
}

// A lane that was left in good order has nothing in flight: the next process begins
// with a new session.
func TestCleanStartAfterClose(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	var mu sync.Mutex
	var clean []bool
	b := startBroker(t, brokertest.Options{Intercept: func(_ string, _ brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if p.Type == brokertest.CONNECT {
			mu.Lock()
			defer mu.Unlock()
			clean = append(clean, p.Connect.CleanStart)
		}
		return brokertest.Pass
	}})
	store := memory.New(memory.Options{})
	for i := range 2 {
		c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}, Store: store})
		require.NoError(t, err)
		q, err := c.Enqueue(ctx, autopaho.Message{ID: strconv.Itoa(i), Topic: "exactly", QoS: 2})
		require.NoError(t, err)
		_, err = q.Wait(ctx)
		require.NoError(t, err)
		require.NoError(t, c.Close(ctx))
		states, err := store.LoadSession(ctx, laneClient(store), lastEpoch(t, store))
		require.NoError(t, err)
		require.Empty(t, states)
	}
	takenOnce(t, b, 2)
	require.NoError(t, store.Close(ctx))
}

func laneClient(store persist.Store) string { return "oncemq-" + store.Identity()[:12] + "-0" }

func lastEpoch(t *testing.T, store persist.Store) int64 {
	t.Helper()
	infos, err := store.Lanes(t.Context())
	require.NoError(t, err)
	return infos[0].Epoch
}

// A message in flight is taken away by an operator. Its packet identifier is never
// used again in the session, in no process, since the broker takes the next message
// under it for a repetition of the one that it has.
func TestPurgedInFlight(t *testing.T) {
	t.Parallel()
	url := sqliteURL(t)
	store := opened(t, url)
	enqueueExactly(t, store, 0, exactlyMessages)
	l := brokertest.Listen(t)
	p := startPublisher(t, l.URL(), url, neverDies)
	ids := firstLife(t, l, p, "after PUBLISH")
	require.NotZero(t, p.Wait(10*time.Second))
	n, err := store.PurgeOutbox(t.Context(), persist.ListRequest{Limit: 1}) // the oldest
	require.NoError(t, err)
	require.Equal(t, 1, n)

	second := startPublisher(t, l.URL(), url, neverDies)
	c := l.Accept(t.Context())
	require.False(t, c.ExpectConnect().Connect.CleanStart)
	c.SendConnack(true, 0)
	for i, id := range ids[1:] {
		c.ExpectPublish(brokertest.HasID(id), brokertest.HasDUP(true), brokertest.HasPayload(strconv.Itoa(i+1)))
	}
	second.Kill()
	require.NotZero(t, second.Wait(10*time.Second))
	states, err := store.LoadSession(t.Context(), laneClient(store), lastEpoch(t, store))
	require.NoError(t, err)
	require.True(t, slices.ContainsFunc(states, func(s persist.PacketState) bool { return s.PacketID == ids[0] && s.Step == persist.StepPublished }))

	relayOn(t, l.URL(), store)
	c = l.Accept(t.Context())
	c.Resume()
	for _, id := range ids[1:] {
		c.ExpectPublish(brokertest.HasID(id), brokertest.HasDUP(true))
	}
	for _, id := range ids[1:] {
		c.SendPubrec(id, 0)
		c.ExpectPubrel(brokertest.HasID(id))
		c.SendPubcomp(id, 0)
	}
	drained(t, within(t, 10*time.Second), store)
}

// What an earlier process has sent is on its way: a newer message of its key does not
// take its place, be it that the broker has it for certain, or that it may have it.
func TestSentBeforeIsNotSuperseded(t *testing.T) {
	t.Parallel()
	url := sqliteURL(t)
	store := opened(t, url)
	put := func(ids ...string) {
		for _, id := range ids {
			topic, _, _ := strings.Cut(id, "-")
			_, err := store.Enqueue(t.Context(), []persist.Message{{ID: id, Topic: topic, QoS: 2, Supersede: true, Payload: []byte(id)}})
			require.NoError(t, err)
		}
	}
	put("door-old", "lamp-old")
	l := brokertest.Listen(t)
	p := startPublisher(t, l.URL(), url, neverDies)
	c := l.Accept(t.Context())
	c.Handshake()
	door := c.ExpectPublish(brokertest.HasPayload("door-old")).PacketID
	lamp := c.ExpectPublish(brokertest.HasPayload("lamp-old")).PacketID
	c.SendPubrec(door, 0)
	c.ExpectPubrel(brokertest.HasID(door))
	p.Kill()
	require.NotZero(t, p.Wait(10*time.Second))
	put("door-new", "lamp-new")

	relayOn(t, l.URL(), store)
	c = l.Accept(t.Context())
	c.Resume()
	c.ExpectPubrel(brokertest.HasID(door))
	c.ExpectPublish(brokertest.HasPayload("lamp-old"), brokertest.HasDUP(true), brokertest.HasID(lamp))
	ids := []uint16{lamp}
	for _, payload := range []string{"door-new", "lamp-new"} {
		ids = append(ids, c.ExpectPublish(brokertest.HasPayload(payload), brokertest.HasDUP(false)).PacketID)
	}
	c.SendPubcomp(door, 0)
	for _, id := range ids {
		c.SendPubrec(id, 0)
		c.ExpectPubrel(brokertest.HasID(id))
		c.SendPubcomp(id, 0)
	}
	drained(t, within(t, 10*time.Second), store)
	st, err := store.Stats(t.Context())
	require.NoError(t, err)
	require.Zero(t, st.Superseded)
}

// Packet state that cannot be read costs the session, not the messages.
func TestUnreadablePacketState(t *testing.T) {
	t.Parallel()
	url := sqliteURL(t)
	store := opened(t, url)
	enqueueExactly(t, store, 0, exactlyMessages)
	l := brokertest.Listen(t)
	p := startPublisher(t, l.URL(), url, neverDies)
	firstLife(t, l, p, "after PUBLISH")
	require.NotZero(t, p.Wait(10*time.Second))
	db, err := sql.Open("sqlite", "file:"+strings.TrimPrefix(url, "sqlite://")+"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), "UPDATE oncemq_sessions SET states = x'01'")
	require.NoError(t, err)
	require.NoError(t, db.Close())

	relayOn(t, l.URL(), store)
	c := l.Accept(t.Context())
	require.True(t, c.ExpectConnect().Connect.CleanStart)
	c.SendConnack(false, 0)
	var ids []uint16
	for i := range exactlyMessages {
		ids = append(ids, c.ExpectPublish(brokertest.HasPayload(strconv.Itoa(i)), brokertest.HasDUP(false)).PacketID)
	}
	for _, id := range ids {
		c.SendPubrec(id, 0)
		c.ExpectPubrel(brokertest.HasID(id))
		c.SendPubcomp(id, 0)
	}
	drained(t, within(t, 10*time.Second), store)
	_, err = store.LoadSession(t.Context(), laneClient(store), math.MaxInt64)
	require.NoError(t, err)
}

// Messages of QoS 1 that were in flight before one of QoS 2 are sent again before
// it, in their order, and a message that wants a receipt keeps its subscription.
func TestResumeKeepsTheOrderOfLevels(t *testing.T) {
	t.Parallel()
	url := sqliteURL(t)
	store := opened(t, url)
	var msgs []persist.Message
	for i, level := range []byte{1, 2, 1, 2, 1} {
		msgs = append(msgs, persist.Message{ID: strconv.Itoa(i), Topic: "exactly", QoS: level, Payload: []byte(strconv.Itoa(i)), Receipt: i == 1})
	}
	_, err := store.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
	l := brokertest.Listen(t)
	p := startPublisher(t, l.URL(), url, neverDies)
	c := l.Accept(t.Context())
	c.Handshake()
	sub := c.ExpectSubscribe()
	c.SendSuback(sub.PacketID, 1)
	ids := make(map[string]uint16)
	for i := range msgs {
		ids[strconv.Itoa(i)] = c.ExpectPublish(brokertest.HasPayload(strconv.Itoa(i))).PacketID
	}
	c.SendPubrec(ids["1"], 0)
	c.ExpectPubrel(brokertest.HasID(ids["1"]))
	p.Kill()
	require.NotZero(t, p.Wait(10*time.Second))

	relayOn(t, l.URL(), store)
	c = l.Accept(t.Context())
	c.Resume()
	sub = c.ExpectSubscribe()
	c.SendSuback(sub.PacketID, 1)
	first := c.ExpectPublish(brokertest.HasPayload("0"), brokertest.HasDUP(false)).PacketID
	c.ExpectPubrel(brokertest.HasID(ids["1"]))
	third := c.ExpectPublish(brokertest.HasPayload("2"), brokertest.HasDUP(false)).PacketID
	c.ExpectPublish(brokertest.HasPayload("3"), brokertest.HasDUP(true), brokertest.HasID(ids["3"]))
	last := c.ExpectPublish(brokertest.HasPayload("4"), brokertest.HasDUP(false)).PacketID
	for _, id := range []uint16{first, third, last} {
		require.NotContains(t, []uint16{ids["1"], ids["3"]}, id)
		c.SendPuback(id, 0)
	}
	c.SendPubcomp(ids["1"], 0)
	c.SendPubrec(ids["3"], 0)
	c.ExpectPubrel(brokertest.HasID(ids["3"]))
	c.SendPubcomp(ids["3"], 0)
	c.SendPublish(brokertest.Packet{
		Topic: sub.Filters[0].Topic, QoS: 1, PacketID: 1,
		Properties: brokertest.Properties{brokertest.Str(brokertest.PropCorrelationData, "1"), brokertest.UserProperty("receipt", "processed")},
	})
	c.ExpectPuback()
	drained(t, within(t, 10*time.Second), store)
}
