package persisttest

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// stepCases are about a store whose clock is set, forward or back: leases end too
// early or too late then, and that is all. Who holds what is a matter of epochs.
func stepCases() []testCase {
	return []testCase{
		{tag: "LEASE-2", name: "epochs rise though the clock steps", run: checkEpochsOverSteps},
		{tag: "LEASE-3", name: "fenced though the clock steps", run: checkFencedOverSteps},
		{tag: "LEASE-4", name: "a holder goes on though the clock steps back", run: checkHolderOverStepBack},
		{tag: "CLAIM-3", name: "epochs rise though the clock steps", run: checkClaimEpochsOverSteps},
		{tag: "CLAIM-5", name: "refused though the clock steps", run: checkClaimsOverSteps},
	}
}

// stepped is by how much a clock is set: more than any lease lasts.
const stepped = 5 * lease

// steps end before the time at which they began.
func steps() []time.Duration {
	return []time.Duration{stepped, -stepped, -stepped, 3 * stepped, -stepped, -4 * stepped, stepped}
}

func checkEpochsOverSteps(e *env) {
	last := int64(0)
	for _, by := range steps() {
		lane := e.acquire(0)
		require.Greater(e, lane.Epoch(), last)
		last = lane.Epoch()
		e.advance(by)
		require.NoError(e, lane.Renew(e.ctx, lease, false))
		e.held(0)
		e.release(lane)
	}
}

func checkFencedOverSteps(e *env) {
	e.enqueue(seeking("a"), message("b"))
	zombie := e.acquire(0)
	position := e.next(zombie)[0].Position
	e.advance(stepped) // the lease ends before its time: the zombie is at work
	holder := e.acquire(0)
	require.Greater(e, holder.Epoch(), zombie.Epoch())
	e.fenced(zombie, position)
	handed := e.next(holder)
	require.Equal(e, []string{"a", "b"}, ids(handed))

	e.advance(-2 * stepped) // the zombie's lease would be good, the holder's lasts too long
	e.fenced(zombie, position)
	e.held(0)
	e.deliver(holder, handed[1])
	e.advance(lease)
	e.held(0)
	require.NoError(e, holder.Renew(e.ctx, lease, true)) // from now on
	e.held(0)
	e.advance(lease)
	third := e.acquire(0)
	require.Greater(e, third.Epoch(), holder.Epoch())
	e.fenced(zombie, position)
	e.fenced(holder, position)
	require.Equal(e, []string{"a"}, ids(e.next(third)))
}

func checkHolderOverStepBack(e *env) {
	e.enqueue(message("a"), message("b"))
	lane := e.acquire(0)
	handed := e.next(lane)
	e.advance(-stepped)
	e.deliver(lane, handed[0])
	e.enqueue(message("c"))
	require.Equal(e, []string{"c"}, ids(e.next(lane)))
	// Its holder is gone: the others wait for longer, but not for ever.
	e.advance(lease)
	e.held(0)
	e.advance(stepped)
	next := e.acquire(0)
	require.Greater(e, next.Epoch(), lane.Epoch())
	require.Equal(e, []string{"b", "c"}, ids(e.next(next)))
	e.advance(-stepped)
	e.release(next) // which needs no clock
	require.Equal(e, []string{"b", "c"}, ids(e.next(e.acquire(0))))
}

// A key is forgotten between its claims, with its epoch, and the clock shows an
// earlier time than at the last one.
func checkClaimEpochsOverSteps(e *env) {
	const long = 48 * time.Hour // after which every store forgets a released key
	last := int64(0)
	for i, by := range steps() {
		claim := e.claim("k")
		granted(e, claim, 1)
		require.Greater(e, claim.Epoch, last)
		last = claim.Epoch
		if i%2 == 0 {
			require.Equal(e, []bool{true}, e.complete(time.Minute, claim))
		} else {
			e.releaseClaims(claim)
		}
		e.advance(long)
		forgotten, err := e.store.ExpireProcessed(e.ctx, 100)
		require.NoError(e, err)
		require.Equal(e, 1, forgotten)
		e.advance(by - long)
	}
}

func checkClaimsOverSteps(e *env) {
	zombie := e.claim("k")
	granted(e, zombie, 1)
	refused := func() {
		e.Helper()
		require.Equal(e, []bool{false}, e.renewClaims(lease, zombie))
		require.Equal(e, []bool{false}, e.complete(lease, zombie))
		e.releaseClaims(zombie) // ignored
	}
	e.advance(stepped) // its lease ends before its time
	holder := e.claim("k")
	granted(e, holder, 2)
	require.Greater(e, holder.Epoch, zombie.Epoch)
	refused()
	e.advance(-2 * stepped) // the zombie's would be good again
	refused()
	busy := e.claim("k")
	require.Equal(e, persist.ClaimBusy, busy.State)
	require.Equal(e, []bool{true}, e.renewClaims(lease, holder)) // from now on
	busy = e.claim("k")
	require.Equal(e, persist.ClaimBusy, busy.State)
	e.around(lease, busy.Remaining, "remaining")
	require.Equal(e, []bool{true}, e.complete(lease, holder))
	refused()
	e.advance(-stepped) // its mark lasts longer, which is no harm
	require.Equal(e, persist.ClaimCompleted, e.claim("k").State)
	refused()
	e.advance(stepped + lease)
	third := e.claim("k")
	granted(e, third, 1)
	require.Greater(e, third.Epoch, holder.Epoch)
	refused()
	require.Equal(e, []bool{false}, e.complete(lease, holder))
	require.Equal(e, []bool{true}, e.complete(lease, third))
}
