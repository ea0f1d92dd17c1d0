package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// A replica without transactions waits for a key that a handler with one has in work,
// for as long as that takes. Whoever forgets keys must not wait for both: nobody
// could claim anything meanwhile.
func TestForgettingDoesNotStopClaims(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s := openStore(t, pg.URL(), Options{})
	claim := func(ctx context.Context, group, key string) (persist.Claim, error) {
		claims, err := s.Claim(ctx, persist.ClaimRequest{Group: group, TTL: time.Hour, Keys: []string{key}})
		if err != nil {
			return persist.Claim{}, err
		}
		return claims[0], nil
	}
	_, err := claim(t.Context(), "other", "first")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	waiting := make(chan error, 1)
	require.NoError(t, s.ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error {
		if _, err := p.Begin(ctx, "g", []string{"k"}, time.Hour); err != nil {
			return err
		}
		go func() {
			c, err := claim(t.Context(), "g", "k")
			if err == nil && c.State != persist.ClaimCompleted {
				err = persist.ErrCorrupt
			}
			waiting <- err
		}()
		require.Eventually(t, func() bool {
			n, err := pg.TryExec(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
			return err == nil && n == "1"
		}, 20*time.Second, 5*time.Millisecond)
		forgotten, err := s.ExpireProcessed(ctx, 100)
		require.NoError(t, err, "expire")
		require.Zero(t, forgotten)
		_, err = s.Forget(ctx, "other", []string{"k"})
		require.ErrorIs(t, err, persist.ErrUnavailable, "forget")
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		c, err := claim(ctx, "other", "k")
		require.NoError(t, err, "claim")
		require.Equal(t, persist.ClaimGranted, c.State)
		return nil
	}))
	require.NoError(t, <-waiting)
	_, err = s.Forget(ctx, "g", []string{"k"})
	require.NoError(t, err)
}

// A handler has keys in work, in a transaction, that a sweep would forget. It leaves
// them and goes on.
func TestSweepWaitsForNobody(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s := openStore(t, pg.URL(), Options{NoListen: true})
	require.NoError(t, s.Release(t.Context(), "g", claimKeys(t, s, "a", "b", "c")))
	pg.Exec("UPDATE oncemq.claims SET until = 1")
	pg.Exec("INSERT INTO oncemq.processed (epoch, until, group_id, key) SELECT 1, 1, group_id, key FROM oncemq.claims")
	sweep := func() int {
		n, err := s.ExpireProcessed(t.Context(), 100)
		require.NoError(t, err)
		return n
	}
	require.NoError(t, beginIn(t, s, []string{"b"}, func([]persist.Claim) {
		require.Equal(t, 4, sweep(), "but for b")
	}))
	require.Equal(t, "b", pg.Exec("SELECT convert_from(substr(key, 2), 'UTF8') FROM oncemq.processed"))
	require.Zero(t, sweep(), "b is completed")
	require.Equal(t, "0", pg.Exec("SELECT count(*) FROM oncemq.claims"))
}

// A probe that has a second must not spend it waiting for a lock: it would look as if
// the store did not answer.
func TestSweepPatience(t *testing.T) {
	t.Parallel()
	require.Equal(t, forgetPatience, sweepPatience(context.Background()))
	for _, left := range []time.Duration{time.Hour, 2 * time.Second, 0, -time.Hour} {
		ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(left))
		patience := sweepPatience(ctx)
		cancel()
		require.GreaterOrEqual(t, patience, time.Millisecond)
		require.LessOrEqual(t, patience, min(forgetPatience, max(left/4, time.Millisecond)))
	}
}
