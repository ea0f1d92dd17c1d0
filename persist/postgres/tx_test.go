package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// canceller ends a context after the n-th statement, or batch of statements, from
// when it is armed.
type canceller struct {
	n      int
	cancel context.CancelFunc
}

func (c *canceller) count() {
	if c.cancel == nil {
		return
	}
	if c.n--; c.n == 0 {
		c.cancel()
	}
}

func (c *canceller) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}
func (c *canceller) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) { c.count() }
func (c *canceller) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}
func (c *canceller) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (c *canceller) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     { c.count() }

// The context ends between two statements of an Enqueue in the caller's
// transaction, which the caller commits all the same. After an error nothing of the
// call is there, counters and settings included, and the caller's own work is.
func TestContextEndsInCallersTransaction(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{0, 10} {
		for _, driver := range []string{"pgx", "sql"} {
			t.Run(fmt.Sprintf("%s, limit %d", driver, limit), func(t *testing.T) {
				t.Parallel()
				url := testenv.SharedPostgres(t).URL()
				s, stop := openStore(t, url, Options{NoListen: true, MaxMessages: limit}), &canceller{}
				config, err := pgxpool.ParseConfig(url)
				require.NoError(t, err)
				config.ConnConfig.Tracer = stop
				pool, err := pgxpool.NewWithConfig(t.Context(), config)
				require.NoError(t, err)
				t.Cleanup(pool.Close)
				_, err = pool.Exec(t.Context(), "CREATE TABLE own (n int)")
				require.NoError(t, err)
				failed, stored := 0, 0
				for n := 1; n < 30; n++ {
					ctx, cancel := context.WithCancel(t.Context())
					stop.n = n
					kind := plainMessage(fmt.Sprint(n))
					kind.Idempotent = n%2 == 0
					arm := func() { stop.cancel = cancel }
					if driver == "pgx" {
						err = enqueueInTx(ctx, t, s, pool, kind, arm)
					} else {
						err = enqueueInSQLTx(ctx, t, s, config.ConnConfig, kind, arm)
					}
					stop.cancel = nil
					cancel()
					if err != nil {
						require.ErrorIs(t, err, context.Canceled)
						failed++
					} else if stored++; stored == 4 {
						break
					}
					stats, err := s.Stats(t.Context())
					require.NoError(t, err)
					require.EqualValues(t, stored, stats.Pending)
					require.Len(t, ids(t, s), stored)
					var own int
					require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM own").Scan(&own))
					require.Equal(t, n, own)
				}
				require.Equal(t, 4, stored)
				if limit > 0 || driver == "sql" {
					require.Positive(t, failed)
				}
			})
		}
	}
}

// enqueueInTx does work of its own and an Enqueue in one transaction, commits
// whatever the Enqueue said, and returns that.
func enqueueInTx(ctx context.Context, t *testing.T, s *Store, pool *pgxpool.Pool, m persist.Message, arm func()) error {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO own VALUES (1)")
	require.NoError(t, err)
	arm()
	_, failed := s.WithTx(tx).Enqueue(ctx, []persist.Message{m})
	var seqscan string
	require.NoError(t, tx.QueryRow(t.Context(), "SHOW enable_seqscan").Scan(&seqscan))
	require.Equal(t, "on", seqscan)
	require.NoError(t, tx.Commit(t.Context()))
	return failed
}

func enqueueInSQLTx(ctx context.Context, t *testing.T, s *Store, config *pgx.ConnConfig, m persist.Message, arm func()) error {
	t.Helper()
	db := stdlib.OpenDB(*config)
	defer func() { require.NoError(t, db.Close()) }()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "INSERT INTO own VALUES (1)")
	require.NoError(t, err)
	arm()
	_, failed := s.WithSQLTx(tx).Enqueue(ctx, []persist.Message{m})
	var seqscan string
	require.NoError(t, tx.QueryRowContext(t.Context(), "SHOW enable_seqscan").Scan(&seqscan))
	require.Equal(t, "on", seqscan)
	require.NoError(t, tx.Commit())
	return failed
}
