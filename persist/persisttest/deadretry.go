package persisttest

import (
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// What was changed on the way is stored as it was changed, under the old ID.
func checkLetterRetryChanged(e *env) {
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{letter("a"), letter("b")}))
	letters := e.letters(persist.DeadLetterFilter{})
	changed := letters[1].Retry()
	changed.Message.Topic, changed.Message.Payload = "another/topic", []byte("mended")
	changed.Message.Properties.User = []persist.UserProperty{{Name: "mended", Value: "yes"}}
	out, err := e.store.RetryDeadLetters(e.ctx, []persist.Retry{changed, letters[0].Retry()})
	require.NoError(e, err)
	require.Len(e, out, 2)
	stored := e.stored(0)
	require.Equal(e, []string{"b", "a"}, ids(stored), "in the order of the retries")
	e.sameMessage(changed.Message, stored[0].Message)
	for i := range out {
		require.False(e, out[i].Gone)
		require.False(e, out[i].Duplicate)
		require.Equal(e, stored[i].Ref, out[i].Ref)
	}
}

func checkLetterRetryGone(e *env) {
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{letter("a"), letter("b"), letter("c")}))
	letters := e.letters(persist.DeadLetterFilter{})
	_, err := e.store.PurgeDeadLetters(e.ctx, persist.DeadLetterFilter{Numbers: []int64{letters[1].Number}}, 1)
	require.NoError(e, err)
	var retries []persist.Retry
	for i := range letters {
		retries = append(retries, letters[i].Retry())
	}
	for round := range 2 {
		out, err := e.store.RetryDeadLetters(e.ctx, retries)
		require.NoError(e, err)
		require.Len(e, out, 3)
		for i := range out {
			require.Equal(e, round == 1 || i == 1, out[i].Gone, "round %d, letter %d", round, i)
		}
		require.Equal(e, []string{"a", "c"}, ids(e.stored(0)), "once")
	}
	out, err := e.store.RetryDeadLetters(e.ctx, nil)
	require.NoError(e, err)
	require.Empty(e, out)
}

// giveUp claims keys of a group and completes them with dead letters.
func (e *env) giveUp(group string, keys ...string) {
	e.Helper()
	var completions []persist.Completion
	for _, claim := range e.claims(group, lease, keys...) {
		granted(e, claim, 1)
		dead := letter(claim.Key)
		dead.Group, dead.Key = group, claim.Key
		completions = append(completions, persist.Completion{Claim: claim, Dead: &dead})
	}
	done, err := e.store.Complete(e.ctx, group, completions, time.Hour)
	require.NoError(e, err)
	for i := range done {
		require.True(e, done[i])
	}
}

// uuid is a key that stores keep in a form of their own, and long one of which
// they keep a hash.
const uuid = "018f2b7c-9a4e-7cc3-98c4-dc0c0c07398f"

const long = "property:8:order-id:" +
	"a value that is longer than any that a store keeps as it is: 64 bytes in one, 36 in another, 32 in the third"

// Before, a letter that was tried again within the window was answered as a
// duplicate of itself.
func checkLetterRetryForgets(e *env) {
	keys := []string{"k", uuid, long}
	e.giveUp("g", keys...)
	for _, claim := range e.claims("g", lease, keys...) {
		require.Equal(e, persist.Claim{Key: claim.Key, State: persist.ClaimCompleted, Dead: true}, claim)
	}
	require.EqualValues(e, 3, e.stats().Completed)
	n, err := e.retry(persist.DeadLetterFilter{}, 2)
	require.NoError(e, err)
	require.Equal(e, 2, n)
	if e.h.Durable {
		e.crash()
	}
	require.EqualValues(e, 1, e.stats().Completed)
	again := e.claims("g", lease, keys...)
	granted(e, again[0], 1) // its attempts begin anew
	granted(e, again[1], 1)
	require.Equal(e, persist.ClaimCompleted, again[2].State, "its letter is there still")
	require.Equal(e, []bool{true, true}, e.complete(time.Hour, again[:2]...))
	require.Equal(e, persist.Claim{Key: "k", State: persist.ClaimCompleted}, e.claim("k"), "processed, and not dead any more")
	e.advance(2 * time.Hour)
	granted(e, e.claim(long), 1)
}

