package persisttest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// adminCases are about what operators see.
func adminCases() []testCase {
	return []testCase{
		{tag: "Admin", name: "stats add up", options: Options{Lanes: 2}, run: checkStats},
		{tag: "Admin", name: "list in pages", options: Options{Lanes: 2}, run: checkList},
		{tag: "Admin", name: "get", options: Options{Lanes: 2}, run: checkGet},
		{tag: "Admin", name: "purge", options: Options{Lanes: 2}, run: checkPurge},
		{tag: "Admin", name: "looking changes nothing", run: checkLooking},
	}
}

func checkStats(e *env) {
	stats := e.stats()
	require.Len(e, stats.Lanes, 2)
	stats.Lanes = nil
	require.Equal(e, persist.Stats{}, stats)

	e.enqueue(with(seeking("old"), func(m *persist.Message) { m.OrderingKey = keyOf(e, 0) }))
	e.advance(time.Hour)
	for i, m := range messages("m", 6) {
		m.OrderingKey = keyOf(e, i%2)
		e.enqueue(m)
	}
	e.advance(time.Hour)
	claims := e.claims("g", 10*time.Hour, "a", "b", "c")
	e.complete(10*time.Hour, claims[0])
	for _, group := range []string{"\xc3\xa4", "a", "Z"} { // by their bytes, not by an alphabet
		e.claims(group, 10*time.Hour, "k")
	}
	require.Equal(e, []string{"Z", "a", "g", "\xc3\xa4"}, e.stats().Groups)
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{letter("x"), letter("y")}))

	stats = e.stats()
	require.EqualValues(e, 7, stats.Pending)
	e.around(2*time.Hour, stats.OldestPending, "oldest pending")
	require.EqualValues(e, 4, stats.Lanes[0].Pending)
	require.EqualValues(e, 3, stats.Lanes[1].Pending)
	require.EqualValues(e, 1, stats.Completed)
	require.EqualValues(e, 5, stats.InWork)
	require.EqualValues(e, 2, stats.ConsumerDead)

	lane := e.acquire(0)
	handed := e.next(lane)
	require.Equal(e, []string{"old", "m0", "m2", "m4"}, ids(handed))
	e.settle(lane,
		persist.Settlement{Position: handed[0].Position},
		persist.Settlement{Position: handed[1].Position, Outcome: persist.OutcomeFailed},
		persist.Settlement{Position: handed[2].Position, Outcome: persist.OutcomeExpired},
		persist.Settlement{Position: handed[3].Position, Outcome: persist.OutcomeRetry},
	)
	stats = e.stats()
	require.EqualValues(e, 4, stats.Pending)
	require.EqualValues(e, 1, stats.Delivered)
	e.around(time.Hour, stats.OldestPending, "a delivered message is not pending")
	require.EqualValues(e, 1, stats.Lanes[0].Pending)
	require.EqualValues(e, 1, stats.Failed)
	require.EqualValues(e, 1, stats.Expired)
	require.EqualValues(e, 2, stats.ConsumerDead)
	require.Zero(e, stats.Dropped)
	if e.h.Durable {
		e.crash()
		again := e.stats()
		for i := range again.Lanes {
			again.Lanes[i].Remaining = stats.Lanes[i].Remaining
		}
		again.OldestPending = stats.OldestPending
		require.Equal(e, stats, again, "counters survive")
	}
}

func (e *env) list(req persist.ListRequest) []persist.Entry {
	e.Helper()
	entries, err := e.store.ListOutbox(e.ctx, req)
	require.NoError(e, err, "list outbox")
	return entries
}

func checkList(e *env) {
	here := keyOf(e, 1)
	for _, m := range messages("m", 7) {
		m.OrderingKey, m.Receipt = here, true
		e.enqueue(m)
	}
	e.enqueue(with(message("elsewhere"), func(m *persist.Message) { m.OrderingKey = keyOf(e, 0) }))
	lane := e.acquire(1)
	handed := e.next(lane)
	e.deliver(lane, handed[1], handed[4])
	e.settle(lane, persist.Settlement{Position: handed[2].Position, Outcome: persist.OutcomeRetry, Reason: "busy"})

	pending, delivered := []persist.State{persist.StatePending}, []persist.State{persist.StateDelivered}
	for _, c := range []struct {
		req  persist.ListRequest
		want []string
	}{
		{persist.ListRequest{Lane: 1, Limit: 100}, []string{"m0", "m1", "m2", "m3", "m4", "m5", "m6"}},
		{persist.ListRequest{Lane: 1, Limit: 3}, []string{"m0", "m1", "m2"}},
		{persist.ListRequest{Lane: 1, Limit: 3, After: handed[2].Position}, []string{"m3", "m4", "m5"}},
		{persist.ListRequest{Lane: 1, Limit: 3, After: handed[6].Position}, []string{}},
		{persist.ListRequest{Lane: 1, Limit: 3, States: pending}, []string{"m0", "m2", "m3"}},
		{persist.ListRequest{Lane: 1, Limit: 3, States: delivered}, []string{"m1", "m4"}},
		{persist.ListRequest{Lane: 1, Limit: 9, States: append(delivered, pending...), After: handed[3].Position}, []string{"m4", "m5", "m6"}},
		{persist.ListRequest{Lane: 1, Limit: 9, States: []persist.State{persist.StateFailed, persist.StateAcknowledged}}, []string{}},
		{persist.ListRequest{Lane: 0, Limit: 9}, []string{"elsewhere"}},
	} {
		require.Equal(e, c.want, ids(e.list(c.req)), "%+v", c.req)
	}
	listed := e.list(persist.ListRequest{Lane: 1, Limit: 100})
	require.Equal(e, persist.StateDelivered, listed[1].State)
	require.Equal(e, 1, listed[2].Attempts)
	require.Equal(e, "busy", listed[2].LastError)
}

