package persisttest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// settleCases are about what becomes of messages.
func settleCases() []testCase {
	return []testCase{
		{tag: "Settle", name: "delivered messages are gone", run: checkDelivered},
		{tag: "Settle", name: "each outcome survives a crash", run: checkOutcomesSurvive},
		{tag: "Settle", name: "many, in any order and with gaps", run: checkSettleMany},
		{tag: "OUTBOX-10", name: "a position that is gone", run: checkSettleGone},
		{tag: "OUTBOX-11", name: "failed and expired become dead letters", run: checkBuried},
		{tag: "OUTBOX-11", name: "all or none", run: checkSettleAllOrNone},
		{tag: "Lookup", name: "each fate", options: Options{Lanes: 2}, run: checkLookup},
	}
}

func checkDelivered(e *env) {
	places := e.enqueue(messages("m", 4)...)
	lane := e.acquire(0)
	handed := e.next(lane)
	e.deliver(lane, handed[2], handed[0])
	require.Equal(e, []string{"m1", "m3"}, ids(e.stored(0)))
	require.EqualValues(e, 2, e.stats().Pending)
	_, err := e.store.GetOutbox(e.ctx, "m0")
	require.ErrorIs(e, err, persist.ErrNotFound)
	e.deliver(lane, handed[1], handed[3])
	require.Empty(e, e.stored(0))
	for _, place := range places {
		require.Equal(e, persist.StateDelivered, e.lookup(place.Ref)[0].State, "gone means delivered")
	}
	require.Empty(e, e.letters(persist.DeadLetterFilter{}))
	e.release(lane)
	require.Empty(e, e.next(e.acquire(0)))
}

// Acknowledgements come nearly in order, which tempts a store to delete ranges
// of positions: nothing else that lies in them may go.
func checkSettleMany(e *env) {
	const n = 1200
	msgs := messages("m", n)
	for i := range msgs {
		msgs[i].Receipt = i%11 == 0
	}
	e.enqueue(msgs...)
	lane := e.acquire(0)
	handed := e.next(lane)
	require.Len(e, handed, n)
	outcome := func(i int) persist.Outcome {
		switch {
		case i%7 == 3:
			return persist.OutcomeRetry
		case i%97 == 5:
			return persist.OutcomeFailed
		case i%101 == 9:
			return persist.OutcomeReturned
		}
		return persist.OutcomeDelivered
	}
	var want, again []string
	var batch []persist.Settlement
	for k := range n {
		i := k/50*50 + (k%50*37+11)%50 // each page of 50 in a jumble
		if i%13 == 6 {
			continue // in flight still
		}
		batch = append(batch, persist.Settlement{Position: handed[i].Position, Outcome: outcome(i), Reason: "r"})
		if len(batch) == 170 || k == n-1 {
			e.settle(lane, batch...)
			batch = nil
		}
	}
	for i := range n {
		if i%13 == 6 || i%11 == 0 && outcome(i) == persist.OutcomeDelivered ||
			outcome(i) == persist.OutcomeRetry || outcome(i) == persist.OutcomeReturned {
			want = append(want, msgs[i].ID)
		}
		if i%13 != 6 && outcome(i) == persist.OutcomeReturned {
			again = append(again, msgs[i].ID)
		}
	}
	require.Equal(e, want, ids(e.stored(0)))
	require.Equal(e, again, ids(e.next(lane)))
	stats := e.stats()
	require.EqualValues(e, len(want), stats.Pending+stats.Delivered)
}

func checkOutcomesSurvive(e *env) {
	if !e.h.Durable {
		return // nothing is what survives, as OUTBOX-1 shows
	}
	e.enqueue(messages("m", 5)...)
	lane := e.acquire(0)
	handed := e.next(lane)
	for i, outcome := range []persist.Outcome{
		persist.OutcomeDelivered, persist.OutcomeRetry, persist.OutcomeFailed, persist.OutcomeExpired, persist.OutcomeReturned,
	} {
		e.settle(lane, persist.Settlement{Position: handed[i].Position, Outcome: outcome, Reason: "why", ReasonCode: 0x80})
	}
	e.crash()
	left := e.stored(0)
	require.Equal(e, []string{"m1", "m4"}, ids(left))
	require.Equal(e, 1, left[0].Attempts)
	require.Equal(e, "why", left[0].LastError)
	letters := e.letters(persist.DeadLetterFilter{})
	require.Len(e, letters, 2)
	require.Equal(e, "m2", letters[0].Message.ID)
	require.Equal(e, "m3", letters[1].Message.ID)
	stats := e.stats()
	require.EqualValues(e, 2, stats.Pending)
	require.EqualValues(e, 1, stats.Failed)
	require.EqualValues(e, 1, stats.Expired)
}

