package persisttest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// completionCases are about marking keys, and forgetting them.
func completionCases() []testCase {
	return []testCase{
		{tag: "CLAIM-5", name: "a stale claim changes nothing", run: checkStaleCompletion},
		{tag: "CLAIM-5", name: "an ended lease is good until taken over", run: checkEndedClaim},
		{tag: "CLAIM-5", name: "a released claim is not", run: checkReleasedCompletion},
		{tag: "CLAIM-5", name: "completing again", run: checkCompleteAgain},
		{tag: "CLAIM-5", name: "one by one", run: checkCompleteMixed},
		{tag: "CLAIM-6", name: "with a dead letter", run: checkCompleteDead},
		{tag: "CLAIM-10", name: "the mark tells how it ended", run: checkMarkEnd},
		{tag: "CLAIM-11", name: "attempts are what the holder says", run: checkAttemptsTold},
		{tag: "CLAIM-8", name: "closed windows are forgotten", run: checkExpire},
		{tag: "CLAIM-8", name: "nothing else is", run: checkExpireKeeps},
		{tag: "CLAIM-8", name: "all keys in turn", run: checkExpireInTurn},
		{tag: "CLAIM-8", name: "a forgotten key's old claim", run: checkForgottenEpoch},
		{tag: "Forget", name: "completed keys", run: checkForget},
		{tag: "CLAIM-13", name: "a group that never claimed stays unknown", run: checkForgetUnknown},
	}
}

func (e *env) expire(limit int) int {
	e.Helper()
	forgotten, err := e.store.ExpireProcessed(e.ctx, limit)
	require.NoError(e, err, "expire")
	require.GreaterOrEqual(e, forgotten, 0)
	require.LessOrEqual(e, forgotten, limit)
	return forgotten
}

func checkStaleCompletion(e *env) {
	stale := e.claim("k")
	e.advance(lease)
	holder := e.claim("k")
	dead := letter("stale")
	done, err := e.store.Complete(e.ctx, "g", []persist.Completion{{Claim: stale, Dead: &dead}}, time.Hour)
	require.NoError(e, err)
	require.Equal(e, []bool{false}, done)
	require.Equal(e, persist.ClaimBusy, e.claim("k").State)
	require.Equal(e, []bool{false}, e.renewClaims(10*lease, stale))
	e.releaseClaims(stale)
	require.Equal(e, persist.ClaimBusy, e.claim("k").State)
	require.Equal(e, []bool{true}, e.complete(time.Hour, holder))
	require.Equal(e, []bool{false}, e.complete(100*time.Hour, stale))
	e.advance(2 * time.Hour)
	granted(e, e.claim("k"), 1)
	require.Equal(e, []bool{false, false}, e.complete(time.Hour, stale, holder))
	require.Equal(e, persist.ClaimBusy, e.claim("k").State)
	require.Equal(e, []bool{false}, e.complete(time.Hour, persist.Claim{Key: "never claimed", Epoch: 1}))
	granted(e, e.claim("never claimed"), 1)
	require.Empty(e, e.letters(persist.DeadLetterFilter{}))
}

func checkEndedClaim(e *env) {
	claim := e.claim("k")
	e.advance(10 * lease)
	e.expire(100)
	require.Equal(e, []bool{true}, e.complete(time.Hour, claim))
	require.Equal(e, persist.ClaimCompleted, e.claim("k").State)
}

func checkReleasedCompletion(e *env) {
	claim := e.claim("k")
	e.releaseClaims(claim)
	require.Equal(e, []bool{false}, e.complete(time.Hour, claim))
	granted(e, e.claim("k"), 2)
}

func checkCompleteAgain(e *env) {
	claim := e.claim("k")
	dead := letter("d")
	completion := []persist.Completion{{Claim: claim, Dead: &dead}}
	for range 2 {
		done, err := e.store.Complete(e.ctx, "g", completion, time.Hour)
		require.NoError(e, err)
		require.Equal(e, []bool{true}, done)
	}
	require.Len(e, e.letters(persist.DeadLetterFilter{}), 1, "an answer that got lost is asked for again")
	e.advance(30 * time.Minute)
	require.Equal(e, []bool{true}, e.complete(time.Hour, claim))
	e.advance(45 * time.Minute)
	require.Equal(e, persist.ClaimCompleted, e.claim("k").State, "the window counts from the last completion")
}

