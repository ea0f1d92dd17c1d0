package persisttest

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// claimCases are about taking dedup keys and keeping them.
func claimCases() []testCase {
	return []testCase{
		{tag: "CLAIM-1", name: "a completed key is a duplicate to everybody", run: checkCompletedKey},
		{tag: "CLAIM-1", name: "until its window closes", run: checkWindow},
		{tag: "CLAIM-2", name: "a key in work is busy", run: checkBusy},
		{tag: "CLAIM-2", name: "for as long as it is renewed", run: checkRenewClaims},
		{tag: "CLAIM-3", name: "epochs rise, attempts count", run: checkClaimEpochs},
		{tag: "CLAIM-3", name: "attempts begin anew after a completion", run: checkAttemptsReset},
		{tag: "CLAIM-4", name: "one grant in a race", run: checkClaimRace},
		{tag: "CLAIM-4", name: "one by one, in the order of the keys", run: checkClaimMixed},
		{tag: "CLAIM-7", name: "a released key is free at once", run: checkReleaseClaim},
		{tag: "Claim", name: "groups are apart", run: checkGroups},
		{tag: "Claim", name: "hostile names", run: checkHostileKeys},
		{tag: "Claim", name: "claims outlive a crash", run: checkClaimsAfterCrash},
		{tag: "Claim", name: "thousands of keys", run: checkManyKeys},
	}
}

func granted(e *env, claim persist.Claim, attempts int) {
	e.Helper()
	require.Equal(e, persist.ClaimGranted, claim.State)
	require.Positive(e, claim.Epoch)
	require.Equal(e, attempts, claim.Attempts)
}

func (e *env) renewClaims(ttl time.Duration, claims ...persist.Claim) []bool {
	e.Helper()
	held, err := e.store.RenewClaims(e.ctx, "g", claims, ttl)
	require.NoError(e, err, "renew claims")
	require.Len(e, held, len(claims))
	return held
}

func (e *env) releaseClaims(claims ...persist.Claim) {
	e.Helper()
	require.NoError(e, e.store.Release(e.ctx, "g", claims), "release claims")
}

func checkCompletedKey(e *env) {
	claim := e.claim("k")
	granted(e, claim, 1)
	require.Equal(e, []bool{true}, e.complete(time.Hour, claim))
	for range 3 {
		require.Equal(e, persist.ClaimCompleted, e.claim("k").State)
	}
	claims, err := e.handle().Claim(e.ctx, persist.ClaimRequest{Group: "g", Owner: "other", TTL: lease, Keys: []string{"k"}})
	require.NoError(e, err)
	require.Equal(e, persist.ClaimCompleted, claims[0].State)
	e.crash()
	if e.h.Durable {
		require.Equal(e, persist.ClaimCompleted, e.claim("k").State)
	}
}

func checkWindow(e *env) {
	claims := e.claims("g", lease, "short", "long")
	e.complete(time.Hour, claims[0])
	e.complete(10*time.Hour, claims[1])
	e.advance(30 * time.Minute)
	require.Equal(e, persist.ClaimCompleted, e.claim("short").State)
	if e.h.FrozenClock {
		e.advance(30*time.Minute - time.Millisecond)
		require.Equal(e, persist.ClaimCompleted, e.claim("short").State)
		e.advance(time.Millisecond)
	} else {
		e.advance(30 * time.Minute)
	}
	again := e.claim("short")
	granted(e, again, 1)
	require.Greater(e, again.Epoch, claims[0].Epoch)
	require.Equal(e, persist.ClaimCompleted, e.claim("long").State)
}

func checkBusy(e *env) {
	first := e.claim("k")
	granted(e, first, 1)
	e.advance(lease / 4)
	busy := e.claim("k") // by the same owner's name
	require.Equal(e, persist.ClaimBusy, busy.State)
	if busy.Owner != "" { // optional; then it is the truth
		require.Equal(e, first.Epoch, busy.Epoch, "the holder's epoch")
		require.Equal(e, first.Attempts, busy.Attempts, "the holder's attempts")
	}
	e.around(lease*3/4, busy.Remaining, "remaining")
	e.advance(lease / 2)
	busy = e.claim("k")
	require.Equal(e, persist.ClaimBusy, busy.State, "asking extends nothing")
	e.around(lease/4, busy.Remaining, "remaining")
	e.advance(lease / 4)
	granted(e, e.claim("k"), 2)
}

