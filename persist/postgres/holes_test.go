package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// holes fills an outbox of which every second message is gone.
func holes(t *testing.T, s *Store, pool *pgxpool.Pool, n int) {
	t.Helper()
	ids := make([]string, 2*n)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	enqueue(t, s, ids...)
	_, err := pool.Exec(t.Context(), "DELETE FROM oncemq.outbox WHERE position % 2 = 0")
	require.NoError(t, err)
}

// A backlog with holes, read for the first time while somebody's transaction has
// inserted and stays open, leaves gaps; they vanish with it, and what it inserted
// was in one of them.
func TestHolesUnderInsertion(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{}), openPool(t, url)
	long, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = s.WithTx(long).Enqueue(t.Context(), []persist.Message{plainMessage("late")})
	require.NoError(t, err)
	holes(t, s, pool, 1000)
	l := acquire(t, s)
	total := 0
	for n := len(next(t, l)); n > 0; n = len(next(t, l)) {
		total += n
	}
	require.Equal(t, 1000, total)
	for range 3 {
		require.Empty(t, next(t, l))
	}
	require.Greater(t, len(l.gaps.list), 900)
	require.NoError(t, long.Commit(t.Context()))
	require.Equal(t, []string{"late"}, next(t, l))
	for range 3 {
		require.Empty(t, next(t, l))
	}
	require.Empty(t, l.gaps.list)
}

// A transaction in another database of the server has written and stays open. It
// keeps xmin back, but no insertion: a backlog with holes leaves few gaps, and none
// in the end.
func TestHolesUnderStranger(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s, pool := openStore(t, pg.URL(), Options{}), openPool(t, pg.URL())
	holes(t, s, pool, 2000)
	stranger, err := openPool(t, pg.NewDatabase().URL()).Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, stranger.Rollback(context.Background())) }()
	_, err = stranger.Exec(t.Context(), "SELECT pg_current_xact_id()")
	require.NoError(t, err)
	l := acquire(t, s)
	total, most := 0, 0
	for {
		entries, err := l.Next(t.Context(), 100, 1<<20)
		require.NoError(t, err)
		if len(entries) == 0 {
			break
		}
		total += len(entries)
		most = max(most, len(l.gaps.list))
	}
	require.Equal(t, 2000, total)
	require.Less(t, most, 500)
	require.Empty(t, l.gaps.list)
}

// A transaction inserts and is prepared after the lane has looked at the locks, and
// the server is restarted. The transaction goes on under another name, and its
// message appears when that is committed.
func TestHolesUnderPrepared(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{NoFsync: true, Extra: []string{"max_prepared_transactions = 2"}})
	s, pool := openStore(t, pg.URL(), Options{}), openPool(t, pg.URL())
	enqueue(t, s, "late")
	long, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer long.Release()
	// Not by Enqueue: what notifies cannot be prepared.
	_, err = long.Exec(t.Context(), `BEGIN; SELECT pg_current_xact_id(); INSERT INTO oncemq.outbox (position, enqueued_at, size, body)
		SELECT nextval('oncemq.positions_0'), enqueued_at, size, body FROM oncemq.outbox`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "DELETE FROM oncemq.outbox")
	require.NoError(t, err)
	holes(t, s, pool, 200)
	l := acquire(t, s)
	require.Len(t, next(t, l), 200)
	require.Empty(t, next(t, l))
	require.NotNil(t, l.gaps.held)
	_, err = long.Exec(t.Context(), "PREPARE TRANSACTION 'p'")
	require.NoError(t, err)
	pg.Stop()
	pg.Start()
	require.Eventually(t, func() bool { _, err := s.Time(t.Context()); return err == nil }, 5*time.Second, 10*time.Millisecond)
	for range 3 {
		require.Empty(t, next(t, l))
	}
	pg.Exec("COMMIT PREPARED 'p'")
	require.Equal(t, []string{"late"}, next(t, l))
}