func checkCompleteMixed(e *env) {
	first := e.claims("g", lease, "a", "b", "c")
	e.releaseClaims(first[1])
	again := e.claim("b")
	require.Equal(e, []bool{true, false, false, true, true}, e.complete(time.Hour,
		first[2], first[1], persist.Claim{Key: "unknown", Epoch: 1}, again, first[0]))
	for _, claim := range e.claims("g", lease, "a", "b", "c") {
		require.Equal(e, persist.ClaimCompleted, claim.State)
	}
}

func checkCompleteDead(e *env) {
	claims := e.claims("g", lease, "good", "bad", "stale")
	e.releaseClaims(claims[2])
	dead, never := letter("bad"), letter("stale")
	done, err := e.store.Complete(e.ctx, "g", []persist.Completion{
		{Claim: claims[0]}, {Claim: claims[1], Dead: &dead}, {Claim: claims[2], Dead: &never},
	}, time.Hour)
	require.NoError(e, err)
	require.Equal(e, []bool{true, true, false}, done)
	require.Equal(e, persist.ClaimCompleted, e.claim("bad").State, "what was given up is not tried again")
	if e.h.Durable {
		e.crash()
		require.Equal(e, persist.ClaimCompleted, e.claim("bad").State)
	}
	letters := e.letters(persist.DeadLetterFilter{})
	require.Len(e, letters, 1)
	sameLetter(e, dead, letters[0])
}

func checkMarkEnd(e *env) {
	e.giveUp("g", "dead", uuid, long)
	e.complete(time.Hour, e.claims("g", lease, "processed")...)
	if e.h.Durable {
		e.crash()
	}
	for _, claim := range e.claims("g", lease, "dead", "processed", uuid, long) {
		require.Equal(e, persist.Claim{Key: claim.Key, State: persist.ClaimCompleted, Dead: claim.Key != "processed"}, claim)
	}
	e.advance(2 * time.Hour)
	again := e.claims("g", lease, "dead", uuid)
	granted(e, again[0], 1)
	require.Equal(e, []bool{true, true}, e.complete(time.Hour, again...))
	for _, claim := range e.claims("g", lease, "dead", uuid) {
		require.Equal(e, persist.Claim{Key: claim.Key, State: persist.ClaimCompleted}, claim, "a later end is another")
	}
	e.advance(2 * time.Hour)
	for range 10 {
		e.expire(100)
	}
	require.Zero(e, e.stats().Completed, "both kinds are forgotten")
}

// A process that dies has claimed more than it had begun. Who claims these keys next
// can say so, lest they pass for messages that kill.
func checkAttemptsTold(e *env) {
	claim := e.claim("k")
	claim.Attempts = 0
	e.releaseClaims(claim)
	again := e.claim("k")
	granted(e, again, 1)
	again.Attempts = 4
	require.Equal(e, []bool{true}, e.renewClaims(lease, again))
	if e.h.Durable {
		e.crash()
	}
	e.advance(2 * lease)
	third := e.claim("k")
	granted(e, third, 5)
	again.Attempts = 100
	require.Equal(e, []bool{false}, e.renewClaims(lease, again))
	e.releaseClaims(again) // no longer held
	third.Attempts = 6
	e.releaseClaims(third)
	granted(e, e.claim("k"), 7)
	other := e.claims("g", lease, uuid, long)
	for i := range other {
		other[i].Attempts = 7 + i
	}
	require.Equal(e, []bool{true, true}, e.renewClaims(lease, other...))
	e.releaseClaims(other[1])
	other[0].Attempts = 0
	require.Equal(e, []bool{true}, e.renewClaims(lease, other[0]))
	e.releaseClaims(other[0])
	after := e.claims("g", lease, uuid, long)
	granted(e, after[0], 1)
	granted(e, after[1], 9)
}

func checkExpire(e *env) {
	claims := e.claims("g", lease, "a", "b", "c")
	e.complete(time.Hour, claims[0], claims[1])
	e.complete(10*time.Hour, claims[2])
	require.Zero(e, e.expire(100))
	require.EqualValues(e, 3, e.stats().Completed)
	e.advance(2 * time.Hour)
	require.Equal(e, 2, e.expire(100))
	require.Zero(e, e.expire(100))
	require.EqualValues(e, 1, e.stats().Completed)
	require.Equal(e, persist.ClaimCompleted, e.claim("c").State)
	granted(e, e.claim("a"), 1)
	granted(e, e.claim("b"), 1)
}

