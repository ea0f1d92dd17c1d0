package persisttest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// supersedeCases are about messages that tell a state: the newest of a key is
// what counts.
func supersedeCases() []testCase {
	two := Options{Lanes: 2}
	return []testCase{
		{tag: "OUTBOX-14", name: "the newest of a key waits", options: two, run: checkSupersede},
		{tag: "OUTBOX-14", name: "in one call", options: two, run: checkSupersedeBatch},
		{tag: "OUTBOX-14", name: "what was handed out stays", run: checkSupersedeHanded},
		{tag: "OUTBOX-14", name: "for every holder", run: checkSupersedeNextHolder},
		{tag: "OUTBOX-14", name: "a delayed message", run: checkSupersedeDelayed},
		{tag: "OUTBOX-14", name: "a duplicate supersedes nothing", run: checkSupersedeDuplicate},
		{tag: "OUTBOX-14", name: "makes room", options: Options{Limits: persist.Limits{Messages: 2, Bytes: 500}}, run: checkSupersedeFull},
		{tag: "OUTBOX-14", name: "not by what failed before", run: checkSupersedeRetry},
		{tag: "OUTBOX-14", name: "after a crash", run: checkSupersedeCrash},
		{tag: "OUTBOX-14", name: "many callers, many keys, a holder that drains", options: two, run: checkSupersedeConcurrent},
		{tag: "OUTBOX-14", name: "a transaction that commits", needs: needsTx, run: checkSupersedeTxCommit},
		{tag: "OUTBOX-14", name: "a transaction that rolls back", needs: needsTx, run: checkSupersedeTxRollback},
		{tag: "OUTBOX-14", name: "handed out during a transaction", needs: needsTx, run: checkSupersedeTxHandOut},
		{tag: "OUTBOX-15", name: "dropped", options: Options{Limits: persist.Limits{Messages: 1}}, run: checkDroppedFate},
		{tag: "OUTBOX-15", name: "superseded", run: checkSupersededFate},
		{tag: "OUTBOX-16", name: "a holder's word", run: checkSupersededByHolder},
	}
}

// status is a message that only counts as long as it is the newest of its key.
func status(id, key string) persist.Message {
	return with(message(id), func(m *persist.Message) { m.OrderingKey, m.Supersede = key, true })
}

func checkSupersede(e *env) {
	a, b := keyOf(e, 0), keyOf(e, 1)
	first := e.enqueue(status("a1", a))[0]
	e.enqueue(status("b1", b), with(message("plain"), func(m *persist.Message) { m.OrderingKey = a }))
	second := e.enqueue(status("a2", a))[0]
	require.Greater(e, second.Position, first.Position)
	require.Equal(e, []string{"plain", "a2"}, ids(e.stored(0)), "the newest has a place of its own")
	require.Equal(e, []string{"b1"}, ids(e.stored(1)), "another key")
	e.enqueue(with(message("plain too"), func(m *persist.Message) { m.OrderingKey = a }))
	require.Equal(e, []string{"plain", "a2", "plain too"}, ids(e.stored(0)), "only by what asks for it")
	stats := e.stats()
	require.EqualValues(e, 1, stats.Superseded)
	require.EqualValues(e, 4, stats.Pending)
	require.EqualValues(e, 3, stats.Lanes[0].Pending)
	require.Zero(e, stats.Dropped)
	lane := e.acquire(0)
	entries := e.next(lane)
	require.Equal(e, []string{"plain", "a2", "plain too"}, ids(entries))
	e.deliver(lane, entries...)
	require.EqualValues(e, 1, e.stats().Pending)
}

func checkSupersedeBatch(e *env) {
	a, b := keyOf(e, 0), keyOf(e, 1)
	e.enqueue(status("a0", a), status("b0", b))
	places := e.enqueue(status("a1", a), status("b1", b), message("plain"), status("a2", a), status("a3", a))
	require.Equal(e, []string{"a3"}, keysOf(e.stored(0), a))
	require.Equal(e, []string{"b1"}, keysOf(e.stored(1), b))
	for i, fate := range e.lookup(places[0].Ref, places[1].Ref, places[3].Ref, places[4].Ref) {
		require.Equal(e, []persist.State{
			persist.StateSuperseded, persist.StatePending, persist.StateSuperseded, persist.StatePending,
		}[i], fate.State)
	}
	require.EqualValues(e, 4, e.stats().Superseded)
	require.EqualValues(e, 3, e.stats().Pending)
}

// keysOf are the IDs of the entries of a key.
func keysOf(entries []persist.Entry, key string) (found []string) {
	for i := range entries {
		if entries[i].Message.Key() == key {
			found = append(found, entries[i].Message.ID)
		}
	}
	return found
}

