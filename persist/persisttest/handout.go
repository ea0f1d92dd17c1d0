package persisttest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// handOutCases are about what Next returns, and when.
func handOutCases() []testCase {
	return []testCase{
		{tag: "OUTBOX-5", name: "order of positions", run: checkOrder},
		{tag: "OUTBOX-5", name: "a delayed message stops nobody", run: checkDelay},
		{tag: "OUTBOX-5", name: "order survives a crash", run: checkOrderAfterCrash},
		{tag: "OUTBOX-5", name: "lanes are apart", options: Options{Lanes: 3}, run: checkLanesApart},
		{tag: "OUTBOX-6", name: "once per lease", run: checkOncePerLease},
		{tag: "OUTBOX-6", name: "again to the next holder", run: checkAgainToNextHolder},
		{tag: "OUTBOX-6", name: "again once returned", run: checkReturned},
		{tag: "OUTBOX-6", name: "again in the next lease although returned in the last", run: checkReturnedThenLost},
		{tag: "OUTBOX-6", name: "a retry stays with its holder", run: checkRetryStays},
		{tag: "OUTBOX-6", name: "a delayed message too", run: checkDelayOnce},
		{tag: "Next", name: "limit and bytes", run: checkNextLimits},
		{tag: "Next", name: "what was handed out stays as it was", run: checkHandedStays},
	}
}

// draw hands out one page of n.
func (e *env) draw(lane persist.Lane, n int) []string {
	e.Helper()
	entries, err := lane.Next(e.ctx, n, 1<<30)
	require.NoError(e, err, "next")
	require.LessOrEqual(e, len(entries), n)
	return ids(entries)
}

func checkOrder(e *env) {
	lane := e.acquire(0)
	var want, got []string
	for round := range 12 {
		msgs := messages(fmt.Sprint("m", round, "."), round%4+1)
		for _, m := range msgs {
			want = append(want, m.ID)
		}
		e.enqueue(msgs...)
		got = append(got, e.draw(lane, round%3+1)...)
		if round%5 == 4 { // settling in between takes nothing from the order
			for _, entry := range e.stored(0)[:2] {
				e.deliver(lane, entry)
			}
		}
	}
	for range len(want) {
		got = append(got, e.draw(lane, 3)...)
	}
	require.Equal(e, want, got)
}

func checkDelay(e *env) {
	lane := e.acquire(0)
	late := func(id string, d time.Duration) persist.Message {
		return with(message(id), func(m *persist.Message) { m.Delay = d })
	}
	e.enqueue(message("a"), late("b", 2*time.Hour), message("c"), late("d", time.Hour), message("e"))
	require.Equal(e, []string{"a", "c", "e"}, ids(e.next(lane)))
	require.Empty(e, e.next(lane))
	e.advance(30 * time.Minute)
	require.Empty(e, e.next(lane))
	e.enqueue(message("f"))
	e.advance(31 * time.Minute)
	require.ElementsMatch(e, []string{"d", "f"}, ids(e.next(lane)))
	require.Empty(e, e.next(lane))
	e.advance(time.Hour)
	require.Equal(e, []string{"b"}, ids(e.next(lane)))
	require.Empty(e, e.next(lane))
	e.release(lane)
	require.Equal(e, []string{"a", "b", "c", "d", "e", "f"}, ids(e.next(e.acquire(0))),
		"whose delay is over has its place in the order")
}

func checkDelayOnce(e *env) {
	e.enqueue(with(message("a"), func(m *persist.Message) { m.Delay = time.Hour }), message("b"))
	lane := e.acquire(0)
	require.Equal(e, []string{"b"}, ids(e.next(lane)))
	e.release(lane)
	e.advance(2 * time.Hour)
	lane = e.acquire(0)
	require.Equal(e, []string{"a", "b"}, ids(e.next(lane)))
	e.advance(2 * time.Hour)
	require.Empty(e, e.next(lane))
}

func checkOrderAfterCrash(e *env) {
	var want []string
	for round := range 5 {
		msgs := messages(fmt.Sprint("m", round, "."), 4)
		e.enqueue(msgs...)
		for _, m := range msgs {
			want = append(want, m.ID)
		}
	}
	lane := e.acquire(0)
	first := e.next(lane)
	e.settle(lane, persist.Settlement{Position: first[3].Position}, persist.Settlement{Position: first[0].Position})
	e.crash()
	e.advance(lease + time.Minute) // the lease of the dead
	got := ids(e.next(e.acquire(0)))
	if !e.h.Durable {
		require.Empty(e, got)
		return
	}
	require.Equal(e, append([]string{want[1], want[2]}, want[4:]...), got)
}

func checkLanesApart(e *env) {
	lanes := []persist.Lane{e.acquire(0), e.acquire(1), e.acquire(2)}
	for i := range 9 {
		e.enqueue(with(message(fmt.Sprint("m", i)), func(m *persist.Message) { m.OrderingKey = keyOf(e, i%3) }))
	}
	for number, lane := range lanes {
		require.Equal(e, number, lane.Number())
		entries := e.next(lane)
		require.Equal(e, []string{fmt.Sprint("m", number), fmt.Sprint("m", number+3), fmt.Sprint("m", number+6)}, ids(entries))
		for _, entry := range entries {
			require.Equal(e, number, entry.Lane)
		}
	}
}