func checkGet(e *env) {
	_, err := e.store.GetOutbox(e.ctx, "none")
	require.ErrorIs(e, err, persist.ErrNotFound)
	place := e.enqueue(message("x"), with(seeking("a"), func(m *persist.Message) { m.OrderingKey = keyOf(e, 1) }))[1]
	found, err := e.store.GetOutbox(e.ctx, "a")
	require.NoError(e, err)
	require.Len(e, found, 1)
	require.Equal(e, place.Ref, found[0].Ref)
	require.Equal(e, persist.StatePending, found[0].State)
	lane := e.acquire(1)
	e.deliver(lane, e.next(lane)...)
	found, err = e.store.GetOutbox(e.ctx, "a")
	require.NoError(e, err)
	require.Equal(e, persist.StateDelivered, found[0].State)
	e.acknowledge(lane, persist.Receipt{ID: "a"})
	_, err = e.store.GetOutbox(e.ctx, "a")
	require.ErrorIs(e, err, persist.ErrNotFound)
}

func checkPurge(e *env) {
	here := keyOf(e, 1)
	for _, m := range messages("m", 8) {
		m.OrderingKey, m.Receipt = here, true
		e.enqueue(m)
	}
	e.enqueue(with(message("elsewhere"), func(m *persist.Message) { m.OrderingKey = keyOf(e, 0) }))
	lane := e.acquire(1)
	handed := e.next(lane)
	e.deliver(lane, handed[0], handed[2])
	purge := func(req persist.ListRequest, want int) {
		e.Helper()
		n, err := e.store.PurgeOutbox(e.ctx, req)
		require.NoError(e, err)
		require.Equal(e, want, n)
	}
	pending := []persist.State{persist.StatePending}
	purge(persist.ListRequest{Lane: 1, Limit: 2, States: pending}, 2)
	require.Equal(e, []string{"m0", "m2", "m4", "m5", "m6", "m7"}, ids(e.stored(1)))
	purge(persist.ListRequest{Lane: 1, Limit: 1, States: pending, After: handed[4].Position}, 1)
	purge(persist.ListRequest{Lane: 1, Limit: 9, States: []persist.State{persist.StateDelivered}}, 2)
	purge(persist.ListRequest{Lane: 1, Limit: 9, States: []persist.State{persist.StateFailed}}, 0)
	require.Equal(e, []string{"m4", "m6", "m7"}, ids(e.stored(1)))
	e.deliver(lane, handed...)
	stats := e.stats()
	require.EqualValues(e, 3, stats.Delivered)
	require.EqualValues(e, 1, stats.Pending)
	require.Zero(e, stats.Dropped, "purged is not dropped")
	require.Equal(e, []bool{false, true}, e.acknowledge(lane, persist.Receipt{ID: "m1"}, persist.Receipt{ID: "m4"}))
	purge(persist.ListRequest{Lane: 1, Limit: 9}, 2)
	require.Equal(e, []string{"elsewhere"}, ids(e.stored(0)))
	require.Empty(e, e.letters(persist.DeadLetterFilter{}))
	require.Empty(e, e.next(lane))
}

func checkLooking(e *env) {
	e.enqueue(messages("m", 3)...)
	lane := e.acquire(0)
	for range 2 {
		before := snapshot(e)
		e.lookup(persist.Ref{Position: 1})
		_, err := e.store.GetOutbox(e.ctx, "m0")
		require.NoError(e, err)
		require.Equal(e, before, snapshot(e))
		require.Equal(e, []string{"m0", "m1", "m2"}, ids(e.next(lane)))
		e.release(lane)
		lane = e.acquire(0)
	}
}