func checkLetterRetryKeepsMarks(e *env) {
	e.giveUp("g", "k", "other", "kept", "in work", "processed since")
	e.giveUp("h", "k")
	letters := e.letters(persist.DeadLetterFilter{Group: "g"})
	require.Len(e, letters, 5)
	// One group has two letters of a key, as after a redelivery that was too old; the
	// first was tried again and processed.
	twice := letter("processed since")
	twice.Key = "processed since"
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{twice}))
	_, err := e.store.RetryDeadLetters(e.ctx, []persist.Retry{letters[4].Retry()})
	require.NoError(e, err)
	since := e.claim("processed since")
	granted(e, since, 1)
	require.Equal(e, []bool{true}, e.complete(time.Hour, since))
	_, err = e.store.Forget(e.ctx, "g", []string{"in work"})
	require.NoError(e, err)
	granted(e, e.claim("in work"), 1)

	retries := []persist.Retry{letters[0].Retry(), letters[2].Retry(), letters[3].Retry()}
	retries[1].KeepMark = true
	last := e.letters(persist.DeadLetterFilter{Group: "g"})
	retries = append(retries, last[len(last)-1].Retry())
	_, err = e.store.RetryDeadLetters(e.ctx, retries)
	require.NoError(e, err)
	claims := e.claims("g", lease, "k", "other", "kept", "in work", "processed since")
	granted(e, claims[0], 1)
	require.True(e, claims[1].Dead, "of another letter")
	require.Equal(e, persist.ClaimCompleted, claims[2].State, "asked to be kept")
	require.Equal(e, persist.ClaimBusy, claims[3].State, "whoever works on it goes on")
	require.Equal(e, persist.ClaimCompleted, claims[4].State, "processed since")
	require.False(e, claims[4].Dead)
	require.Equal(e, persist.ClaimCompleted, e.claims("h", lease, "k")[0].State, "another group's")
}

func checkLetterCodeAndAge(e *env) {
	for i, code := range []byte{0, 0x87, 0x97, 0x87} {
		l := letter(fmt.Sprint("m", i))
		l.ReasonCode = code
		require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{l}))
		e.advance(time.Hour)
	}
	all := e.letters(persist.DeadLetterFilter{})
	numbers := []int64{all[0].Number, all[1].Number, all[3].Number}
	for _, c := range []struct {
		filter persist.DeadLetterFilter
		want   []string
	}{
		{persist.DeadLetterFilter{ReasonCodes: []byte{0x87}}, []string{"m1", "m3"}},
		{persist.DeadLetterFilter{ReasonCodes: []byte{0, 0x97}}, []string{"m0", "m2"}},
		{persist.DeadLetterFilter{ReasonCodes: []byte{8}}, []string{}},
		{persist.DeadLetterFilter{ReasonCodes: []byte{}}, []string{}},
		{persist.DeadLetterFilter{OlderThan: 150 * time.Minute}, []string{"m0", "m1"}},
		{persist.DeadLetterFilter{OlderThan: 30 * time.Minute}, []string{"m0", "m1", "m2", "m3"}},
		{persist.DeadLetterFilter{OlderThan: 30 * time.Hour}, []string{}},
		{persist.DeadLetterFilter{OlderThan: 150 * time.Minute, ReasonCodes: []byte{0x87}}, []string{"m1"}},
		{persist.DeadLetterFilter{Numbers: numbers, OlderThan: 90 * time.Minute}, []string{"m0", "m1"}},
		{persist.DeadLetterFilter{Numbers: numbers, ReasonCodes: []byte{0x87}}, []string{"m1", "m3"}},
		{persist.DeadLetterFilter{Numbers: []int64{}}, []string{}},
	} {
		require.Equal(e, c.want, letterIDs(e.letters(c.filter)), "%+v", c.filter)
	}
	for _, c := range []struct {
		filter persist.DeadLetterFilter
		want   int
	}{
		{persist.DeadLetterFilter{Numbers: []int64{}}, 0},
		{persist.DeadLetterFilter{OlderThan: 150 * time.Minute, ReasonCodes: []byte{0x87}}, 1},
		{persist.DeadLetterFilter{ReasonCodes: []byte{0x97}}, 1},
		{persist.DeadLetterFilter{OlderThan: 90 * time.Minute}, 1},
	} {
		n, err := e.store.PurgeDeadLetters(e.ctx, c.filter, 10)
		require.NoError(e, err)
		require.Equal(e, c.want, n, "%+v", c.filter)
	}
	require.Equal(e, []string{"m3"}, letterIDs(e.letters(persist.DeadLetterFilter{})))
}

func checkLetterGet(e *env) {
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{letter("a"), letter("b")}))
	number := e.letters(persist.DeadLetterFilter{})[1].Number
	got, err := persist.GetDeadLetter(e.ctx, e.store, number)
	require.NoError(e, err)
	sameLetter(e, letter("b"), got)
	_, err = persist.GetDeadLetter(e.ctx, e.store, number+1)
	require.ErrorIs(e, err, persist.ErrNotFound)
}
