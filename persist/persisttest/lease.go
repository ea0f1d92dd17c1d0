package persisttest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// leaseCases are about the right to drain a lane.
func leaseCases() []testCase {
	return []testCase{
		{tag: "LEASE-1", name: "one holder at a time", options: Options{Lanes: 2}, run: checkOneHolder},
		{tag: "LEASE-1", name: "until the lease ends", run: checkLeaseEnds},
		{tag: "LEASE-1", name: "renewed", run: checkRenewed},
		{tag: "LEASE-1", name: "a dead holder's lease lasts", run: checkDeadHolder},
		{tag: "LEASE-1", name: "a race has one winner", options: Options{Lanes: 3}, run: checkAcquireRace},
		{tag: "LEASE-1", name: "its holder takes it anew", run: checkHolderTakesAnew},
		{tag: "LEASE-1", name: "nobody's name is no holder's", run: checkNamelessHolder},
		{tag: "LEASE-2", name: "epochs rise", options: Options{Lanes: 2}, run: checkEpochs},
		{tag: "LEASE-3", name: "a later epoch fences the earlier", run: checkFenced},
		{tag: "LEASE-3", name: "a released lease is fenced at once", run: checkReleasedFenced},
		{tag: "LEASE-4", name: "an ended lease is good until taken over", run: checkEndedLease},
		{tag: "Lanes", name: "who drains what", options: Options{Lanes: 2}, run: checkLaneInfo},
	}
}

// held demands that nobody but its holder gets the lane.
func (e *env) held(lane int) {
	e.Helper()
	got, err := e.store.AcquireLane(e.ctx, lane, "intruder", lease)
	require.ErrorIs(e, err, persist.ErrLeaseHeld)
	require.NotErrorIs(e, err, persist.ErrUnknownOutcome)
	require.Nil(e, got)
}

func checkOneHolder(e *env) {
	lane := e.acquire(0)
	e.held(0)
	_, err := e.handle().AcquireLane(e.ctx, 0, "other", lease)
	require.ErrorIs(e, err, persist.ErrLeaseHeld)
	e.acquire(1)
	e.release(lane)
	_, err = e.handle().AcquireLane(e.ctx, 0, "other", lease)
	require.NoError(e, err)
	e.held(0)
}

// checkHolderTakesAnew is about a holder that does not know that it is: the answer
// to its AcquireLane, or its Release, was lost.
func checkHolderTakesAnew(e *env) {
	e.enqueue(seeking("a"), message("b"))
	earlier := e.acquire(0)
	handed := e.next(earlier)
	require.NoError(e, earlier.Renew(e.ctx, lease, true))
	lane, err := e.handle().AcquireLane(e.ctx, 0, "owner", 2*lease)
	require.NoError(e, err)
	require.Greater(e, lane.Epoch(), earlier.Epoch())
	require.False(e, lane.SentUntil().IsZero(), "the earlier holder may have sent")
	e.fenced(earlier, handed[0].Position)
	require.Equal(e, []string{"a", "b"}, ids(e.next(lane)))
	e.advance(lease)
	e.held(0) // for the time of the later lease
	e.release(lane)
	e.acquire(0)
}

func checkNamelessHolder(e *env) {
	lane, err := e.store.AcquireLane(e.ctx, 0, "", lease)
	require.NoError(e, err)
	_, err = e.handle().AcquireLane(e.ctx, 0, "", lease)
	require.ErrorIs(e, err, persist.ErrLeaseHeld)
	require.NoError(e, lane.Renew(e.ctx, lease, false))
}

func checkLeaseEnds(e *env) {
	_, err := e.store.AcquireLane(e.ctx, 0, "a", lease)
	require.NoError(e, err)
	e.advance(lease / 2)
	e.held(0)
	if e.h.FrozenClock {
		e.advance(lease/2 - time.Millisecond)
		e.held(0)
		e.advance(time.Millisecond)
	} else {
		e.advance(lease / 2)
	}
	e.acquire(0)
}

func checkRenewed(e *env) {
	lane := e.acquire(0)
	for range 4 {
		e.advance(lease / 2)
		require.NoError(e, lane.Renew(e.ctx, lease, false))
	}
	e.held(0)
	require.NoError(e, lane.Renew(e.ctx, lease/4, false), "a shorter lease counts from now as well")
	e.advance(lease / 2)
	e.acquire(0)
	require.ErrorIs(e, lane.Renew(e.ctx, lease, false), persist.ErrLeaseLost)
}

func checkDeadHolder(e *env) {
	lane := e.acquire(0)
	e.crash()
	if !e.h.Durable {
		e.acquire(0)
		return
	}
	e.held(0)
	e.advance(lease)
	require.Greater(e, e.acquire(0).Epoch(), lane.Epoch())
}

func checkAcquireRace(e *env) {
	handles := []persist.Store{e.store, e.handle(), e.handle()}
	var last [3]int64
	for range 5 {
		var winners [3]atomic.Int32
		lanes := make([]atomic.Pointer[persist.Lane], 3)
		e.together(24, func(i int) error {
			lane, err := handles[i%len(handles)].AcquireLane(e.ctx, i%3, fmt.Sprint("racer ", i), lease)
			switch {
			case err == nil:
				winners[i%3].Add(1)
				lanes[i%3].Store(&lane)
				return nil
			case errors.Is(err, persist.ErrLeaseHeld):
				return nil
			}
			return err
		})
		for i := range winners {
			require.EqualValues(e, 1, winners[i].Load(), "holders of lane %d", i)
			won := *lanes[i].Load()
			require.Greater(e, won.Epoch(), last[i])
			last[i] = won.Epoch()
			e.release(won)
		}
	}
}