func checkSupersedeHanded(e *env) {
	lane := e.acquire(0)
	e.enqueue(status("a1", "k"))
	handed := e.next(lane)
	e.enqueue(status("a2", "k"))
	e.enqueue(status("a3", "k"))
	require.Equal(e, []string{"a1", "a3"}, ids(e.stored(0)))
	e.settle(lane, persist.Settlement{Position: handed[0].Position, Outcome: persist.OutcomeRetry, Reason: "busy"})
	e.enqueue(status("a4", "k"))
	require.Equal(e, []string{"a1", "a4"}, ids(e.stored(0)))
	e.settle(lane, persist.Settlement{Position: handed[0].Position, Outcome: persist.OutcomeReturned})
	require.Equal(e, []string{"a1", "a4"}, ids(e.next(lane)), "older ones come first")
	e.enqueue(status("a5", "k"))
	require.Equal(e, []string{"a1", "a4", "a5"}, ids(e.stored(0)))
	e.deliver(lane, handed...)
	require.Equal(e, []string{"a4", "a5"}, ids(e.stored(0)))
	require.EqualValues(e, 2, e.stats().Superseded)
	require.EqualValues(e, 2, e.stats().Pending)
}

func checkSupersedeNextHolder(e *env) {
	lane := e.acquire(0)
	e.enqueue(status("a1", "k"))
	e.next(lane)
	e.enqueue(status("a2", "k"))
	e.release(lane)
	e.enqueue(status("a3", "k"))
	lane = e.acquire(0)
	require.Equal(e, []string{"a1", "a3"}, ids(e.next(lane)), "a1 may have been sent")
	e.enqueue(status("a4", "k"))
	require.Equal(e, []string{"a4"}, ids(e.next(lane)))
}

func checkSupersedeDelayed(e *env) {
	e.enqueue(with(status("late", "k"), func(m *persist.Message) { m.Delay = time.Hour }))
	lane := e.acquire(0)
	require.Empty(e, e.next(lane))
	e.enqueue(status("now", "k"))
	require.Equal(e, []string{"now"}, ids(e.next(lane)))
	e.enqueue(with(status("later", "k"), func(m *persist.Message) { m.Delay = time.Hour }))
	e.advance(2 * time.Hour)
	require.Equal(e, []string{"later"}, ids(e.next(lane)))
	require.EqualValues(e, 1, e.stats().Superseded)
}

func checkSupersedeDuplicate(e *env) {
	own := func(id string) persist.Message {
		return with(status(id, "k"), func(m *persist.Message) { m.Idempotent = true })
	}
	first := e.enqueue(own("a"))[0]
	again := e.enqueue(own("a"))[0]
	require.Equal(e, persist.Enqueued{Ref: first.Ref, Duplicate: true}, again)
	require.Equal(e, []string{"a"}, ids(e.stored(0)))
	require.Zero(e, e.stats().Superseded)
	e.enqueue(own("b"))
	require.False(e, e.enqueue(own("a"))[0].Duplicate, "the ID of a superseded message is free")
	require.Equal(e, []string{"a"}, ids(e.stored(0)))
}

func checkSupersedeFull(e *env) {
	big := func(id, key string, size int) persist.Message {
		return with(status(id, key), func(m *persist.Message) {
			m.Payload = nil
			m.Payload = make([]byte, size-int(sizeOf(*m))-1)
		})
	}
	e.enqueue(big("a1", "a", 200), big("b1", "b", 200))
	e.full(status("c1", "c"))
	e.enqueue(big("a2", "a", 300))
	require.EqualValues(e, 500, e.stats().Bytes)
	e.full(big("a3", "a", 301))
	e.enqueue(big("a3", "a", 150), big("b2", "b", 250), big("a4", "a", 250))
	require.Equal(e, []string{"b2", "a4"}, ids(e.stored(0)))
	require.EqualValues(e, 500, e.stats().Bytes)
	require.EqualValues(e, 4, e.stats().Superseded)
	e.next(e.acquire(0))
	e.full(big("a5", "a", 150)) // what was handed out makes no room
}

func checkSupersedeRetry(e *env) {
	e.enqueue(status("old", "k"))
	lane := e.acquire(0)
	e.settle(lane, persist.Settlement{Position: e.next(lane)[0].Position, Outcome: persist.OutcomeFailed})
	e.enqueue(status("new", "k"))
	_, err := e.retry(persist.DeadLetterFilter{}, 1)
	require.NoError(e, err)
	require.Equal(e, []string{"new", "old"}, ids(e.stored(0)))
	e.enqueue(status("newer", "k"))
	require.Equal(e, []string{"old", "newer"}, ids(e.stored(0)))
}

