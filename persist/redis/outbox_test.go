package redis

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// Calls that were as large as their callers liked once held the server up for
// seconds, in one script, and every relay's lease with it. What must happen at once
// is refused beyond a limit that the error names.
func TestLargeCallsRefused(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.SharedRedis(t).URL(), Options{Prefix: newPrefix()})
	_, err := s.Enqueue(t.Context(), plainMessages("m", maxCallMessages+1))
	require.ErrorIs(t, err, persist.ErrInvalid)
	require.ErrorContains(t, err, strconv.Itoa(maxCallMessages))
	err = s.AddDeadLetters(t.Context(), failedLetters(maxCallMessages+1))
	require.ErrorIs(t, err, persist.ErrInvalid)
	require.ErrorContains(t, err, strconv.Itoa(maxCallMessages))

	large := plainMessages("m", 1)
	large[0].Payload = make([]byte, maxCallBytes)
	require.NoError(t, checkMessages("enqueue", "", persist.Limits{}, large))
	large = append(large, plainMessages("n", 1)...)
	err = checkMessages("enqueue", "", persist.Limits{}, large)
	require.ErrorIs(t, err, persist.ErrInvalid)
	require.ErrorContains(t, err, strconv.Itoa(maxCallBytes))
	letters := failedLetters(2)
	letters[0].Message.Payload = large[0].Payload
	require.ErrorIs(t, s.AddDeadLetters(t.Context(), letters), persist.ErrInvalid)

	_, err = s.Enqueue(t.Context(), plainMessages("m", maxCallMessages))
	require.NoError(t, err)
}

func failedLetters(n int) []persist.DeadLetter {
	letters := make([]persist.DeadLetter, n)
	for i, m := range plainMessages("x", n) {
		letters[i] = persist.DeadLetter{Side: persist.SideOutbox, State: persist.StateFailed, Message: m}
	}
	return letters
}

func retriesOf(letters []persist.DeadLetter) []persist.Retry {
	retries := make([]persist.Retry, len(letters))
	for i := range letters {
		retries[i] = letters[i].Retry()
	}
	return retries
}

// A retry moves what one script may, and refuses more.
func TestManyLettersRetried(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.SharedRedis(t).URL(), Options{Prefix: newPrefix()})
	require.NoError(t, s.AddDeadLetters(t.Context(), failedLetters(maxRetry+100)))
	letters, err := s.ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 10*maxRetry)
	require.NoError(t, err)
	_, err = s.RetryDeadLetters(t.Context(), retriesOf(letters))
	require.ErrorIs(t, err, persist.ErrInvalid)
	for _, part := range [][]persist.DeadLetter{letters[:maxRetry], letters[maxRetry:]} {
		out, err := s.RetryDeadLetters(t.Context(), retriesOf(part))
		require.NoError(t, err)
		require.Len(t, out, len(part))
	}
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, maxRetry+100, stats.Pending)
}

// A Lookup of many messages was one script, which held the server up. It takes
// several, and the answers are in the order of the question.
func TestLookupOfMany(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	s := openStore(t, server.URL(), Options{})
	places, err := s.Enqueue(t.Context(), plainMessages("m", 2*lookupRefs+500))
	require.NoError(t, err)
	refs := make([]persist.Ref, len(places))
	for i := range refs {
		refs[i] = places[i].Ref
		if i%7 == 0 {
			refs[i].Position += 1_000_000
		}
	}
	_, err = s.Lookup(t.Context(), refs[:1]) // the server learns the script
	require.NoError(t, err)
	before, err := strconv.Atoi(calls(t, server, "evalsha"))
	require.NoError(t, err)
	fates, err := s.Lookup(t.Context(), refs)
	require.NoError(t, err)
	require.Len(t, fates, len(refs))
	for i, fate := range fates {
		require.Equal(t, i%7 == 0, fate.Gone, i)
	}
	require.Equal(t, strconv.Itoa(before+3), calls(t, server, "evalsha"))
}
