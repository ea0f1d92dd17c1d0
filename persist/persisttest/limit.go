package persisttest

import (
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// limitCases are about a full outbox.
func limitCases() []testCase {
	return []testCase{
		{tag: "OUTBOX-9", name: "refusal", options: Options{MaxMessages: 5}, run: checkFull},
		{tag: "OUTBOX-9", name: "a duplicate takes no room", options: Options{MaxMessages: 2}, run: checkFullDuplicate},
		{tag: "OUTBOX-9", name: "the oldest droppable messages give way", options: Options{MaxMessages: 5}, run: checkDrop},
		{tag: "OUTBOX-9", name: "only for droppable ones", options: Options{MaxMessages: 4}, run: checkDropOnlyForDroppable},
		{tag: "OUTBOX-9", name: "only of the same lane", options: Options{Lanes: 2, MaxMessages: 4}, run: checkDropSameLane},
		{tag: "OUTBOX-9", name: "only pending ones", options: Options{MaxMessages: 2}, run: checkDropPending},
		{tag: "OUTBOX-9", name: "dead letters come back only where there is room", options: Options{MaxMessages: 2}, run: checkRetryFull},
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

func checkFull(e *env) {
	e.enqueue(messages("a", 3)...)
	e.full(messages("b", 3)...)
	e.enqueue(messages("c", 2)...)
	e.full(message("d"))
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
