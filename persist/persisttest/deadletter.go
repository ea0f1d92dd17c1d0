package persisttest

import (
	"context"
	"fmt"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// deadLetterCases are about messages that failed for good.
func deadLetterCases() []testCase {
	return []testCase{
		{tag: "DEAD-1", name: "every field comes back", run: checkLetterFields},
		{tag: "DEAD-1", name: "all or none", run: checkLettersAllOrNone},
		{tag: "DeadLetters", name: "filters and pages", run: checkLetterFilter},
		{tag: "DeadLetters", name: "purge", run: checkLetterPurge},
		{tag: "DeadLetters", name: "numbers are never given out again", run: checkLetterNumbers},
		{tag: "DEAD-3", name: "retry in order", options: Options{Lanes: 2}, run: checkLetterRetry},
		{tag: "DEAD-3", name: "retry is a new entry", run: checkLetterRetryFresh},
		{tag: "DEAD-3", name: "retry of what is there already", run: checkLetterRetryDuplicate},
		{tag: "DEAD-3", name: "retry of messages without an ID", run: checkLetterRetryNoID},
		{tag: "DEAD-3", name: "retry with changes", run: checkLetterRetryChanged},
		{tag: "DEAD-3", name: "retry of letters that are gone", run: checkLetterRetryGone},
		{tag: "DEAD-4", name: "a retried letter is processed once more", run: checkLetterRetryForgets},
		{tag: "DEAD-4", name: "nothing else is forgotten", run: checkLetterRetryKeepsMarks},
		{tag: "DeadLetters", name: "by reason code and age", run: checkLetterCodeAndAge},
		{tag: "DeadLetters", name: "get one", run: checkLetterGet},
	}
}

// letter is a dead letter of the group "g".
func letter(id string) persist.DeadLetter {
	return persist.DeadLetter{
		Side: persist.SideConsumer, State: persist.StateFailed, Group: "g", Key: "key of " + id,
		Message: message(id), ReasonCode: 0x80, Reason: "reason of " + id, Attempts: 3,
		First: persist.Failure{Error: "first error of " + id, At: time.UnixMilli(1_700_000_000_123)},
		Last:  persist.Failure{Error: "last error of " + id, At: time.UnixMilli(1_700_000_009_456)},
	}
}

// retryLetters retries up to limit of the letters that a filter selects, as they
// are, but for those that cannot be read.
func retryLetters(ctx context.Context, store persist.Store, filter persist.DeadLetterFilter, limit int) (moved int, err error) {
	letters, err := store.ListDeadLetters(ctx, filter, 10_000)
	if err != nil {
		return 0, err
	}
	var retries []persist.Retry
	for i := range letters {
		if letters[i].Message.Topic != "" && len(retries) < limit {
			retries = append(retries, letters[i].Retry())
		}
	}
	out, err := store.RetryDeadLetters(ctx, retries)
	for _, r := range out {
		if !r.Gone {
			moved++
		}
	}
	return moved, err
}

func (e *env) retry(filter persist.DeadLetterFilter, limit int) (moved int, err error) {
	return retryLetters(e.ctx, e.store, filter, limit)
}

// sameLetter demands that a letter came back as it was added.
func sameLetter(e *env, want, got persist.DeadLetter) {
	e.Helper()
	require.Positive(e, got.Number)
	require.False(e, got.At.IsZero())
	e.sameMessage(want.Message, got.Message)
	if want.Side == persist.SideConsumer {
		require.Equal(e, want.Message.Expiry, got.Message.Expiry)
	}
	want.Number, want.At, want.Message = got.Number, got.At, got.Message
	want.First, want.Last = inMillis(want.First), inMillis(want.Last)
	got.First, got.Last = inMillis(got.First), inMillis(got.Last)
	require.Equal(e, want, got)
}

// inMillis makes times comparable.
func inMillis(f persist.Failure) persist.Failure {
	if !f.At.IsZero() {
		f.At = time.UnixMilli(f.At.UnixMilli())
	}
	return f
}

func checkLetterFields(e *env) {
	var want []persist.DeadLetter
	for i, m := range remarkable() {
		l := letter(fmt.Sprint(i))
		l.Message = m
		l.Reason, l.Key, l.Group = m.Topic, m.ID, m.OrderingKey
		l.First.Error, l.Last.Error = m.OrderingKey, m.Topic
		if i%2 == 0 {
			l.State = persist.StateExpired
		}
		want = append(want, l)
	}
	for _, name := range hostile() {
		l := letter("hostile")
		l.Group, l.Key, l.First.Error = name, name, name
		want = append(want, l)
	}
	empty := persist.DeadLetter{Side: persist.SideConsumer, State: persist.StateFailed, Message: message("bare letter")}
	foreign := letter("no message ID") // not every publisher sets one
	foreign.Message.ID = ""
	want = append(want, empty, foreign)
	require.NoError(e, e.store.AddDeadLetters(e.ctx, want))
	if e.h.Durable {
		e.crash()
	}
	got := e.letters(persist.DeadLetterFilter{})
	require.Len(e, got, len(want))
	last := int64(0)
	for i := range want {
		sameLetter(e, want[i], got[i])
		require.Greater(e, got[i].Number, last)
		last = got[i].Number
		e.around(0, got[i].At.Sub(got[0].At), "the time is the store's")
		require.Zero(e, got[i].At.Nanosecond()%int(time.Millisecond))
	}
	require.EqualValues(e, len(want), e.stats().ConsumerDead)
}

func checkLettersAllOrNone(e *env) {
	for _, bad := range []func(l *persist.DeadLetter){
		func(l *persist.DeadLetter) { l.Side = 0 },
		func(l *persist.DeadLetter) { l.Side = 7 },
		func(l *persist.DeadLetter) { l.State = persist.StatePending },
	} {
		letters := []persist.DeadLetter{letter("a"), letter("b"), letter("c")}
		bad(&letters[2])
		require.ErrorIs(e, e.store.AddDeadLetters(e.ctx, letters), persist.ErrInvalid)
	}
	require.Empty(e, e.letters(persist.DeadLetterFilter{}))
}

// mixedLetters puts letters of both sides into the store: two of the outbox,
// three of group "g" and two of group "h", in turns.
func mixedLetters(e *env) []persist.DeadLetter {
	e.Helper()
	e.enqueue(message("o0"), message("o1"))
	lane := e.acquire(0)
	for i, entry := range e.next(lane) {
		e.settle(lane, persist.Settlement{Position: entry.Position, Outcome: persist.OutcomeFailed})
		g, h := letter(fmt.Sprint("g", i)), letter(fmt.Sprint("h", i))
		h.Group = "h"
		require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{g, h}))
	}
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{letter("g2")}))
	e.release(lane)
	return e.letters(persist.DeadLetterFilter{})
}

