package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// A handler calls a method of the store that writes, which waits for it. It gets
// an error and not a deadlock.
func TestProcessCallsTheStore(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{BusyTimeout: 30 * time.Millisecond})
	require.NoError(t, s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
		_, err := s.Enqueue(ctx, []persist.Message{plainMessage("a")})
		refused(t, err, persist.ErrUnavailable)
		_, err = s.Stats(ctx)
		require.NoError(t, err, "reading is possible")
		nested, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, s.ProcessTx(nested, nil), context.DeadlineExceeded)
		_, err = beginKey(ctx, p, "g", "k", time.Hour)
		return err
	}))
	_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage("a")})
	require.NoError(t, err)
}

// What is kept of a process after its function has returned is of no use.
func TestProcessIsOver(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	var kept persist.TxProcess[*sql.Tx]
	require.NoError(t, s.ProcessTx(t.Context(), func(_ context.Context, p persist.TxProcess[*sql.Tx]) error {
		kept = p
		return nil
	}))
	_, err := kept.Begin(t.Context(), "g", []string{"k"}, time.Hour)
	refused(t, err, persist.ErrUnavailable)
	require.Equal(t, persist.ClaimGranted, claimKey(t, s, "k").State)
}

// The end of the context does not undo the transaction behind the handler's
// back: what it does afterwards, it does in the same one.
func TestProcessOutlivesItsContext(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, s.ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
		if _, err := beginKey(ctx, p, "g", "a", time.Hour); err != nil {
			return err
		}
		cancel()
		_, err := beginKey(ctx, p, "g", "b", time.Hour)
		require.ErrorIs(t, err, context.Canceled)
		_, err = beginKey(context.WithoutCancel(ctx), p, "g", "c", time.Hour)
		return err
	}))
	require.Equal(t, persist.ClaimCompleted, claimKey(t, s, "a").State)
	require.Equal(t, persist.ClaimGranted, claimKey(t, s, "b").State)
	require.Equal(t, persist.ClaimCompleted, claimKey(t, s, "c").State)
}

// A handler that interrupts one of its own statements has undone everything.
func TestProcessInterrupted(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	err := s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
		if _, err := beginKey(ctx, p, "g", "a", time.Hour); err != nil {
			return err
		}
		// Long enough for the statement to have begun, also on a machine that is busy.
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		_, err := p.Tx().ExecContext(short, "CREATE TABLE effects AS WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT i FROM n")
		require.Error(t, err)
		_, err = beginKey(ctx, p, "g", "b", time.Hour)
		return err
	})
	refused(t, err, persist.ErrUnavailable)
	require.Equal(t, persist.ClaimGranted, claimKey(t, s, "a").State)
	require.NoError(t, s.ProcessTx(t.Context(), func(context.Context, persist.TxProcess[*sql.Tx]) error { return nil }), "and the next goes on")
}

// SQLite has undone the transaction, and the handler goes on with it all the same.
// What it does then would be there without the mark, and once more when the message
// comes again.
func TestProcessUndoneLeavesNoEffect(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	db := database(t, path, "")
	execute(t, db, "CREATE TABLE effects (name TEXT PRIMARY KEY)")
	effects := func() (n int) {
		require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*) FROM effects").Scan(&n))
		return n
	}
	effect := func(ctx context.Context, p persist.TxProcess[*sql.Tx], or, name string) error {
		_, err := p.Tx().ExecContext(ctx, "INSERT "+or+" INTO effects VALUES (?)", name)
		return err
	}
	err := s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
		if _, err := beginKey(ctx, p, "g", "a", time.Hour); err != nil {
			return err
		}
		require.NoError(t, effect(ctx, p, "", "first"))
		require.Error(t, effect(ctx, p, "OR ROLLBACK", "first"))
		_ = effect(ctx, p, "", "second")
		return nil
	})
	refused(t, err, persist.ErrUnavailable)
	require.Zero(t, effects())
	require.Equal(t, persist.ClaimGranted, claimKey(t, s, "a").State)
	require.NoError(t, s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
		return effect(ctx, p, "", "third")
	}), "and the next goes on")
	require.Equal(t, 1, effects())
}

func TestSteps(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	broken := errors.New("broken")
	require.NoError(t, s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
		begin := func(key string) error {
			claim, err := beginKey(ctx, p, "new group", key, time.Hour)
			require.Equal(t, persist.ClaimGranted, claim.State)
			return err
		}
		require.ErrorIs(t, p.Step(ctx, func() error {
			require.NoError(t, begin("a"))
			require.NoError(t, p.Step(ctx, func() error { return begin("b") }))
			return broken
		}), broken)
		return p.Step(ctx, func() error {
			require.ErrorIs(t, p.Step(ctx, func() error { return errors.Join(begin("c"), broken) }), broken)
			return begin("b")
		})
	}))
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "new group", TTL: time.Hour, Keys: []string{"a", "b", "c"}})
	require.NoError(t, err)
	require.Equal(t, persist.ClaimGranted, claims[0].State)
	require.Equal(t, persist.ClaimCompleted, claims[1].State)
	require.Equal(t, persist.ClaimGranted, claims[2].State)
	require.Greater(t, claims[0].Epoch, int64(1))
}

// A caller commits although EnqueueTx has failed in the middle.
func TestEnqueueTxFailsInPart(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{MaxMessages: 2})
	db := database(t, path, "")
	execute(t, db, `CREATE TRIGGER stumble BEFORE INSERT ON oncemq_outbox WHEN NEW.id = 'b' BEGIN SELECT RAISE(ABORT, 'stumbled'); END`)
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{
		plainMessage("a"), {ID: "b", Topic: "t", Receipt: true},
	})
	refused(t, err, persist.ErrCorrupt)
	_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{plainMessage("a"), plainMessage("b"), plainMessage("c")})
	refused(t, err, persist.ErrOutboxFull)
	_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{plainMessage("d")})
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	require.Equal(t, []string{"d"}, stored(t, s, 1))
}

// A deferred transaction has read, and another commit was faster: SQLite cannot
// let it write any more, and says so at once.
func TestEnqueueTxOvertaken(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{MaxMessages: 100})
	db := database(t, path, "_pragma=busy_timeout(60000)")
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	var n int
	require.NoError(t, tx.QueryRowContext(t.Context(), "SELECT count(*) FROM oncemq_outbox").Scan(&n))
	_, err = s.Enqueue(t.Context(), []persist.Message{plainMessage("a")})
	require.NoError(t, err)
	_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{plainMessage("b")})
	refused(t, err, persist.ErrUnavailable)
	require.NoError(t, tx.Rollback())

	// One that has not read yet is not overtaken, with a limit to look at or
	// without.
	tx, err = db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = s.Enqueue(t.Context(), []persist.Message{plainMessage("c")})
	require.NoError(t, err)
	_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{{ID: "d", Topic: "t", Idempotent: true}})
	require.NoError(t, err)
	require.NoError(t, tx.Commit())
	require.Equal(t, []string{"a", "c", "d"}, stored(t, s, 1))
}

func TestEnqueueTxAfterItsEnd(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	tx, err := database(t, path, "").BeginTx(t.Context(), nil)
	require.NoError(t, err)
	require.NoError(t, tx.Rollback())
	_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{plainMessage("a")})
	refused(t, err, persist.ErrInvalid)
}

func claimKey(t *testing.T, s *Store, key string) persist.Claim {
	t.Helper()
	claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Owner: "o", TTL: time.Hour, Keys: []string{key}})
	require.NoError(t, err)
	return claims[0]
}