func checkSettleGone(e *env) {
	e.enqueue(messages("m", 3)...)
	lane := e.acquire(0)
	handed := e.next(lane)
	e.deliver(lane, handed[0])
	for outcome := persist.OutcomeDelivered; outcome <= persist.OutcomeReturned; outcome++ {
		e.settle(lane,
			persist.Settlement{Position: handed[0].Position, Outcome: outcome, Reason: "late"},
			persist.Settlement{Position: 1 << 40, Outcome: outcome, Reason: "never was"},
		)
	}
	require.Empty(e, e.letters(persist.DeadLetterFilter{}), "a message that is gone cannot fail")
	require.Empty(e, e.next(lane))
	e.settle(lane, persist.Settlement{Position: handed[0].Position}, persist.Settlement{Position: handed[1].Position})
	require.Equal(e, []string{"m2"}, ids(e.stored(0)), "the others of the batch are settled")
	require.EqualValues(e, 1, e.stats().Pending)
}

func checkBuried(e *env) {
	msgs := remarkable()
	places := e.enqueue(msgs...)
	lane := e.acquire(0)
	handed := e.next(lane)
	for _, i := range []int{0, 1} {
		e.settle(lane, persist.Settlement{Position: handed[i].Position, Outcome: persist.OutcomeRetry, ReasonCode: 0x97, Reason: "quota"})
		e.advance(time.Second)
		e.settle(lane, persist.Settlement{Position: handed[i].Position, Outcome: persist.OutcomeRetry, ReasonCode: 0x97, Reason: "busy"})
		e.advance(time.Second)
	}
	settlements := make([]persist.Settlement, len(handed))
	for i, entry := range handed {
		settlements[i] = persist.Settlement{
			Position: entry.Position, Outcome: persist.OutcomeFailed, ReasonCode: 0x87, Reason: "größe: \"not\" authorized",
		}
		if i%2 == 1 {
			settlements[i].Outcome, settlements[i].ReasonCode = persist.OutcomeExpired, 0
		}
	}
	e.settle(lane, settlements...)
	require.Empty(e, e.stored(0))
	require.Empty(e, e.next(lane))
	letters := e.letters(persist.DeadLetterFilter{})
	require.Len(e, letters, len(msgs))
	last := int64(0)
	for i, letter := range letters {
		require.Greater(e, letter.Number, last)
		last = letter.Number
		require.Equal(e, persist.SideOutbox, letter.Side)
		require.Equal(e, places[i].Ref, letter.Ref)
		require.Equal(e, settlements[i].ReasonCode, letter.ReasonCode)
		require.Equal(e, settlements[i].Reason, letter.Reason)
		e.sameMessage(msgs[i], letter.Message)
		require.Zero(e, letter.At.Nanosecond()%int(time.Millisecond))
		require.False(e, letter.At.Before(handed[i].EnqueuedAt))
		if i%2 == 1 {
			require.Equal(e, persist.StateExpired, letter.State)
		} else {
			require.Equal(e, persist.StateFailed, letter.State)
			require.Equal(e, settlements[i].Reason, letter.Last.Error)
			require.Equal(e, letter.At.UnixMilli(), letter.Last.At.UnixMilli())
		}
		require.Equal(e, msgs[i].Expiry.Milliseconds(), letter.Message.Expiry.Milliseconds(), "as it was enqueued")
		if i < 2 {
			require.Equal(e, "quota", letter.First.Error)
			require.GreaterOrEqual(e, letter.At.Sub(letter.First.At), 2*time.Second, "when it was refused first")
			continue
		}
		if i%2 == 0 {
			require.Equal(e, 1, letter.Attempts, "the refusal itself")
			require.Equal(e, letter.Last, letter.First)
		} else {
			require.Zero(e, letter.Attempts)
			require.Zero(e, letter.First, "nobody has tried it")
			require.Zero(e, letter.Last)
		}
	}
	require.Equal(e, 3, letters[0].Attempts, "refused for now twice, then for good")
	require.Equal(e, 2, letters[1].Attempts, "refused twice, then expired")
	require.Equal(e, "busy", letters[1].Last.Error, "expiry is no error of the message")
	require.Equal(e, time.Second, letters[1].Last.At.Sub(letters[1].First.At).Round(time.Second))
	stats := e.stats()
	require.EqualValues(e, len(msgs)/2, stats.Expired)
	require.EqualValues(e, len(msgs)-len(msgs)/2, stats.Failed)
}