func letterIDs(letters []persist.DeadLetter) []string {
	out := make([]string, len(letters))
	for i := range letters {
		out[i] = letters[i].Message.ID
	}
	return out
}

func checkLetterFilter(e *env) {
	all := mixedLetters(e)
	require.Equal(e, []string{"o0", "g0", "h0", "o1", "g1", "h1", "g2"}, letterIDs(all))
	numbers := []int64{all[5].Number, all[0].Number, all[5].Number, 1 << 40}
	for _, c := range []struct {
		filter persist.DeadLetterFilter
		want   []string
	}{
		{persist.DeadLetterFilter{Side: persist.SideOutbox}, []string{"o0", "o1"}},
		{persist.DeadLetterFilter{Side: persist.SideConsumer}, []string{"g0", "h0", "g1", "h1", "g2"}},
		{persist.DeadLetterFilter{Group: "g"}, []string{"g0", "g1", "g2"}},
		{persist.DeadLetterFilter{Group: "none"}, []string{}},
		{persist.DeadLetterFilter{Numbers: numbers}, []string{"o0", "h1"}},
		{persist.DeadLetterFilter{Numbers: numbers, Group: "h"}, []string{"h1"}},
		{persist.DeadLetterFilter{Numbers: numbers, After: all[0].Number}, []string{"h1"}},
		{persist.DeadLetterFilter{Numbers: []int64{1 << 40}}, []string{}},
		{persist.DeadLetterFilter{After: all[4].Number}, []string{"h1", "g2"}},
		{persist.DeadLetterFilter{After: all[1].Number, Side: persist.SideConsumer, Group: "g"}, []string{"g1", "g2"}},
		{persist.DeadLetterFilter{After: all[6].Number}, []string{}},
	} {
		require.Equal(e, c.want, letterIDs(e.letters(c.filter)), "%+v", c.filter)
	}
	var paged []string
	filter := persist.DeadLetterFilter{Side: persist.SideConsumer}
	for range len(all) {
		page, err := e.store.ListDeadLetters(e.ctx, filter, 2)
		require.NoError(e, err)
		if len(page) == 0 {
			break
		}
		paged = append(paged, letterIDs(page)...)
		filter.After = page[len(page)-1].Number
	}
	require.Equal(e, []string{"g0", "h0", "g1", "h1", "g2"}, paged)
}

