package persisttest

import (
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// corruptionCases are about stored bytes that cannot be read.
func corruptionCases() []testCase {
	return []testCase{
		{tag: "OUTBOX-8", name: "an unreadable message", needs: needsCorruption, run: checkUnreadableMessage},
		{tag: "OUTBOX-8", name: "only unreadable messages", needs: needsCorruption, run: checkOnlyUnreadable},
		{tag: "DEAD-2", name: "an unreadable letter", needs: needsCorruption, run: checkUnreadableLetter},
	}
}

func (e *env) corruptMessage(ref persist.Ref) {
	e.Helper()
	require.NoError(e, e.backend.(Corrupter).CorruptMessage(e.ctx, ref))
}

func checkUnreadableMessage(e *env) {
	places := e.enqueue(messages("m", 5)...)
	e.corruptMessage(places[1].Ref)
	e.corruptMessage(places[4].Ref)
	e.crash()
	lane := e.acquire(0)
	require.Equal(e, []string{"m0", "m2", "m3"}, ids(e.next(lane)))
	letters := e.letters(persist.DeadLetterFilter{})
	require.Len(e, letters, 2)
	for i, ref := range []persist.Ref{places[1].Ref, places[4].Ref} {
		require.Equal(e, ref, letters[i].Ref)
		require.Equal(e, persist.SideOutbox, letters[i].Side)
		require.Equal(e, persist.StateFailed, letters[i].State)
		require.NotEmpty(e, letters[i].Reason)
		require.Empty(e, letters[i].Message.Topic, "a zero value in place of what cannot be read")
		require.Equal(e, persist.StateFailed, e.lookup(ref)[0].State)
	}
	stats := e.stats()
	require.EqualValues(e, 3, stats.Pending)
	require.EqualValues(e, 2, stats.Failed)
	n, err := e.retry(persist.DeadLetterFilter{}, 10)
	require.NoError(e, err)
	require.Zero(e, n, "what cannot be read cannot be sent")
	require.Len(e, e.letters(persist.DeadLetterFilter{}), 2)
}

func checkOnlyUnreadable(e *env) {
	for _, place := range e.enqueue(messages("m", 3)...) {
		e.corruptMessage(place.Ref)
	}
	e.enqueue(message("good"))
	lane := e.acquire(0)
	var got []string
	for range 4 { // page by page, so that whole pages may be unreadable
		got = append(got, e.draw(lane, 1)...)
	}
	require.Equal(e, []string{"good"}, got)
	require.Len(e, e.letters(persist.DeadLetterFilter{}), 3)
}

func checkUnreadableLetter(e *env) {
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{letter("a"), letter("b"), letter("c")}))
	before := e.letters(persist.DeadLetterFilter{})
	require.NoError(e, e.backend.(Corrupter).CorruptDeadLetter(e.ctx, before[1].Number))
	e.crash()
	letters := e.letters(persist.DeadLetterFilter{})
	require.Len(e, letters, 3)
	require.Equal(e, before[1].Number, letters[1].Number)
	require.Empty(e, letters[1].Message.Topic)
	require.NotEmpty(e, letters[1].Reason)
	sameLetter(e, letter("a"), letters[0])
	sameLetter(e, letter("c"), letters[2])
	n, err := e.retry(persist.DeadLetterFilter{}, 10)
	require.NoError(e, err)
	require.Equal(e, 2, n)
	require.Equal(e, []string{"a", "c"}, ids(e.stored(0)))
	n, err = e.store.PurgeDeadLetters(e.ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(e, err)
	require.Equal(e, 1, n)
}
