package redis

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// An Enqueue whose context ended returned while its messages were still being
// encoded: a caller that used the slice again, as it may, had empty messages
// stored.
func TestSliceUsedAgain(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.Redis(t, testenv.RedisOptions{}).URL(), Options{})
	const n, rounds = 5000, 10
	msgs := make([]persist.Message, n)
	for range rounds {
		copy(msgs, plainMessages("m", n))
		c, err := newAddition(s.name, persist.Limits{}, msgs)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer cancel()
			for c.state.Load() == callQueued {
				runtime.Gosched()
			}
		}()
		if err = s.adder.submit(ctx, s, c); err != nil {
			require.ErrorIs(t, err, persist.ErrUnknownOutcome)
		}
		clear(msgs) // they are the caller's again
		<-ctx.Done()
	}
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	until(t, func(ctx context.Context) error { // the last may be under way
		stats, err := s.Stats(ctx)
		if err == nil && stats.Pending < n*rounds {
			err = persist.ErrUnavailable
		}
		return err
	})
	for _, id := range drainAll(t, lane) {
		require.NotEmpty(t, id)
	}
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Zero(t, stats.Failed)
}
