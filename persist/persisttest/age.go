package persisttest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// ageCases are about how old a message may get.
func ageCases() []testCase {
	hour := Options{Limits: persist.Limits{Age: time.Hour}}
	return []testCase{
		{tag: "OUTBOX-17", name: "what is left", options: hour, run: checkAgeLeft},
		{tag: "OUTBOX-17", name: "no limit", run: checkNoAge},
		{tag: "OUTBOX-17", name: "a delay ends before", options: hour, run: checkAgeDelay},
	}
}

func checkAgeLeft(e *env) {
	require.Equal(e, persist.Limits{Age: time.Hour}, e.stats().Limits)
	places := e.enqueue(message("a"), with(message("b"), func(m *persist.Message) { m.Expiry = 2 * time.Hour }))
	e.advance(20 * time.Minute)
	e.enqueue(message("c"))
	lane := e.acquire(0)
	entries := e.next(lane)
	require.Equal(e, []string{"a", "b", "c"}, ids(entries))
	for i, want := range []time.Duration{40 * time.Minute, 40 * time.Minute, time.Hour} {
		e.around(want, entries[i].AgeLeft, entries[i].Message.ID)
	}
	e.around(100*time.Minute, entries[1].Message.Expiry, "the expiry is another thing")
	e.release(lane)
	e.advance(40 * time.Minute)
	lane = e.acquire(0)
	entries = e.next(lane)
	require.Negative(e, entries[0].AgeLeft, "zero would mean that there is no limit")
	e.around(20*time.Minute, entries[2].AgeLeft, "c")
	const reason = "too old"
	e.settle(lane, persist.Settlement{Position: entries[0].Position, Outcome: persist.OutcomeExpired, Reason: reason})
	require.Equal(e, persist.Fate{State: persist.StateExpired, LastError: reason}, e.lookup(places[0].Ref)[0])
	require.EqualValues(e, 1, e.stats().Expired)
}

func checkNoAge(e *env) {
	e.enqueue(message("a"))
	e.advance(1000 * time.Hour)
	require.Zero(e, e.next(e.acquire(0))[0].AgeLeft)
}

func checkAgeDelay(e *env) {
	delayed := func(d time.Duration) persist.Message {
		return with(message("a"), func(m *persist.Message) { m.Delay = d })
	}
	_, err := e.store.Enqueue(e.ctx, []persist.Message{delayed(time.Hour)})
	require.ErrorIs(e, err, persist.ErrInvalid)
	require.ErrorContains(e, err, "delay")
	e.enqueue(delayed(59 * time.Minute))
}
