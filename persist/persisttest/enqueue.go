package persisttest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// enqueueCases are about what is stored, and in which order.
func enqueueCases() []testCase {
	return []testCase{
		{tag: "OUTBOX-1", name: "every field comes back", run: checkFields},
		{tag: "OUTBOX-1", name: "messages survive a crash", options: Options{Lanes: 4}, run: checkCrash},
		{tag: "OUTBOX-2", name: "positions follow the order of the messages", options: Options{Lanes: 3}, run: checkPositions},
		{tag: "OUTBOX-2", name: "positions are never given out again", run: checkPositionsNotReused},
		{tag: "OUTBOX-3", name: "all or none", options: Options{Lanes: 3}, run: checkAllOrNone},
		{tag: "Enqueue", name: "nothing", run: checkNothing},
		{tag: "Enqueue", name: "lanes follow the ordering key", options: Options{Lanes: 5}, run: checkLaneOfKey},
		{tag: "Enqueue", name: "expiry left", run: checkExpiryLeft},
		{tag: "Enqueue", name: "a batch of thousands", options: Options{Lanes: 2}, run: checkLargeBatch},
		{tag: "Enqueue", name: "the time is the store's", run: checkEnqueuedAt},
	}
}

// remarkable are messages that sit at a boundary of some field.
func remarkable() []persist.Message {
	long := strings.Repeat("0123456789abcdef", 65_535/16+1)[:65_535]
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	return []persist.Message{
		{ID: "bare", Topic: "t"},
		{ID: "empty payload", Topic: "t", Payload: []byte{}, QoS: 2, Retain: true},
		{ID: "NUL in payload", Topic: "t", Payload: []byte("\x00a\x00"), QoS: 1},
		{ID: "binary payload", Topic: "t", Payload: binary, QoS: 1},
		{ID: "not UTF-8", Topic: "t", Payload: []byte("\xff\xfe\xc3\x28"), QoS: 1},
		{ID: "large payload", Topic: "t", Payload: slices.Repeat(binary, 4096), QoS: 1},
		{ID: strings.Repeat("i", persist.MaxMessageID), Topic: "longest ID", QoS: 1},
		{ID: "longest topic", Topic: long, QoS: 1},
		{ID: "longest strings", Topic: "t", OrderingKey: long, Properties: persist.Properties{
			ContentType: long, ResponseTopic: long, CorrelationData: []byte(long),
			User: []persist.UserProperty{{Name: long, Value: long}},
		}},
		{ID: "user properties", Topic: "t", Properties: persist.Properties{User: []persist.UserProperty{
			{Name: "b", Value: "1"}, {Name: "a", Value: "2"}, {Name: "b", Value: "1"}, {Name: "", Value: ""}, {Name: "b", Value: "0"},
		}}},
		{ID: "binary correlation data", Topic: "t", Properties: persist.Properties{UTF8: true, CorrelationData: binary}},
		{ID: "größe/日本/🙂", Topic: "größe/日本/🙂", OrderingKey: "ключ", Payload: []byte("päyload"), Properties: persist.Properties{
			ContentType: "text/plain; charset=utf-8", ResponseTopic: "réponse",
			User: []persist.UserProperty{{Name: "ñame", Value: "välue"}},
		}},
		{ID: "'; DROP TABLE outbox; --", Topic: `"t"`, OrderingKey: "{a}:{b}", Payload: []byte(`\'"`)},
		{
			ID: "all at once", Topic: "a/b", Payload: []byte("p"), QoS: 2, Retain: true, OrderingKey: "k",
			Properties: persist.Properties{
				UTF8: true, ContentType: "c", ResponseTopic: "r", CorrelationData: []byte{0},
				User: []persist.UserProperty{{Name: "n", Value: "v"}},
			},
			Expiry: 90 * time.Minute, Receipt: true, Strict: true, MaxAttempts: 1_000_000, Idempotent: true, Droppable: true,
		},
		{ID: "receipt only", Topic: "t", Receipt: true},
		{ID: "strict only", Topic: "t", Strict: true},
		{ID: "idempotent only", Topic: "t", Idempotent: true},
		{ID: "droppable only", Topic: "t", Droppable: true},
		{ID: "supersede only", Topic: "t", OrderingKey: "of its own", Supersede: true},
		{ID: "retain only", Topic: "t", Retain: true},
		{ID: "UTF8 only", Topic: "t", Properties: persist.Properties{UTF8: true}},
		{ID: "longest expiry", Topic: "t", Expiry: (1<<32 - 1) * time.Second},
		{ID: "shortest expiry", Topic: "t", Expiry: time.Millisecond},
	}
}