func checkOncePerLease(e *env) {
	e.enqueue(messages("m", 6)...)
	lane := e.acquire(0)
	require.Equal(e, []string{"m0", "m1"}, e.draw(lane, 2))
	require.NoError(e, lane.Renew(e.ctx, lease, false))
	require.Equal(e, []string{"m2", "m3", "m4", "m5"}, e.draw(lane, 100))
	require.Empty(e, e.draw(lane, 100))
	e.advance(lease / 2)
	require.NoError(e, lane.Renew(e.ctx, lease, false))
	require.Empty(e, e.draw(lane, 100), "time alone hands nothing out again")
}

func checkAgainToNextHolder(e *env) {
	e.enqueue(messages("m", 5)...)
	lane := e.acquire(0)
	handed := e.next(lane)
	e.deliver(lane, handed[1], handed[3])
	e.release(lane)
	lane = e.acquire(0)
	require.Equal(e, []string{"m0", "m2"}, e.draw(lane, 2))
	e.advance(lease + time.Minute) // this one does not let go
	lane = e.acquire(0)
	require.Equal(e, []string{"m0", "m2", "m4"}, ids(e.next(lane)))
	require.Empty(e, e.next(lane))
}

func checkReturned(e *env) {
	e.enqueue(messages("m", 6)...)
	lane := e.acquire(0)
	handed := e.next(lane)[:4]
	e.settle(lane,
		persist.Settlement{Position: handed[3].Position, Outcome: persist.OutcomeReturned},
		persist.Settlement{Position: handed[1].Position, Outcome: persist.OutcomeReturned},
		persist.Settlement{Position: handed[0].Position},
	)
	e.enqueue(message("new"))
	require.Equal(e, []string{"m1", "m3", "new"}, ids(e.next(lane)), "in their places")
	require.Empty(e, e.next(lane))
	for _, entry := range e.stored(0) {
		require.Equal(e, persist.StatePending, entry.State)
		require.Zero(e, entry.Attempts, "what was not refused was not tried")
	}
}

func checkReturnedThenLost(e *env) {
	e.enqueue(messages("m", 3)...)
	lane := e.acquire(0)
	handed := e.next(lane)
	e.settle(lane, persist.Settlement{Position: handed[1].Position, Outcome: persist.OutcomeReturned})
	e.release(lane)
	lane = e.acquire(0)
	require.Equal(e, []string{"m0", "m1", "m2"}, ids(e.next(lane)))
	require.Empty(e, e.next(lane))
}

func checkRetryStays(e *env) {
	e.enqueue(messages("m", 3)...)
	lane := e.acquire(0)
	handed := e.next(lane)
	retry := persist.Settlement{
		Position: handed[1].Position, Outcome: persist.OutcomeRetry, ReasonCode: 0x97, Reason: "quota exceeded",
	}
	e.settle(lane, retry)
	e.settle(lane, retry)
	require.Empty(e, e.next(lane), "the holder has it still")
	e.release(lane)
	handed = e.next(e.acquire(0))
	require.Equal(e, []string{"m0", "m1", "m2"}, ids(handed))
	require.Equal(e, 2, handed[1].Attempts)
	require.Equal(e, "quota exceeded", handed[1].LastError)
	require.Equal(e, persist.StatePending, handed[1].State)
	require.Zero(e, handed[0].Attempts)
}

func checkNextLimits(e *env) {
	sized := func(id string, n int) persist.Message {
		return with(message(id), func(m *persist.Message) { m.Payload = make([]byte, n) })
	}
	e.enqueue(sized("a", 10), sized("b", 10), sized("c", 10), sized("d", 1000), sized("e", 10), sized("f", 0), sized("g", 10))
	lane := e.acquire(0)
	for _, want := range [][]string{{"a", "b"}, {"c"}, {"d"}, {"e", "f", "g"}} {
		entries, err := lane.Next(e.ctx, 100, 25)
		require.NoError(e, err)
		require.Equal(e, want, ids(entries))
	}
	e.release(lane)
	lane = e.acquire(0)
	for _, want := range []string{"a", "b", "c"} {
		entries, err := lane.Next(e.ctx, 100, 0)
		require.NoError(e, err)
		require.Equal(e, []string{want}, ids(entries), "one is always handed out")
	}
	require.Equal(e, []string{"d"}, e.draw(lane, 1))
	require.Equal(e, []string{"e", "f"}, e.draw(lane, 2))
	require.Equal(e, []string{"g"}, e.draw(lane, 2))
}

// A relay holds entries for as long as they are in flight, and a publisher may
// use its slice for the next call.
func checkHandedStays(e *env) {
	msgs := remarkable()
	reused := remarkable()
	e.enqueue(reused...)
	for i := range reused {
		reused[i] = message("another")
	}
	lane := e.acquire(0)
	first := e.next(lane)
	more := messages("more", len(msgs))
	for i := range more {
		more[i].Payload = make([]byte, 300+i)
		more[i].Properties.User = []persist.UserProperty{{Name: "x", Value: "y"}}
	}
	for range 3 {
		e.enqueue(more...)
		e.deliver(lane, e.next(lane)...)
	}
	e.settle(lane, persist.Settlement{Position: first[1].Position, Outcome: persist.OutcomeReturned})
	e.next(lane)
	require.Len(e, first, len(msgs))
	for i, m := range msgs {
		e.sameMessage(m, first[i].Message)
	}
	e.deliver(lane, first...)
	for i, m := range msgs {
		e.sameMessage(m, first[i].Message)
	}
}