func checkExpireKeeps(e *env) {
	claims := e.claims("g", lease, "in work", "ended", "released", "completed")
	e.releaseClaims(claims[2])
	e.complete(20*time.Hour, claims[3])
	e.renewClaims(20*time.Hour, claims[0])
	e.advance(lease / 2)
	for range 5 {
		require.Zero(e, e.expire(100))
	}
	granted(e, e.claim("released"), 2)
	e.advance(10 * lease)
	for range 5 {
		e.expire(100)
	}
	require.Equal(e, persist.ClaimBusy, e.claim("in work").State)
	require.Equal(e, persist.ClaimCompleted, e.claim("completed").State)
	granted(e, e.claim("ended"), 2) // a crash in the handler is counted although a sweep came between
}

func checkExpireInTurn(e *env) {
	const n = 100
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprint("k", i))
	}
	for i, claim := range e.claims("g", 100*time.Hour, keys...) {
		switch i % 3 {
		case 0:
			e.complete(time.Hour, claim)
		case 1:
			e.complete(100*time.Hour, claim)
		}
	}
	e.advance(2 * time.Hour)
	total := 0
	for range 2 * n / 7 { // twice round, seven keys at a time
		total += e.expire(7)
	}
	require.Equal(e, n/3+1, total)
	for i, claim := range e.claims("g", lease, keys...) {
		require.Equal(e, []persist.ClaimState{persist.ClaimGranted, persist.ClaimCompleted, persist.ClaimBusy}[i%3], claim.State)
	}
}

// A store that began the epochs of a forgotten key anew would let a replica
// that slept all the while complete a key that another has in work.
func checkForgottenEpoch(e *env) {
	sleeper := e.claim("k")
	e.advance(lease)
	done := e.claim("k")
	e.complete(time.Hour, done)
	e.advance(2 * time.Hour)
	require.Equal(e, 1, e.expire(10))
	require.Equal(e, []bool{false, false}, e.complete(time.Hour, sleeper, done), "of a key that is not known")
	for range 2 {
		again := e.claim("k")
		granted(e, again, 1)
		require.Greater(e, again.Epoch, done.Epoch)
		require.Equal(e, []bool{false, false}, e.renewClaims(lease, sleeper, done))
		require.Equal(e, []bool{false, false}, e.complete(time.Hour, sleeper, done))
		require.Equal(e, []bool{true}, e.complete(time.Hour, again))
		forgotten, err := e.store.Forget(e.ctx, "g", []string{"k"})
		require.NoError(e, err)
		require.Equal(e, 1, forgotten)
	}
}

func checkForget(e *env) {
	claims := e.claims("g", lease, "a", "b", "in work")
	e.complete(time.Hour, claims[0], claims[1])
	forgotten, err := e.store.Forget(e.ctx, "g", []string{"a", "in work", "unknown"})
	require.NoError(e, err)
	require.Equal(e, 1, forgotten)
	again := e.claim("a")
	granted(e, again, 1)
	require.Equal(e, persist.ClaimCompleted, e.claim("b").State)
	require.Equal(e, persist.ClaimBusy, e.claim("in work").State)
	forgotten, err = e.store.Forget(e.ctx, "other", []string{"b"})
	require.NoError(e, err)
	require.Zero(e, forgotten)
	require.Equal(e, []bool{true, true}, e.complete(time.Hour, again, claims[2]))
}

func checkForgetUnknown(e *env) {
	e.complete(time.Hour, e.claim("k"))
	forgotten, err := e.store.Forget(e.ctx, "unknown", []string{"k", "l"})
	require.NoError(e, err)
	require.Zero(e, forgotten)
	require.Equal(e, []string{"g"}, e.stats().Groups)
	// It claims afterwards like any other.
	claims := e.claims("unknown", lease, "k")
	granted(e, claims[0], 1)
	require.Equal(e, []string{"g", "unknown"}, e.stats().Groups)
	require.Equal(e, persist.ClaimCompleted, e.claim("k").State)
}