func checkSettleAllOrNone(e *env) {
	e.enqueue(messages("m", 3)...)
	lane := e.acquire(0)
	handed := e.next(lane)
	before := snapshot(e)
	err := lane.Settle(e.ctx, []persist.Settlement{
		{Position: handed[0].Position},
		{Position: handed[1].Position, Outcome: persist.OutcomeFailed},
		{Position: handed[2].Position, Outcome: persist.OutcomeSuperseded + 1},
	})
	require.ErrorIs(e, err, persist.ErrInvalid)
	require.Equal(e, before, snapshot(e))
	e.release(lane)
	require.ErrorIs(e, lane.Settle(e.ctx, []persist.Settlement{
		{Position: handed[0].Position},
		{Position: handed[1].Position, Outcome: persist.OutcomeFailed},
	}), persist.ErrLeaseLost)
	require.Equal(e, []string{"m0", "m1", "m2"}, ids(e.next(e.acquire(0))))
	require.Empty(e, e.letters(persist.DeadLetterFilter{}))
}

func checkLookup(e *env) {
	key := keyOf(e, 1)
	msgs := messages("m", 6)
	for i := range msgs {
		msgs[i].OrderingKey = key
		msgs[i].Receipt = i == 1
	}
	places := e.enqueue(msgs...)
	lane := e.acquire(1)
	handed := e.next(lane)
	e.settle(lane,
		persist.Settlement{Position: handed[0].Position},
		persist.Settlement{Position: handed[1].Position},
		persist.Settlement{Position: handed[2].Position, Outcome: persist.OutcomeFailed, ReasonCode: 0x87, Reason: "not authorized"},
		persist.Settlement{Position: handed[3].Position, Outcome: persist.OutcomeExpired, Reason: "too late"},
		persist.Settlement{Position: handed[4].Position, Outcome: persist.OutcomeReturned},
	)
	refs := make([]persist.Ref, len(places))
	for i := range places {
		refs[len(refs)-1-i] = places[i].Ref
	}
	fates := e.lookup(refs...)
	require.Equal(e, persist.Fate{State: persist.StatePending}, fates[0])
	require.Equal(e, persist.StatePending, fates[1].State)
	require.Equal(e, persist.Fate{State: persist.StateExpired, LastError: "too late"}, fates[2])
	require.Equal(e, persist.Fate{State: persist.StateFailed, ReasonCode: 0x87, LastError: "not authorized"}, fates[3])
	require.Equal(e, persist.Fate{State: persist.StateDelivered}, fates[4], "a receipt is awaited")
	require.Equal(e, persist.Fate{State: persist.StateDelivered, Gone: true}, fates[5], "gone")

	here := e.enqueue(with(message("same position, other lane"), func(m *persist.Message) { m.OrderingKey = keyOf(e, 0) }))[0]
	require.Equal(e, persist.StatePending, e.lookup(here.Ref)[0].State)
	require.Equal(e, persist.StateFailed, e.lookup(places[2].Ref, here.Ref)[0].State)
	require.Equal(e, []persist.Fate{fates[3], fates[3]}, e.lookup(places[2].Ref, places[2].Ref), "asked for twice")
}
