package redis

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// openBackend opens a store on a clock that the backend moves.
func openBackend(t *testing.T) (*backend, persist.Store) {
	t.Helper()
	b := newBackend(t, testenv.SharedRedis(t).URL(), persisttest.Options{Lanes: 1})
	s, err := b.Open(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return b, s
}

// A sweep in small steps gets through a bucket that is larger than a step, and
// through many keys in work.
func TestSweepInSmallSteps(t *testing.T) {
	t.Parallel()
	b, s := openBackend(t)
	var keys []string
	for i := 0; len(keys) < 40; i++ {
		if key := fmt.Sprint("key ", i); bucketOf(fieldOf(key))&0xff00 == 0 { // few buckets
			keys = append(keys, key)
		}
	}
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: keys})
	require.NoError(t, err)
	for i, claim := range claims[:30] {
		window := time.Hour
		if i%3 == 0 {
			window = 1000 * time.Hour
		}
		_, err := s.Complete(t.Context(), "g", []persist.Completion{{Claim: claim}}, window)
		require.NoError(t, err)
	}
	// Those that stay come first in their hashes, and must not be counted twice.
	shared := newKeys(b.opts.Prefix)
	g := shared.group(hashed("g"))
	crowded := g.bucket(7)
	for i := range 20 {
		till := int64(epoch)
		if i < 15 {
			till += int64(1000 * time.Hour / time.Millisecond)
		}
		value := appendUint48(appendUint48(nil, 1), till)
		require.NoError(t, b.client.HSet(t.Context(), crowded, fmt.Sprintf("crowded field %02d", i), value).Err())
	}
	require.NoError(t, b.client.SetBit(t.Context(), g.used, 7, 1).Err())
	b.Advance(2 * time.Hour)
	forgotten := 0
	for range 2 * 60 / 4 { // twice round
		n, err := s.ExpireProcessed(t.Context(), 4)
		require.NoError(t, err)
		require.LessOrEqual(t, n, 4)
		forgotten += n
	}
	require.Equal(t, 20+5, forgotten)
	b.Advance(48 * time.Hour)
	for range 60 / 4 {
		n, err := s.ExpireProcessed(t.Context(), 4)
		require.NoError(t, err)
		forgotten += n
	}
	require.Equal(t, 20+5+10, forgotten, "those that were abandoned")
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Zero(t, stats.InWork)
}

// The oldest pending message is found behind many that await their receipts, and
// when one of those is due again.
func TestOldestPending(t *testing.T) {
	t.Parallel()
	b, s := openBackend(t)
	msgs := plainMessages("m", 400)
	for i := range msgs {
		msgs[i].Receipt = true
	}
	_, err := s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
	b.Advance(time.Hour)
	_, err = s.Enqueue(t.Context(), plainMessages("pending", 1))
	require.NoError(t, err)
	lane, err := s.AcquireLane(t.Context(), 0, "o", 1000*time.Hour)
	require.NoError(t, err)
	entries, err := lane.Next(t.Context(), 400, 1<<20)
	require.NoError(t, err)
	settlements := make([]persist.Settlement, len(entries))
	for i := range entries {
		settlements[i] = persist.Settlement{Position: entries[i].Position, ReceiptTimeout: 2 * time.Hour}
	}
	require.NoError(t, lane.Settle(t.Context(), settlements))
	oldest := func() time.Duration {
		stats, err := s.Stats(t.Context())
		require.NoError(t, err)
		return stats.OldestPending
	}
	b.Advance(time.Hour)
	for range 3 {
		require.Equal(t, time.Hour, oldest())
	}
	b.Advance(2 * time.Hour)
	entries, err = lane.Next(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, entries, 10)
	require.Equal(t, 4*time.Hour, oldest())
}

// Large messages come in pages that the server can bear, and all of them come.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	_, s := openBackend(t)
	const n = 40
	for i := range n {
		msgs := plainMessages(fmt.Sprint("m", i, "."), 1)
		msgs[0].Payload = make([]byte, 1<<20)
		_, err := s.Enqueue(t.Context(), msgs)
		require.NoError(t, err)
	}
	listed, err := s.ListOutbox(t.Context(), persist.ListRequest{Limit: 1000})
	require.NoError(t, err)
	require.Len(t, listed, n)
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	var positions []int64
	for len(positions) < n {
		entries, err := lane.Next(t.Context(), 256, 3<<20)
		require.NoError(t, err)
		require.Len(t, entries, min(3, n-len(positions)), "as many as fit")
		for _, e := range entries {
			positions = append(positions, e.Position)
			require.NoError(t, lane.Settle(t.Context(), []persist.Settlement{{Position: e.Position, Outcome: persist.OutcomeFailed}}))
		}
	}
	require.IsIncreasing(t, positions)
	letters, err := s.ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 1000)
	require.NoError(t, err)
	require.Len(t, letters, n)
	_, err = s.RetryDeadLetters(t.Context(), retriesOf(letters))
	require.ErrorIs(t, err, persist.ErrInvalid, "more than one script may")
	for _, part := range [][]persist.DeadLetter{letters[:maxRetryBytes>>20], letters[maxRetryBytes>>20:]} {
		_, err := s.RetryDeadLetters(t.Context(), retriesOf(part))
		require.NoError(t, err)
	}
	purged, err := s.PurgeOutbox(t.Context(), persist.ListRequest{Limit: 1000})
	require.NoError(t, err)
	require.Equal(t, n, purged)
}