func checkRenewClaims(e *env) {
	claims := e.claims("g", lease, "a", "b")
	for range 3 {
		e.advance(lease / 2)
		require.Equal(e, []bool{true}, e.renewClaims(lease, claims[0]))
	}
	e.advance(lease / 4)
	require.Equal(e, persist.ClaimBusy, e.claim("a").State)
	granted(e, e.claim("b"), 2)
	require.Equal(e, []bool{false, true}, e.renewClaims(lease, claims[1], claims[0]), "b was taken over")
	e.advance(2 * lease)
	require.Equal(e, []bool{true}, e.renewClaims(lease, claims[0]), "ended, and taken over by nobody")
	require.Equal(e, persist.ClaimBusy, e.claim("a").State)
	e.releaseClaims(claims[0])
	require.Equal(e, []bool{false}, e.renewClaims(lease, claims[0]))
	last := e.claim("a")
	granted(e, last, 2)
	e.complete(time.Hour, last)
	require.Equal(e, []bool{false}, e.renewClaims(10*lease, last))
	require.Equal(e, persist.ClaimCompleted, e.claim("a").State, "a completed key cannot be in work again")
	held, err := e.store.RenewClaims(e.ctx, "g", []persist.Claim{{Key: "unknown", Epoch: 1}}, lease)
	require.NoError(e, err)
	require.Equal(e, []bool{false}, held)
	granted(e, e.claim("unknown"), 1)
}

func checkClaimEpochs(e *env) {
	last := int64(0)
	for i := range 6 {
		claim := e.claim("k")
		granted(e, claim, i+1)
		require.Greater(e, claim.Epoch, last)
		last = claim.Epoch
		switch {
		case i%3 == 0:
			e.releaseClaims(claim)
		case i%3 == 1 && e.h.Durable:
			e.crash()
			fallthrough
		default:
			e.advance(lease)
		}
	}
}

func checkAttemptsReset(e *env) {
	e.releaseClaims(e.claim("k"))
	claim := e.claim("k")
	granted(e, claim, 2)
	e.complete(time.Hour, claim)
	e.advance(2 * time.Hour)
	again := e.claim("k")
	granted(e, again, 1)
	require.Greater(e, again.Epoch, claim.Epoch)
}

func checkClaimRace(e *env) {
	handles := []persist.Store{e.store, e.handle(), e.handle()}
	const racers, keys = 12, 20
	for round := range 3 {
		var names []string
		for i := range keys {
			names = append(names, fmt.Sprint("round", round, "key", i))
		}
		var grants [keys]atomic.Int32
		e.together(racers, func(i int) error {
			claims, err := handles[i%len(handles)].Claim(e.ctx, persist.ClaimRequest{
				Group: "g", Owner: fmt.Sprint("racer", i), TTL: lease, Keys: names,
			})
			for k := range claims {
				if claims[k].State == persist.ClaimGranted {
					grants[k].Add(1)
				}
			}
			return err
		})
		for k := range grants {
			require.EqualValues(e, 1, grants[k].Load(), "grants of one key")
		}
	}
}

func checkClaimMixed(e *env) {
	first := e.claims("g", lease, "completed", "busy", "released", "ended")
	e.complete(10*time.Hour, first[0])
	e.releaseClaims(first[2])
	e.renewClaims(3*lease, first[1])
	e.advance(2 * lease)
	claims := e.claims("g", lease, "new", "busy", "completed", "ended", "released")
	granted(e, claims[0], 1)
	require.Equal(e, persist.ClaimBusy, claims[1].State)
	require.Equal(e, persist.ClaimCompleted, claims[2].State)
	granted(e, claims[3], 2)
	require.Equal(e, persist.ClaimGranted, claims[4].State)
}

func checkReleaseClaim(e *env) {
	claim := e.claim("k")
	e.releaseClaims(claim)
	e.advance(lease / 2)
	again := e.claim("k")
	granted(e, again, 2)
	e.releaseClaims(claim, persist.Claim{Key: "unknown", Epoch: 3})
	require.Equal(e, persist.ClaimBusy, e.claim("k").State, "a claim that is no longer held releases nothing")
	require.Equal(e, []bool{false}, e.complete(time.Hour, claim))
	require.Equal(e, []bool{true}, e.complete(time.Hour, again))
	e.releaseClaims(again)
	require.Equal(e, persist.ClaimCompleted, e.claim("k").State, "a completed key is not released")
	granted(e, e.claim("unknown"), 1)
}