func checkFields(e *env) {
	want, given := remarkable(), remarkable()
	places := e.enqueue(given...)
	for i := range given { // they are the caller's again
		m := &given[i]
		clear(m.Payload)
		clear(m.Properties.CorrelationData)
		clear(m.Properties.User)
		*m = persist.Message{}
	}
	if e.h.Durable {
		e.crash()
	}
	for i, m := range want {
		found, err := e.store.GetOutbox(e.ctx, m.ID)
		require.NoError(e, err, m.ID)
		require.Len(e, found, 1)
		require.Equal(e, places[i].Ref, found[0].Ref)
		e.sameMessage(m, found[0].Message)
	}
	listed := e.stored(0)
	handed := e.next(e.acquire(0))
	require.Len(e, listed, len(want))
	require.Len(e, handed, len(want))
	for i, m := range want {
		e.sameMessage(m, listed[i].Message)
		e.sameMessage(m, handed[i].Message)
		require.Equal(e, places[i].Ref, handed[i].Ref)
		require.Equal(e, persist.StatePending, handed[i].State)
		require.Zero(e, handed[i].Attempts)
		require.Empty(e, handed[i].LastError)
		if m.Expiry == 0 || m.Expiry > time.Minute {
			e.around(m.Expiry, handed[i].Message.Expiry, m.ID)
		}
	}
}

func checkCrash(e *env) {
	var want []string
	for i := range 20 {
		m := with(message(fmt.Sprint("m", i)), func(m *persist.Message) { m.OrderingKey = fmt.Sprint(i) })
		e.enqueue(m)
		want = append(want, m.ID)
	}
	e.crash()
	var got []string
	for lane := range 4 {
		got = append(got, ids(e.next(e.acquire(lane)))...)
	}
	if !e.h.Durable {
		require.Empty(e, got, "a store that survives nothing came back with messages")
		return
	}
	require.ElementsMatch(e, want, got)
}

func checkPositions(e *env) {
	last := make(map[int]int64)
	for round := range 10 {
		msgs := messages(fmt.Sprint(round, "."), 1+round*7%13)
		for i := range msgs {
			msgs[i].OrderingKey = fmt.Sprint(i % 5)
		}
		for _, place := range e.enqueue(msgs...) {
			require.False(e, place.Duplicate)
			require.Greater(e, place.Position, last[place.Lane])
			last[place.Lane] = place.Position
		}
	}
}

func checkPositionsNotReused(e *env) {
	last := e.enqueue(messages("a", 3)...)[2].Position
	lane := e.acquire(0)
	e.deliver(lane, e.next(lane)...)
	if e.h.Durable {
		e.crash() // an empty outbox must not begin again at one
	}
	require.Greater(e, e.enqueue(message("b"))[0].Position, last)
}

func checkAllOrNone(e *env) {
	spread := func(prefix string) []persist.Message {
		msgs := messages(prefix, 9)
		for i := range msgs {
			msgs[i].OrderingKey = fmt.Sprint(i)
		}
		return msgs
	}
	invalid := spread("invalid")
	invalid[8].QoS = 3
	_, err := e.store.Enqueue(e.ctx, invalid)
	require.ErrorIs(e, err, persist.ErrInvalid)
	require.NotErrorIs(e, err, persist.ErrUnknownOutcome)

	cancelled, cancel := context.WithCancel(e.ctx)
	cancel()
	_, err = e.store.Enqueue(cancelled, spread("cancelled"))
	require.ErrorIs(e, err, context.Canceled)
	require.NotErrorIs(e, err, persist.ErrUnknownOutcome)

	stats := e.stats()
	require.Zero(e, stats.Pending)
	for lane := range stats.Lanes {
		require.Empty(e, e.next(e.acquire(lane)))
	}
}