func checkLetterPurge(e *env) {
	all := mixedLetters(e)
	purge := func(filter persist.DeadLetterFilter, limit, want int) {
		e.Helper()
		n, err := e.store.PurgeDeadLetters(e.ctx, filter, limit)
		require.NoError(e, err)
		require.Equal(e, want, n)
	}
	purge(persist.DeadLetterFilter{Group: "none"}, 10, 0)
	purge(persist.DeadLetterFilter{Group: "g"}, 2, 2)
	require.Equal(e, []string{"o0", "h0", "o1", "h1", "g2"}, letterIDs(e.letters(persist.DeadLetterFilter{})))
	purge(persist.DeadLetterFilter{Numbers: []int64{all[0].Number, all[1].Number, all[2].Number}}, 10, 2)
	purge(persist.DeadLetterFilter{Side: persist.SideOutbox}, 10, 1)
	purge(persist.DeadLetterFilter{After: all[5].Number}, 10, 1)
	stats := e.stats()
	require.Zero(e, stats.Failed)
	require.EqualValues(e, 1, stats.ConsumerDead)
	require.Equal(e, persist.StateDelivered, e.lookup(all[0].Ref)[0].State, "gone")
	require.Empty(e, e.stored(0))
	purge(persist.DeadLetterFilter{}, 10, 1)
	purge(persist.DeadLetterFilter{}, 10, 0)
}

func checkLetterNumbers(e *env) {
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{letter("a"), letter("b")}))
	last := e.letters(persist.DeadLetterFilter{})[1].Number
	_, err := e.store.PurgeDeadLetters(e.ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(e, err)
	if e.h.Durable {
		e.crash()
	}
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{letter("c")}))
	require.Greater(e, e.letters(persist.DeadLetterFilter{})[0].Number, last,
		"a listing's cursor must not step over a new letter")
}

func checkLetterRetry(e *env) {
	msgs := messages("m", 6)
	for i := range msgs {
		msgs[i].OrderingKey = keyOf(e, 1)
	}
	e.enqueue(msgs...)
	lane := e.acquire(1)
	handed := e.next(lane)
	for _, i := range []int{4, 1, 3, 0, 5} { // the order of their failing
		e.settle(lane, persist.Settlement{Position: handed[i].Position, Outcome: persist.OutcomeFailed, Reason: "r"})
	}
	letters := e.letters(persist.DeadLetterFilter{})
	require.Equal(e, []string{"m4", "m1", "m3", "m0", "m5"}, letterIDs(letters))
	retry := func(filter persist.DeadLetterFilter, limit, want int) {
		e.Helper()
		n, err := e.retry(filter, limit)
		require.NoError(e, err)
		require.Equal(e, want, n)
	}
	retry(persist.DeadLetterFilter{}, 2, 2)
	require.Equal(e, []string{"m4", "m1"}, ids(e.next(lane)))
	require.Equal(e, []string{"m3", "m0", "m5"}, letterIDs(e.letters(persist.DeadLetterFilter{})))
	retry(persist.DeadLetterFilter{Numbers: []int64{letters[4].Number, letters[2].Number}}, 10, 2)
	retry(persist.DeadLetterFilter{Side: persist.SideConsumer}, 10, 0)
	require.Equal(e, []string{"m3", "m5"}, ids(e.next(lane)))
	retry(persist.DeadLetterFilter{}, 10, 1)
	retry(persist.DeadLetterFilter{}, 10, 0)
	require.Equal(e, []string{"m2", "m4", "m1", "m3", "m5", "m0"}, ids(e.stored(1)), "new entries at the end of their lane")
	stats := e.stats()
	require.EqualValues(e, 6, stats.Pending)
	require.Zero(e, stats.Failed)
	require.Equal(e, persist.StateDelivered, e.lookup(handed[0].Ref)[0].State, "its old place is gone")
}