func checkSupersedeCrash(e *env) {
	if !e.h.Durable {
		return
	}
	places := e.enqueue(status("a1", "k"))
	e.crash()
	e.enqueue(status("a2", "k"))
	e.crash()
	require.Equal(e, []string{"a2"}, ids(e.stored(0)))
	require.Equal(e, persist.StateSuperseded, e.lookup(places[0].Ref)[0].State)
	lane := e.acquire(0)
	e.next(lane)
	e.crash()
	e.enqueue(status("a3", "k"))
	require.Equal(e, []string{"a2", "a3"}, ids(e.stored(0)), "that it was handed out outlives the holder")
}

// Whatever comes between: of each key one message at most waits, the last one is
// delivered or waits, a message is delivered once or superseded, never both, and
// what is counted adds up.
func checkSupersedeConcurrent(e *env) {
	const callers, rounds = 8, 30
	keys := []string{keyOf(e, 0), keyOf(e, 1), keyOf(e, 0) + "'"}
	handles := make([]persist.Store, callers)
	for i := range handles {
		handles[i] = e.handle()
	}
	lanes := []persist.Lane{e.acquire(0), e.acquire(1)}
	refs := make([][]persist.Enqueued, callers+2)
	handed := make([][]persist.Entry, 2)
	e.together(callers+2, func(i int) error {
		for round := range rounds {
			if i >= callers { // a holder
				lane := lanes[i-callers]
				entries, err := lane.Next(e.ctx, 5, 1<<20)
				if err != nil {
					return err
				}
				settlements := make([]persist.Settlement, len(entries))
				for j := range entries {
					settlements[j].Position = entries[j].Position
				}
				handed[i-callers] = append(handed[i-callers], entries...)
				if err := lane.Settle(e.ctx, settlements); err != nil {
					return err
				}
				continue
			}
			places, err := handles[i].Enqueue(e.ctx, []persist.Message{
				status(fmt.Sprintf("%d.%d.0", i, round), keys[(i+round)%3]),
				status(fmt.Sprintf("%d.%d.1", i, round), keys[round%3]),
			})
			if err != nil {
				return err
			}
			refs[i] = append(refs[i], places...)
		}
		return nil
	})
	delivered := make(map[persist.Ref]bool)
	last := make(map[string]int64) // position of each key that was delivered last
	for _, entries := range handed {
		for i := range entries {
			require.False(e, delivered[entries[i].Ref], "handed out twice")
			delivered[entries[i].Ref] = true
			key := entries[i].Message.Key()
			require.Greater(e, entries[i].Position, last[key], "the order of a key")
			last[key] = entries[i].Position
		}
	}
	waiting := make(map[string]int)
	for lane := range 2 {
		for _, entry := range e.stored(lane) {
			waiting[entry.Message.Key()]++
			require.Greater(e, entry.Position, last[entry.Message.Key()])
		}
	}
	for _, key := range keys {
		require.LessOrEqual(e, waiting[key], 1, "of a key one message waits at most")
	}
	var superseded int64
	for _, places := range refs {
		for _, place := range places {
			switch fate := e.lookup(place.Ref)[0]; fate.State {
			case persist.StateSuperseded:
				superseded++
				require.False(e, delivered[place.Ref], "delivered and superseded")
			case persist.StateDelivered:
				require.True(e, delivered[place.Ref], "gone, and nobody had it")
			default:
				require.Equal(e, persist.StatePending, fate.State)
			}
		}
	}
	stats := e.stats()
	require.Equal(e, superseded, stats.Superseded)
	require.EqualValues(e, 2*callers*rounds, superseded+int64(len(delivered))+stats.Pending, "lost")
}

func checkSupersedeTxCommit(e *env) {
	first := e.enqueue(status("a1", "k"))[0]
	tx := e.begin()
	places := e.enqueueTx(tx, status("a2", "k"), status("a3", "k"))
	e.enqueueTx(tx, status("a4", "k"))
	require.NoError(e, tx.Commit(e.ctx))
	require.Equal(e, []string{"a4"}, ids(e.stored(0)))
	for _, fate := range e.lookup(first.Ref, places[0].Ref, places[1].Ref) {
		require.Equal(e, persist.StateSuperseded, fate.State)
	}
	require.EqualValues(e, 3, e.stats().Superseded)
	require.Equal(e, []string{"a4"}, ids(e.next(e.acquire(0))))
}

