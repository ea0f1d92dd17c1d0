package persisttest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// idempotencyCases are about message IDs that come twice.
func idempotencyCases() []testCase {
	lanes := Options{Lanes: 4}
	return []testCase{
		{tag: "OUTBOX-4", name: "in a later call", options: lanes, run: checkDuplicateLater},
		{tag: "OUTBOX-4", name: "in one call", options: lanes, run: checkDuplicateInCall},
		{tag: "OUTBOX-4", name: "while a receipt is awaited", run: checkDuplicateAwaitingReceipt},
		{tag: "OUTBOX-4", name: "once the first is gone", run: checkDuplicateOfGone},
		{tag: "OUTBOX-4", name: "messages that are not idempotent", run: checkNotIdempotent},
		{tag: "OUTBOX-4", name: "after a crash", run: checkDuplicateAfterCrash},
	}
}

func idempotent(id, key string) persist.Message {
	return with(message(id), func(m *persist.Message) { m.OrderingKey, m.Idempotent = key, true })
}

func checkDuplicateLater(e *env) {
	first := e.enqueue(idempotent("a", keyOf(e, 0)))[0]
	again := e.enqueue(message("x"), idempotent("a", keyOf(e, 0)), idempotent("a", keyOf(e, 3)), idempotent("b", keyOf(e, 0)))
	require.False(e, first.Duplicate)
	require.Equal(e, persist.Enqueued{Ref: first.Ref, Duplicate: true}, again[1])
	require.Equal(e, persist.Enqueued{Ref: first.Ref, Duplicate: true}, again[2], "another key, the same message ID")
	require.False(e, again[3].Duplicate)
	require.EqualValues(e, 3, e.stats().Pending)
}

func checkDuplicateInCall(e *env) {
	places := e.enqueue(idempotent("a", keyOf(e, 1)), idempotent("b", keyOf(e, 1)), idempotent("a", keyOf(e, 1)), idempotent("a", keyOf(e, 2)))
	require.Equal(e, persist.Enqueued{Ref: places[0].Ref, Duplicate: true}, places[2])
	require.Equal(e, persist.Enqueued{Ref: places[0].Ref, Duplicate: true}, places[3])
	require.False(e, places[0].Duplicate)
	require.False(e, places[1].Duplicate)
	require.EqualValues(e, 2, e.stats().Pending)
}

func checkDuplicateAwaitingReceipt(e *env) {
	seeking := with(message("a"), func(m *persist.Message) { m.Receipt = true })
	first := e.enqueue(seeking)[0]
	require.Equal(e, persist.Enqueued{Ref: first.Ref, Duplicate: true}, e.enqueue(idempotent("a", ""))[0])
	lane := e.acquire(0)
	e.deliver(lane, e.next(lane)...)
	require.Equal(e, persist.Enqueued{Ref: first.Ref, Duplicate: true}, e.enqueue(idempotent("a", ""))[0])
	_, err := lane.Acknowledge(e.ctx, []persist.Receipt{{ID: "a"}})
	require.NoError(e, err)
	require.False(e, e.enqueue(idempotent("a", ""))[0].Duplicate)
}

func checkDuplicateOfGone(e *env) {
	lane := e.acquire(0)
	last := int64(0)
	for _, outcome := range []persist.Outcome{persist.OutcomeDelivered, persist.OutcomeFailed, persist.OutcomeExpired} {
		place := e.enqueue(idempotent("a", ""))[0]
		require.False(e, place.Duplicate, "the first is no longer kept in the outbox")
		require.Greater(e, place.Position, last)
		last = place.Position
		e.next(lane)
		e.settle(lane, persist.Settlement{Position: place.Position, Outcome: outcome})
	}
	place := e.enqueue(idempotent("a", ""))[0]
	n, err := e.store.PurgeOutbox(e.ctx, persist.ListRequest{Limit: 10})
	require.NoError(e, err)
	require.Equal(e, 1, n)
	again := e.enqueue(idempotent("a", ""))[0]
	require.False(e, again.Duplicate)
	require.Greater(e, again.Position, place.Position)
}

func checkNotIdempotent(e *env) {
	places := e.enqueue(message("a"), message("a"), idempotent("a", ""), message("a"))
	for _, place := range places {
		require.False(e, place.Duplicate, "a plain message neither is a duplicate nor makes another one")
	}
	found, err := e.store.GetOutbox(e.ctx, "a")
	require.NoError(e, err)
	require.Len(e, found, 4)
	require.True(e, e.enqueue(idempotent("a", ""))[0].Duplicate)
}

func checkDuplicateAfterCrash(e *env) {
	first := e.enqueue(idempotent("a", ""))[0]
	e.advance(24 * time.Hour)
	e.crash()
	again := e.enqueue(idempotent("a", ""))[0]
	if e.h.Durable {
		require.Equal(e, persist.Enqueued{Ref: first.Ref, Duplicate: true}, again)
	} else {
		require.False(e, again.Duplicate)
	}
}