func checkLetterRetryFresh(e *env) {
	m := remarkable()[13]
	m.Delay = time.Hour
	place := e.enqueue(m)[0]
	lane := e.acquire(0)
	e.advance(2 * time.Hour)
	handed := e.next(lane)
	require.Len(e, handed, 1)
	e.settle(lane, persist.Settlement{Position: place.Position, Outcome: persist.OutcomeRetry, Reason: "busy"})
	e.settle(lane, persist.Settlement{Position: place.Position, Outcome: persist.OutcomeExpired, Reason: "late"})
	e.advance(24 * time.Hour)
	n, err := e.retry(persist.DeadLetterFilter{}, 10)
	require.NoError(e, err)
	require.Equal(e, 1, n)
	again := e.next(lane)
	require.Len(e, again, 1)
	require.Greater(e, again[0].Position, place.Position)
	require.Zero(e, again[0].Attempts)
	require.Empty(e, again[0].LastError)
	require.Zero(e, again[0].Message.Expiry, "without expiry")
	e.around(26*time.Hour, again[0].EnqueuedAt.Sub(handed[0].EnqueuedAt), "committed now")
	m.Delay = 0
	e.sameMessage(m, again[0].Message)
	require.Equal(e, []bool{true}, e.acknowledge(lane, persist.Receipt{ID: m.ID}), "it asks for its receipt as before")
}

func checkLetterRetryDuplicate(e *env) {
	for range 2 {
		place := e.enqueue(idempotent("a", ""))[0]
		lane := e.acquire(0)
		e.next(lane)
		e.settle(lane, persist.Settlement{Position: place.Position, Outcome: persist.OutcomeFailed})
		e.release(lane)
	}
	n, err := e.retry(persist.DeadLetterFilter{}, 10)
	require.NoError(e, err)
	require.Equal(e, 2, n)
	require.Equal(e, []string{"a"}, ids(e.stored(0)))
	require.Empty(e, e.letters(persist.DeadLetterFilter{}))
	require.True(e, e.enqueue(idempotent("a", ""))[0].Duplicate)
}

// Not every publisher gives its messages IDs, and none may be stored without.
func checkLetterRetryNoID(e *env) {
	foreign := letter("foreign")
	foreign.Message.ID = ""
	empty := persist.DeadLetter{Side: persist.SideConsumer, State: persist.StateFailed, Reason: "could not be read"}
	require.NoError(e, e.store.AddDeadLetters(e.ctx, []persist.DeadLetter{empty, foreign, foreign, letter("own")}))
	n, err := e.retry(persist.DeadLetterFilter{}, 3)
	require.NoError(e, err)
	require.Equal(e, 3, n, "what has no message stays, and stops nobody")
	require.Len(e, e.letters(persist.DeadLetterFilter{}), 1)
	made := ids(e.stored(0))
	require.Len(e, made, 3)
	for _, id := range made[:2] {
		require.NotEmpty(e, id)
		require.LessOrEqual(e, len(id), persist.MaxMessageID)
		require.Regexp(e, `^[!-~]+$`, id)
	}
	require.NotEqual(e, made[0], made[1])
	require.Equal(e, "own", made[2])
}