func checkSupersedeTxRollback(e *env) {
	first := e.enqueue(status("a1", "k"))[0]
	before := snapshot(e)
	tx := e.begin()
	e.enqueueTx(tx, status("a2", "k"))
	require.NoError(e, tx.Rollback(e.ctx))
	require.Equal(e, before, snapshot(e))
	require.Equal(e, persist.StatePending, e.lookup(first.Ref)[0].State)
	e.enqueue(status("a3", "k"))
	require.Equal(e, []string{"a3"}, ids(e.next(e.acquire(0))))
}

// A holder that reads while a transaction is open is handed the older message,
// or, where the two would be in each other's way, either of them later, but never
// both and never none.
func checkSupersedeTxHandOut(e *env) {
	for i, commits := range []bool{true, false} {
		key, old, newer := fmt.Sprint("k", i), fmt.Sprint("old", i), fmt.Sprint("new", i)
		lane := e.acquire(0)
		e.enqueue(status(old, key), message(fmt.Sprint("plain", i)))
		tx := e.begin()
		e.enqueueTx(tx, status(newer, key))
		type answer struct {
			entries []persist.Entry
			err     error
		}
		done := make(chan answer, 1)
		go func() {
			entries, err := lane.Next(e.ctx, 10, 1<<20)
			done <- answer{entries, err}
		}()
		var got []string
		waited := false
		select {
		case a := <-done:
			require.NoError(e, a.err)
			got = ids(a.entries)
			require.Contains(e, got, fmt.Sprint("plain", i), "one key does not hold up others")
			require.NotContains(e, got, newer)
			require.NotContains(e, got, old, "it may be superseded, for all that the store knows")
		case <-time.After(200 * time.Millisecond):
			waited = true // the store lets one writer on at a time
		}
		if commits {
			require.NoError(e, tx.Commit(e.ctx))
		} else {
			require.NoError(e, tx.Rollback(e.ctx))
		}
		if waited {
			a := <-done
			require.NoError(e, a.err)
			got = ids(a.entries)
		}
		got = append(got, ids(e.next(lane))...)
		if commits {
			require.ElementsMatch(e, []string{newer, fmt.Sprint("plain", i)}, got)
		} else {
			require.ElementsMatch(e, []string{old, fmt.Sprint("plain", i)}, got)
		}
		for _, entry := range e.stored(0) {
			e.deliver(lane, entry)
		}
		e.release(lane)
	}
}

func checkDroppedFate(e *env) {
	first := e.enqueue(droppable("a"))[0]
	second := e.enqueue(droppable("b"))[0]
	require.Equal(e, []persist.Fate{persist.FateOf(persist.StateDropped), {State: persist.StatePending}}, e.lookup(first.Ref, second.Ref))
	if e.h.Durable {
		e.crash()
		require.Equal(e, persist.StateDropped, e.lookup(first.Ref)[0].State)
	}
}

func checkSupersededFate(e *env) {
	first := e.enqueue(status("a", "k"))[0]
	second := e.enqueue(status("b", "k"))[0]
	require.Equal(e, []persist.Fate{persist.FateOf(persist.StateSuperseded), {State: persist.StatePending}}, e.lookup(first.Ref, second.Ref))
	_, err := e.store.GetOutbox(e.ctx, "a")
	require.ErrorIs(e, err, persist.ErrNotFound)
	require.Empty(e, e.letters(persist.DeadLetterFilter{}), "what is superseded is no dead letter")
}

func checkSupersededByHolder(e *env) {
	places := e.enqueue(status("a", "k"))
	lane := e.acquire(0)
	handed := e.next(lane)
	places = append(places, e.enqueue(status("b", "k"), message("plain"))...)
	e.next(lane)
	e.settle(lane,
		persist.Settlement{Position: handed[0].Position, Outcome: persist.OutcomeSuperseded},
		persist.Settlement{Position: handed[0].Position, Outcome: persist.OutcomeSuperseded}, // counts once
		persist.Settlement{Position: places[2].Position, Outcome: persist.OutcomeDelivered},
	)
	require.Equal(e, []string{"b"}, ids(e.stored(0)))
	require.Equal(e, persist.FateOf(persist.StateSuperseded), e.lookup(places[0].Ref)[0])
	stats := e.stats()
	require.EqualValues(e, 1, stats.Superseded)
	require.EqualValues(e, 1, stats.Pending)
	require.Equal(e, sizeOf(status("b", "k")), stats.Bytes)
	e.settle(lane, persist.Settlement{Position: handed[0].Position, Outcome: persist.OutcomeDelivered})
	require.Equal(e, persist.StateSuperseded, e.lookup(places[0].Ref)[0].State, "what has ended stays so")
}