func checkNothing(e *env) {
	places, err := e.store.Enqueue(e.ctx, nil)
	require.NoError(e, err)
	require.Empty(e, places)
	lane := e.acquire(0)
	entries, err := lane.Next(e.ctx, 1, 1)
	require.NoError(e, err)
	require.Empty(e, entries)
	require.NoError(e, lane.Settle(e.ctx, nil))
	found, err := lane.Acknowledge(e.ctx, nil)
	require.NoError(e, err)
	require.Empty(e, found)
	require.NoError(e, e.store.AddDeadLetters(e.ctx, nil))
	require.NoError(e, e.store.Release(e.ctx, "g", nil))
	require.Empty(e, e.claims("g", lease))
	require.Empty(e, e.complete(lease))
	held, err := e.store.RenewClaims(e.ctx, "g", nil, lease)
	require.NoError(e, err)
	require.Empty(e, held)
	forgotten, err := e.store.Forget(e.ctx, "g", nil)
	require.NoError(e, err)
	require.Zero(e, forgotten)
	fates, err := e.store.Lookup(e.ctx, nil)
	require.NoError(e, err)
	require.Empty(e, fates)
}

func checkLaneOfKey(e *env) {
	infos, err := e.store.Lanes(e.ctx)
	require.NoError(e, err)
	require.Len(e, infos, 5)
	for i, info := range infos {
		require.Equal(e, persist.LaneInfo{Lane: i}, info)
	}
	for i := range 20 {
		key := fmt.Sprint("key", i)
		byKey := with(message("k"+key), func(m *persist.Message) { m.OrderingKey = key })
		byTopic := with(message("t"+key), func(m *persist.Message) { m.Topic = key })
		for _, place := range e.enqueue(byKey, byTopic) {
			require.Equal(e, persist.LaneOf(key, 5), place.Lane)
		}
	}
	infos, err = e.store.Lanes(e.ctx)
	require.NoError(e, err)
	for _, info := range infos {
		require.EqualValues(e, len(e.stored(info.Lane)), info.Pending)
	}
}

func checkExpiryLeft(e *env) {
	expiry := 10 * time.Minute
	e.enqueue(
		with(message("expires"), func(m *persist.Message) { m.Expiry = expiry }),
		with(message("keeps"), func(m *persist.Message) { m.Delay = 2 * time.Minute }),
	)
	e.advance(4 * time.Minute)
	listed := e.stored(0)
	e.around(6*time.Minute, listed[0].Message.Expiry, "left after a part")
	require.Zero(e, listed[1].Message.Expiry)
	e.advance(6 * time.Minute)
	listed = e.stored(0)
	require.Negative(e, listed[0].Message.Expiry, "at its end a message is expired, not good for ever")
	e.advance(24 * time.Hour)
	handed := e.next(e.acquire(0))
	require.Equal(e, []string{"expires", "keeps"}, ids(handed), "an expired message is handed out, to be settled as expired")
	e.around(-24*time.Hour, handed[0].Message.Expiry, "left after the end")
	require.Zero(e, handed[1].Message.Expiry, "no expiry means for ever")
}

func checkLargeBatch(e *env) {
	const n = 5000
	msgs := messages("m", n)
	for i := range msgs {
		msgs[i].OrderingKey = fmt.Sprint(i % 7)
		msgs[i].Idempotent = i%3 == 0
	}
	e.enqueue(msgs...)
	var got []string
	for number := range 2 {
		lane := e.acquire(number)
		entries := e.next(lane)
		require.True(e, slices.IsSortedFunc(entries, func(a, b persist.Entry) int { return int(a.Position - b.Position) }))
		got = append(got, ids(entries)...)
		e.deliver(lane, entries...)
	}
	require.Len(e, got, n)
	slices.Sort(got)
	require.Len(e, slices.Compact(got), n)
	require.Zero(e, e.stats().Pending)
}

func checkEnqueuedAt(e *env) {
	e.enqueue(message("a"))
	e.advance(36 * time.Hour)
	e.enqueue(message("b"))
	entries := e.stored(0)
	e.around(36*time.Hour, entries[1].EnqueuedAt.Sub(entries[0].EnqueuedAt), "between two messages")
	for _, entry := range entries {
		require.Zero(e, entry.EnqueuedAt.Nanosecond()%int(time.Millisecond), "whole milliseconds")
	}
}
