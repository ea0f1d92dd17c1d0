package dedup

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// openSQLite opens a store in a new file, and the same file for its effects.
func openSQLite(tb testing.TB) (*sqlite.Store, string) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "store.db")
	store, err := sqlite.Open(context.Background(), path, sqlite.Options{})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, store.Close(context.Background())) })
	require.NoError(tb, store.ProcessTx(context.Background(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
		_, err := p.Tx().ExecContext(ctx, "CREATE TABLE effects (key TEXT, n INTEGER)")
		return err
	}))
	return store, path
}

func sqliteEffects(tb testing.TB, path string) map[string]int {
	tb.Helper()
	db, err := sql.Open("sqlite", path)
	require.NoError(tb, err)
	defer func() { require.NoError(tb, db.Close()) }()
	rows, err := db.QueryContext(context.Background(), "SELECT key, count(*) FROM effects GROUP BY key")
	require.NoError(tb, err)
	defer func() { require.NoError(tb, rows.Close()) }()
	counts := map[string]int{}
	for rows.Next() {
		var key string
		var n int
		require.NoError(tb, rows.Scan(&key, &n))
		counts[key] = n
	}
	require.NoError(tb, rows.Err())
	return counts
}

// faultyTx is a store whose transactions fail as a function says: before they
// begin, or after they committed.
type faultyTx struct {
	TxStore[*sql.Tx]
	decide func() fault
}

func (f *faultyTx) ProcessTx(ctx context.Context, fn func(context.Context, persist.TxProcess[*sql.Tx]) error) error {
	switch f.decide() {
	case faultFail:
		return &persist.Error{Op: "process", Kind: persist.ErrUnavailable}
	case faultUnknown: // and rolled back
		unknown := &persist.Error{Op: "process", Kind: persist.ErrUnknownOutcome}
		return f.TxStore.ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
			return errors.Join(unknown, fn(ctx, p))
		})
	case faultApplied:
		if err := f.TxStore.ProcessTx(ctx, fn); err != nil {
			return err
		}
		return &persist.Error{Op: "process", Kind: persist.ErrUnknownOutcome}
	case faultNone, faultHang, faultRefuse:
	}
	return f.TxStore.ProcessTx(ctx, fn)
}

// Two replicas in transactional mode on one SQLite file, each message at both,
// transactions that fail in every way, handlers that fail and panic: each effect
// is there exactly once.
func TestSQLiteTransactional(t *testing.T) {
	t.Parallel()
	store, path := openSQLite(t)
	var calls atomic.Int64
	faulty := &faultyTx{TxStore: store, decide: func() fault {
		return [...]fault{faultNone, faultUnknown, faultNone, faultApplied, faultNone, faultFail}[calls.Add(1)%6]
	}}
	cfg := txConfig(faulty)
	cfg.MaxBatch = 16
	one, two := startTx(t, cfg), startTx(t, cfg)
	var all []*txInbound
	for i := range 100 {
		for _, c := range []*TxConsumer[*sql.Tx]{one, two} {
			d := newTxInbound(key(i))
			switch i % 10 {
			case 7:
				tries := 0
				d.process = func(context.Context, *sql.Tx, Grant) error {
					if tries++; tries == 1 {
						return errors.New("boom")
					}
					return nil
				}
			case 8:
				tries := 0
				d.process = func(context.Context, *sql.Tx, Grant) error {
					if tries++; tries == 1 {
						panic("boom")
					}
					return nil
				}
			case 9:
				d.process = func(context.Context, *sql.Tx, Grant) error { return errors.New("never") }
				d.failed = func(_ error, attempts int) Verdict {
					if attempts < 2 {
						return Verdict{After: time.Millisecond}
					}
					return Verdict{Dead: letterFor("never")}
				}
			}
			all = append(all, submitTx(t, c, d))
		}
	}
	for _, d := range all {
		require.True(t, d.outcome(t).Acknowledge())
	}
	effects := sqliteEffects(t, path)
	require.Len(t, effects, 90)
	for k, n := range effects {
		require.Equal(t, 1, n, k)
	}
	letters, err := store.ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 100)
	require.NoError(t, err)
	require.Len(t, letters, 10)
	// One that was committed with an unknown outcome counts as a duplicate.
	require.LessOrEqual(t, one.Stats().Dead+two.Stats().Dead, int64(10))
}

// Replicas of the two modes share one group: what one has in work the other
// waits for.
func TestSQLiteModesShareAGroup(t *testing.T) {
	t.Parallel()
	store, path := openSQLite(t)
	leased := start(t, testConfig(store))
	transactional := startTx(t, txConfig(store))
	a, b := submit(t, leased, "a"), submit(t, leased, "b")
	a.grant(t)
	b.grant(t)
	a2 := submitTx(t, transactional, newTxInbound("a"))
	b2 := submitTx(t, transactional, newTxInbound("b"))
	require.Eventually(t, func() bool { return transactional.Stats().Held == 2 }, patience, time.Millisecond)
	leased.Complete(a, nil)
	require.Equal(t, OutcomeProcessed, a.outcome(t))
	require.Equal(t, OutcomeDuplicate, a2.outcome(t))
	leased.Release(b)
	require.Equal(t, OutcomeReleased, b.outcome(t))
	require.Equal(t, OutcomeProcessed, b2.outcome(t))
	require.Equal(t, OutcomeDuplicate, submit(t, leased, "b").outcome(t))
	require.Equal(t, map[string]int{"b": 1}, sqliteEffects(t, path))
}

// The loop of TestNthCallFails on a real file, where time is real: the faults
// that no lease has to be waited out for.
func TestSQLiteCompletionRepeated(t *testing.T) {
	t.Parallel()
	store, _ := openSQLite(t)
	faulty := newFaulty(store)
	var completions atomic.Int64
	faulty.setDecide(func(op string, _ []string) fault {
		if op == "complete" && completions.Add(1) <= 2 {
			return faultApplied
		}
		return faultNone
	})
	c := start(t, testConfig(faulty))
	processed, dead := submit(t, c, "processed"), submit(t, c, "dead")
	processed.grant(t)
	dead.grant(t)
	c.Complete(processed, nil)
	c.Complete(dead, letterFor("dead"))
	require.Equal(t, OutcomeProcessed, processed.outcome(t))
	require.Equal(t, OutcomeDead, dead.outcome(t))
	letters, err := store.ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1, "completing twice stores one letter")
}