func checkGroups(e *env) {
	a := e.claims("a", lease, "k")[0]
	for _, group := range []string{"b", "", "ak", "A"} {
		granted(e, e.claims(group, lease, "k")[0], 1)
	}
	done, err := e.store.Complete(e.ctx, "b", []persist.Completion{{Claim: a}}, time.Hour)
	require.NoError(e, err)
	if done[0] { // both groups may have given out the same epoch
		require.Equal(e, persist.ClaimCompleted, e.claims("b", lease, "k")[0].State)
	}
	require.Equal(e, persist.ClaimBusy, e.claims("a", lease, "k")[0].State)
	done, err = e.store.Complete(e.ctx, "a", []persist.Completion{{Claim: a}}, time.Hour)
	require.NoError(e, err)
	require.Equal(e, []bool{true}, done)
	require.Equal(e, persist.ClaimBusy, e.claims("", lease, "k")[0].State)
	n, err := e.store.Forget(e.ctx, "A", []string{"k"})
	require.NoError(e, err)
	require.Zero(e, n, "in work")
	require.Equal(e, persist.ClaimCompleted, e.claims("a", lease, "k")[0].State)
	// No two pairs of group and key are one when written one after the other.
	granted(e, e.claims("x", lease, "yz")[0], 1)
	granted(e, e.claims("xy", lease, "z")[0], 1)
	granted(e, e.claims("x:y", lease, "z")[0], 1)
	granted(e, e.claims("x", lease, "y:z")[0], 1)
	granted(e, e.claims("x\x00y", lease, "z")[0], 1)
	granted(e, e.claims("x", lease, "y\x00z")[0], 1)
}

// hostile are names that end up in keys, statements and paths.
func hostile() []string {
	return []string{
		"", " ", "{", "}", "{a}", "{a}:{b}", "a:b", "'", `"`, "';--", "\\", "\\'", "%", "_", "*", "?", "[a]", "$1", "?1",
		"a\x00b", "a\x00c", "\x00", "\r\n", "\xff\xfe", "größe", "gro\u0308ße", "🙂", "A", "a", "a ",
		strings.Repeat("k", 1<<16), strings.Repeat("k", 1<<16-1) + "l",
	}
}

func checkHostileKeys(e *env) {
	names := hostile()
	first := e.claims("g", lease, names...)
	for _, claim := range first {
		granted(e, claim, 1)
	}
	for _, claim := range e.claims("g", lease, names...) {
		require.Equal(e, persist.ClaimBusy, claim.State)
	}
	for i, done := range e.complete(time.Hour, first...) {
		require.True(e, done, "%.20q", names[i])
	}
	for _, name := range names {
		owner := e.claims(name, lease, "k")[0]
		granted(e, owner, 1)
		done, err := e.store.Complete(e.ctx, name, []persist.Completion{{Claim: owner}}, time.Hour)
		require.NoError(e, err)
		require.Equal(e, []bool{true}, done)
	}
	for _, claim := range e.claims("g", lease, names...) {
		require.Equal(e, persist.ClaimCompleted, claim.State)
	}
	forgotten, err := e.store.Forget(e.ctx, "g", names[:3])
	require.NoError(e, err)
	require.Equal(e, 3, forgotten)
	for i, claim := range e.claims("g", lease, names...) {
		require.Equal(e, i < 3, claim.State == persist.ClaimGranted)
	}
}

func checkClaimsAfterCrash(e *env) {
	claims := e.claims("g", lease, "in work", "completed", "released")
	e.complete(10*time.Hour, claims[1])
	e.releaseClaims(claims[2])
	e.crash()
	if !e.h.Durable {
		granted(e, e.claim("completed"), 1)
		return
	}
	require.Equal(e, persist.ClaimBusy, e.claim("in work").State)
	require.Equal(e, persist.ClaimCompleted, e.claim("completed").State)
	granted(e, e.claim("released"), 2)
	e.advance(lease)
	taken := e.claim("in work")
	granted(e, taken, 2)
	require.Equal(e, []bool{false}, e.complete(time.Hour, claims[0]), "the dead replica wakes up")
	require.Equal(e, []bool{true}, e.complete(time.Hour, taken))
}

func checkManyKeys(e *env) {
	const n = 3000
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprint("key", i)
	}
	claims := e.claims("g", lease, keys...)
	for i := range claims {
		granted(e, claims[i], 1)
	}
	for _, held := range e.renewClaims(lease, claims...) {
		require.True(e, held)
	}
	for _, done := range e.complete(time.Hour, claims[:n/2]...) {
		require.True(e, done)
	}
	e.releaseClaims(claims[n/2:]...)
	for i, claim := range e.claims("g", lease, keys...) {
		if i < n/2 {
			require.Equal(e, persist.ClaimCompleted, claim.State)
		} else {
			granted(e, claim, 2)
		}
	}
	forgotten, err := e.store.Forget(e.ctx, "g", keys)
	require.NoError(e, err)
	require.Equal(e, n/2, forgotten)
}