func checkEpochs(e *env) {
	last, other := int64(0), e.acquire(1).Epoch()
	require.Positive(e, other)
	for i := range 8 {
		lane := e.acquire(0)
		require.Greater(e, lane.Epoch(), last)
		last = lane.Epoch()
		switch {
		case i%3 == 0:
			e.release(lane)
		case i%3 == 1 && e.h.Durable:
			e.crash()
			fallthrough
		default:
			e.advance(lease + time.Minute)
		}
		infos, err := e.store.Lanes(e.ctx)
		require.NoError(e, err)
		require.Equal(e, last, infos[0].Epoch)
		require.Equal(e, other, infos[1].Epoch)
	}
}

// laneCalls are all calls of a lane that carry its epoch.
func laneCalls(lane persist.Lane, position int64) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"Renew": func(ctx context.Context) error { return lane.Renew(ctx, lease, false) },
		"Next": func(ctx context.Context) error {
			entries, err := lane.Next(ctx, 10, 1<<20)
			if len(entries) > 0 {
				return errors.New("entries were handed out")
			}
			return err
		},
		"Settle": func(ctx context.Context) error {
			return lane.Settle(ctx, []persist.Settlement{{Position: position}})
		},
		"Settle nothing": func(ctx context.Context) error { return lane.Settle(ctx, nil) },
		"Acknowledge": func(ctx context.Context) error {
			_, err := lane.Acknowledge(ctx, []persist.Receipt{{ID: "a"}})
			return err
		},
		"Release": func(ctx context.Context) error { return lane.Release(ctx) },
	}
}

// fenced demands that every call of a lane is refused and changes nothing.
func (e *env) fenced(lane persist.Lane, position int64) {
	e.Helper()
	before := snapshot(e)
	for name, call := range laneCalls(lane, position) {
		err := call(e.ctx)
		require.ErrorIs(e, err, persist.ErrLeaseLost, name)
		require.NotErrorIs(e, err, persist.ErrUnknownOutcome, name)
	}
	require.Equal(e, before, snapshot(e), "a call under a lost lease changed something")
}

func checkFenced(e *env) {
	e.enqueue(seeking("a"), message("b"))
	zombie := e.acquire(0)
	position := e.next(zombie)[0].Position
	e.advance(lease)
	holder := e.acquire(0)
	e.fenced(zombie, position)
	require.Equal(e, []string{"a", "b"}, ids(e.next(holder)))
	e.fenced(zombie, position)
	e.held(0) // the zombie's Renew and Release did not touch the lease
	e.release(holder)
	e.fenced(zombie, position)
	third := e.acquire(0)
	e.fenced(zombie, position)
	e.fenced(holder, position)
	require.Equal(e, []string{"a", "b"}, ids(e.next(third)))
}

func checkReleasedFenced(e *env) {
	e.enqueue(seeking("a"))
	lane := e.acquire(0)
	position := e.next(lane)[0].Position
	epoch := lane.Epoch()
	e.release(lane)
	e.fenced(lane, position)
	require.Equal(e, 0, lane.Number())
	require.Equal(e, epoch, lane.Epoch())
}

func checkEndedLease(e *env) {
	e.enqueue(seeking("a"), message("b"), message("c"))
	lane := e.acquire(0)
	handed := e.next(lane)
	e.advance(10 * lease)
	e.deliver(lane, handed[1])
	require.Equal(e, []bool{true}, e.acknowledge(lane, persist.Receipt{ID: "a"}))
	e.enqueue(message("d"))
	require.Equal(e, []string{"d"}, ids(e.next(lane)))
	require.NoError(e, lane.Renew(e.ctx, lease, false))
	e.held(0)
	require.Equal(e, []string{"c", "d"}, ids(e.stored(0)))
	e.advance(10 * lease)
	e.release(lane)
	e.fenced(lane, handed[2].Position)
}

func checkLaneInfo(e *env) {
	before, err := e.store.Lanes(e.ctx)
	require.NoError(e, err)
	require.Equal(e, []persist.LaneInfo{{Lane: 0}, {Lane: 1}}, before)
	lane, err := e.store.AcquireLane(e.ctx, 1, "host-7/größe", lease)
	require.NoError(e, err)
	e.advance(lease / 4)
	infos, err := e.store.Lanes(e.ctx)
	require.NoError(e, err)
	require.Equal(e, before[0], infos[0])
	require.Equal(e, "host-7/größe", infos[1].Owner)
	require.Equal(e, lane.Epoch(), infos[1].Epoch)
	e.around(lease*3/4, infos[1].Remaining, "remaining")
	require.Equal(e, len(infos), len(e.stats().Lanes))
	e.advance(lease)
	infos, err = e.store.Lanes(e.ctx)
	require.NoError(e, err)
	require.LessOrEqual(e, infos[1].Remaining, time.Duration(0))
	lane = e.acquire(1)
	e.release(lane)
	infos, err = e.store.Lanes(e.ctx)
	require.NoError(e, err)
	require.LessOrEqual(e, infos[1].Remaining, time.Duration(0), "released")
	require.Equal(e, lane.Epoch(), infos[1].Epoch)
}
