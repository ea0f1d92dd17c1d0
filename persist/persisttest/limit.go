package persisttest

import (
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// limitCases are about a full outbox.
func limitCases() []testCase {
	return []testCase{
		{tag: "OUTBOX-9", name: "refusal", options: Options{Limits: persist.Limits{Messages: 5}}, run: checkFull},
		{tag: "OUTBOX-9", name: "a duplicate takes no room", options: Options{Limits: persist.Limits{Messages: 2}}, run: checkFullDuplicate},
		{tag: "OUTBOX-9", name: "the oldest droppable messages give way", options: Options{Limits: persist.Limits{Messages: 5}}, run: checkDrop},
		{tag: "OUTBOX-9", name: "only for droppable ones", options: Options{Limits: persist.Limits{Messages: 4}}, run: checkDropOnlyForDroppable},
		{tag: "OUTBOX-9", name: "only of the same lane", options: Options{Lanes: 2, Limits: persist.Limits{Messages: 4}}, run: checkDropSameLane},
		{tag: "OUTBOX-9", name: "only pending ones", options: Options{Limits: persist.Limits{Messages: 2}}, run: checkDropPending},
		{tag: "OUTBOX-9", name: "refusal of bytes", options: Options{Limits: persist.Limits{Bytes: 1000}}, run: checkFullBytes},
		{tag: "OUTBOX-9", name: "as many bytes give way as are needed", options: Options{Limits: persist.Limits{Bytes: 1000}}, run: checkDropBytes},
		{tag: "OUTBOX-9", name: "bytes of all that leaves", options: Options{Lanes: 2, Limits: persist.Limits{Messages: 7}}, run: checkBytesLeft},
		{tag: "OUTBOX-9", name: "dead letters come back only where there is room", options: Options{Limits: persist.Limits{Messages: 2}}, run: checkRetryFull},
	}
}

func droppable(id string) persist.Message {
	return with(message(id), func(m *persist.Message) { m.Droppable = true })
}

func (e *env) full(msgs ...persist.Message) {
	e.Helper()
	before := snapshot(e)
	_, err := e.store.Enqueue(e.ctx, msgs)
	require.ErrorIs(e, err, persist.ErrOutboxFull)
	require.NotErrorIs(e, err, persist.ErrUnknownOutcome)
	require.Equal(e, before, snapshot(e), "a refused call changed the store")
}

// sized is a message that is stored in that many bytes.
func sized(id string, size int) persist.Message {
	m := message(id)
	m.Payload = nil
	m.Payload = make([]byte, size-wire.Size(&m)-1) // a length of two bytes
	return m
}

// limit demands that the messages are refused because of that limit.
func (e *env) limit(name string, msgs ...persist.Message) {
	e.Helper()
	_, err := e.store.Enqueue(e.ctx, msgs)
	require.ErrorIs(e, err, persist.ErrOutboxFull)
	var full *persist.FullError
	require.ErrorAs(e, err, &full)
	stats := e.stats()
	want := &persist.FullError{Limit: name, Most: int64(stats.Limits.Messages), Held: stats.Pending + stats.Delivered, Wanted: int64(len(msgs))}
	if name == "bytes" {
		want.Most, want.Held, want.Wanted = stats.Limits.Bytes, stats.Bytes, 0
		for i := range msgs {
			want.Wanted += sizeOf(msgs[i])
		}
	}
	require.Equal(e, want, full)
	require.NotContains(e, err.Error(), "\n", "one line")
}

func checkFullBytes(e *env) {
	require.Equal(e, persist.Limits{Bytes: 1000}, e.stats().Limits)
	e.enqueue(sized("a", 400), sized("b", 400))
	require.EqualValues(e, 800, e.stats().Bytes)
	e.full(sized("c", 201))
	e.limit("bytes", sized("c", 201))
	e.limit("bytes", sized("c", 150), sized("d", 150))
	e.enqueue(sized("c", 200))
	require.EqualValues(e, 1000, e.stats().Bytes)
	e.full(sized("d", 150))
	lane := e.acquire(0)
	e.deliver(lane, e.next(lane)[1])
	require.EqualValues(e, 600, e.stats().Bytes)
	e.full(sized("d", 401))
	e.enqueue(sized("e", 400))
	e.full(sized("f", 1001)) // of which there would not be room in an empty outbox
}

func checkDropBytes(e *env) {
	drop := func(id string, size int) persist.Message {
		return with(sized(id, size), func(m *persist.Message) { m.Droppable = true })
	}
	e.enqueue(drop("a", 300), sized("b", 300), drop("c", 200), drop("d", 200))
	e.full(sized("e", 150))
	e.enqueue(drop("e", 150)) // a, which is larger than what is needed
	require.Equal(e, []string{"b", "c", "d", "e"}, ids(e.stored(0)))
	e.enqueue(drop("f", 350)) // c; then it is one of two that would do
	require.Equal(e, []string{"b", "d", "e", "f"}, ids(e.stored(0)))
	require.EqualValues(e, 1000, e.stats().Bytes)
	require.EqualValues(e, 2, e.stats().Dropped)
	e.full(drop("g", 701), sized("h", 100)) // the droppable one cannot make room for both
	e.enqueue(drop("g", 650))
	require.Equal(e, []string{"b", "g"}, ids(e.stored(0)))
	require.EqualValues(e, 5, e.stats().Dropped)
}

// Whichever way messages leave, their bytes leave with them.
func checkBytesLeft(e *env) {
	here := func(m persist.Message) persist.Message {
		m.OrderingKey = keyOf(e, 1)
		return m
	}
	held := func(what string) {
		e.Helper()
		var want int64
		for lane := range 2 {
			for _, entry := range e.stored(lane) {
				want += sizeOf(entry.Message)
			}
		}
		require.Equal(e, want, e.stats().Bytes, what)
	}
	receipt := func(id string) persist.Message {
		return with(sized(id, 210), func(m *persist.Message) { m.Receipt = true })
	}
	e.enqueue(here(sized("a", 201)), here(receipt("b")), here(receipt("c")), here(sized("d", 202)), here(sized("e", 203)), here(droppable("f")))
	held("stored")
	lane := e.acquire(1)
	entries := e.next(lane)
	e.deliver(lane, entries[0], entries[1], entries[2])
	held("delivered")
	e.deliver(lane, entries[0], entries[1], entries[2])
	held("delivered again")
	e.settle(lane, persist.Settlement{Position: entries[3].Position, Outcome: persist.OutcomeFailed},
		persist.Settlement{Position: entries[4].Position, Outcome: persist.OutcomeRetry})
	held("failed")
	_, err := lane.Acknowledge(e.ctx, []persist.Receipt{{ID: "b"}, {ID: "c", Failed: true}})
	require.NoError(e, err)
	held("acknowledged")
	_, err = e.retry(persist.DeadLetterFilter{}, 10)
	require.NoError(e, err)
	held("retried")
	e.enqueue(here(droppable("g")), here(droppable("h")), here(droppable("i")), here(droppable("j")))
	require.EqualValues(e, 1, e.stats().Dropped)
	held("dropped")
	n, err := e.store.PurgeOutbox(e.ctx, persist.ListRequest{Lane: 1, Limit: 2})
	require.NoError(e, err)
	require.Equal(e, 2, n)
	held("purged")
	e.deliver(lane, e.next(lane)...)
	held("drained")
	_, err = e.store.PurgeOutbox(e.ctx, persist.ListRequest{Lane: 1, Limit: 9})
	require.NoError(e, err)
	require.Zero(e, e.stats().Bytes)
}

func checkFull(e *env) {
	e.enqueue(messages("a", 3)...)
	e.full(messages("b", 3)...)
	e.enqueue(messages("c", 2)...)
	e.full(message("d"))
	e.limit("messages", message("d"))
	lane := e.acquire(0)
	e.deliver(lane, e.next(lane)[:2]...)
	e.full(messages("e", 3)...)
	e.enqueue(messages("f", 2)...)
	require.Zero(e, e.stats().Dropped)
}

func checkFullDuplicate(e *env) {
	e.enqueue(idempotent("a", ""), idempotent("b", ""), idempotent("a", ""))
	places := e.enqueue(idempotent("b", ""), idempotent("a", ""))
	require.True(e, places[0].Duplicate && places[1].Duplicate)
	e.full(idempotent("a", ""), message("c"))
}

func checkDrop(e *env) {
	e.enqueue(droppable("a"), message("b"), droppable("c"), droppable("d"), message("e"))
	lane := e.acquire(0)
	handed := e.next(lane)
	e.enqueue(droppable("f"), droppable("g"))
	require.Equal(e, []string{"b", "d", "e", "f", "g"}, ids(e.stored(0)))
	require.EqualValues(e, 2, e.stats().Dropped)
	require.EqualValues(e, 5, e.stats().Pending)
	require.Equal(e, []string{"f", "g"}, ids(e.next(lane)))
	e.deliver(lane, handed...) // two of them are gone
	require.Equal(e, []string{"f", "g"}, ids(e.stored(0)))
	require.EqualValues(e, 2, e.stats().Dropped)
}

func checkDropOnlyForDroppable(e *env) {
	e.enqueue(droppable("a"), droppable("b"), message("c"), message("d"))
	e.full(message("e"))
	e.full(message("e"), message("f"))
	e.full(droppable("e"), droppable("f"), droppable("g"))
	e.enqueue(droppable("e"), droppable("f"))
	require.Equal(e, []string{"c", "d", "e", "f"}, ids(e.stored(0)))
	require.EqualValues(e, 2, e.stats().Dropped)
}

func checkDropSameLane(e *env) {
	here := func(id string, lane int) persist.Message {
		return with(droppable(id), func(m *persist.Message) { m.OrderingKey = keyOf(e, lane) })
	}
	e.enqueue(here("a", 0), here("b", 0), here("c", 0), here("d", 0))
	e.full(here("e", 1))
	e.enqueue(here("f", 0))
	require.Equal(e, []string{"b", "c", "d", "f"}, ids(e.stored(0)))
	require.Empty(e, e.stored(1))
}

func checkDropPending(e *env) {
	seeking := with(droppable("a"), func(m *persist.Message) { m.Receipt = true })
	e.enqueue(seeking)
	lane := e.acquire(0)
	e.deliver(lane, e.next(lane)...)
	e.enqueue(droppable("b"))
	e.enqueue(droppable("c"))
	require.Equal(e, []string{"a", "c"}, ids(e.stored(0)), "a message that awaits its receipt does not give way")
}

func checkRetryFull(e *env) {
	e.enqueue(messages("a", 2)...)
	lane := e.acquire(0)
	for _, entry := range e.next(lane) {
		e.settle(lane, persist.Settlement{Position: entry.Position, Outcome: persist.OutcomeFailed})
	}
	e.enqueue(message("b"))
	n, err := e.retry(persist.DeadLetterFilter{}, 10)
	require.ErrorIs(e, err, persist.ErrOutboxFull)
	require.Zero(e, n)
	require.Len(e, e.letters(persist.DeadLetterFilter{}), 2)
	n, err = e.retry(persist.DeadLetterFilter{}, 1)
	require.NoError(e, err)
	require.Equal(e, 1, n)
	require.Equal(e, []string{"b", "a0"}, ids(e.stored(0)))
}
