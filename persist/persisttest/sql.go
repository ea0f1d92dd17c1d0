package persisttest

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// sqlCases are about transactions of database/sql.
func sqlCases() []testCase {
	return []testCase{
		{tag: "OUTBOX-13", name: "commit", options: Options{Lanes: 2}, needs: needsSQL, run: checkTxCommit},
		{tag: "OUTBOX-13", name: "rollback", needs: needsSQL, run: checkTxRollback},
		{tag: "OUTBOX-13", name: "duplicates and refusals", needs: needsSQL, run: checkTxRefusals},
		{tag: "OUTBOX-7", name: "a transaction that commits late", needs: needsSQL, run: checkTxLate},
		{tag: "CLAIM-9", name: "the mark commits with the effect", needs: needsSQL, run: checkProcessCommit},
		{tag: "CLAIM-9", name: "and rolls back with it", needs: needsSQL, run: checkProcessRollback},
		{tag: "CLAIM-9", name: "claims of both kinds", needs: needsSQL, run: checkProcessAndClaims},
		{tag: "CLAIM-9", name: "a step fails alone", needs: needsSQL, run: checkProcessStep},
		{tag: "CLAIM-9", name: "a dead letter within", needs: needsSQL, run: checkProcessDead},
		{tag: "CLAIM-9", name: "a race has one effect", needs: needsSQL, run: checkProcessRace},
	}
}

// db is the caller's database with a table of effects.
func (e *env) db() *sql.DB {
	e.Helper()
	db := e.backend.(SQLBackend).DB()
	_, err := db.ExecContext(e.ctx, "CREATE TABLE IF NOT EXISTS effects (name VARCHAR(100))")
	require.NoError(e, err)
	return db
}

// effect writes in a transaction what a handler would. The names are the
// suite's own, and the placeholders of databases differ.
func effect(ctx context.Context, tx *sql.Tx, name string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO effects (name) VALUES ('"+name+"')") //nolint:gosec // see above
	return err
}

func (e *env) effects() []string {
	e.Helper()
	rows, err := e.db().QueryContext(e.ctx, "SELECT name FROM effects ORDER BY name")
	require.NoError(e, err)
	defer func() { _ = rows.Close() }() // read to its end, or the test has failed
	var names []string
	for rows.Next() {
		var name string
		require.NoError(e, rows.Scan(&name))
		names = append(names, name)
	}
	require.NoError(e, rows.Err())
	return names
}

func (e *env) enqueueTx(tx *sql.Tx, msgs ...persist.Message) []persist.Enqueued {
	e.Helper()
	places, err := e.store.(persist.SQLEnqueuer).EnqueueTx(e.ctx, tx, msgs)
	require.NoError(e, err, "enqueue in a transaction")
	require.Len(e, places, len(msgs))
	return places
}

func (e *env) begin() *sql.Tx {
	e.Helper()
	tx, err := e.db().BeginTx(e.ctx, nil)
	require.NoError(e, err)
	e.Cleanup(func() { _ = tx.Rollback() }) // after a commit it is an error of no interest
	return tx
}

func checkTxCommit(e *env) {
	wake, stop := wakeOf(e)
	defer stop()
	before := e.enqueue(with(message("before"), func(m *persist.Message) { m.OrderingKey = keyOf(e, 0) }))[0]
	key := func(lane int) func(m *persist.Message) {
		return func(m *persist.Message) { m.OrderingKey = keyOf(e, lane) }
	}
	a, b, c := with(message("a"), key(0)), with(message("b"), key(1)), with(message("c"), key(0))
	all := remarkable()
	for i := range all {
		all[i].OrderingKey = a.OrderingKey
	}
	tx := e.begin()
	require.NoError(e, effect(e.ctx, tx, "order"))
	places := e.enqueueTx(tx, a, b, c)
	more := e.enqueueTx(tx, all...)
	require.NoError(e, tx.Commit())
	after := e.enqueue(with(message("after"), key(0)))[0]
	require.Equal(e, []string{"order"}, e.effects())
	require.Greater(e, places[0].Position, before.Position)
	require.Greater(e, places[2].Position, places[0].Position)
	require.Greater(e, more[0].Position, places[2].Position)
	require.Greater(e, after.Position, more[len(more)-1].Position)
	require.Equal(e, 1, places[1].Lane)
	e.crash()
	handed := e.next(e.acquire(0))
	require.Equal(e, []string{"before", "a", "c"}, ids(handed[:3]))
	for i := range all {
		e.sameMessage(all[i], handed[3+i].Message)
	}
	require.Equal(e, "after", handed[len(handed)-1].Message.ID)
	require.Equal(e, []string{"b"}, ids(e.next(e.acquire(1))))
	if wake != nil {
		awaitWake(e, wake)
	}
}

// wakeOf subscribes to wake-ups where there are some.
func wakeOf(e *env) (<-chan struct{}, func()) {
	if notifier, ok := e.store.(persist.Notifier); ok {
		return notifier.Notify()
	}
	return nil, func() {}
}

func checkTxRollback(e *env) {
	tx := e.begin()
	e.enqueueTx(tx, messages("ghost", 3)...)
	require.NoError(e, tx.Rollback())
	e.enqueue(message("real"))
	require.Equal(e, []string{"real"}, ids(e.stored(0)))
	require.Equal(e, []string{"real"}, ids(e.next(e.acquire(0))))
	require.EqualValues(e, 1, e.stats().Pending)
	require.Empty(e, e.effects())
	_, err := e.store.(persist.SQLEnqueuer).EnqueueTx(e.ctx, tx, messages("late", 1))
	require.Error(e, err, "the transaction is over")
	require.EqualValues(e, 1, e.stats().Pending)
}

func checkTxRefusals(e *env) {
	first := e.enqueue(idempotent("a", ""))[0]
	tx := e.begin()
	places := e.enqueueTx(tx, idempotent("a", ""), idempotent("b", ""), idempotent("b", ""))
	require.Equal(e, persist.Enqueued{Ref: first.Ref, Duplicate: true}, places[0])
	require.Equal(e, persist.Enqueued{Ref: places[1].Ref, Duplicate: true}, places[2])
	_, err := e.store.(persist.SQLEnqueuer).EnqueueTx(e.ctx, tx, []persist.Message{message("c"), {}})
	require.ErrorIs(e, err, persist.ErrInvalid)
	require.NoError(e, tx.Commit())
	require.Equal(e, []string{"a", "b"}, ids(e.stored(0)))
}

// A position is given out within a transaction; where others commit before it,
// a reader that remembers the highest position would pass it over.
func checkTxLate(e *env) {
	if !e.h.Shared {
		return
	}
	lane := e.acquire(0)
	tx := e.begin()
	e.enqueueTx(tx, message("late"))
	short, cancel := context.WithTimeout(e.ctx, 100*time.Millisecond)
	defer cancel()
	// The store may let it wait for the transaction, and give up in time.
	_, err := e.store.Enqueue(short, []persist.Message{message("quick")})
	want := []string{"late"}
	if err == nil {
		require.Equal(e, []string{"quick"}, ids(e.next(lane)))
	} else if errors.Is(err, persist.ErrUnknownOutcome) {
		want = append(want, "quick")
	}
	require.NoError(e, tx.Commit())
	for _, id := range ids(e.next(lane)) {
		require.Contains(e, want, id)
	}
	found, err := e.store.GetOutbox(e.ctx, "late")
	require.NoError(e, err)
	require.Len(e, found, 1)
	require.Empty(e, e.next(lane))
}

func (e *env) process(fn func(ctx context.Context, p persist.SQLProcess) error) error {
	return e.store.(persist.SQLProcessor).ProcessTx(e.ctx, fn)
}

// handle processes a key with an effect of its name.
func handleKey(ctx context.Context, p persist.SQLProcess, key string) (persist.ClaimState, error) {
	claim, err := p.Begin(ctx, "g", key, time.Hour)
	if err != nil || claim.State != persist.ClaimGranted {
		return claim.State, err
	}
	return claim.State, effect(ctx, p.Tx(), key)
}

func checkProcessCommit(e *env) {
	e.db()
	for round := range 3 {
		require.NoError(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
			for _, key := range []string{"a", "b"} {
				state, err := handleKey(ctx, p, key)
				if err != nil {
					return err
				}
				if want := persist.ClaimGranted; round == 0 && state != want {
					return errors.New("not granted")
				} else if round > 0 && state != persist.ClaimCompleted {
					return errors.New("handed out again")
				}
			}
			return nil
		}))
	}
	require.Equal(e, []string{"a", "b"}, e.effects())
	e.crash()
	require.Equal(e, persist.ClaimCompleted, e.claim("a").State, "the mark counts for claims as well")
	require.EqualValues(e, 2, e.stats().Completed)
	e.advance(2 * time.Hour)
	granted(e, e.claim("a"), 1)
}

func checkProcessRollback(e *env) {
	e.db()
	broken := errors.New("handler failed")
	require.ErrorIs(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
		if _, err := handleKey(ctx, p, "a"); err != nil {
			return err
		}
		return broken
	}), broken)
	require.Panics(e, func() {
		_ = e.process(func(ctx context.Context, p persist.SQLProcess) error {
			if _, err := handleKey(ctx, p, "a"); err != nil {
				return err
			}
			panic("handler panicked")
		})
	}, "a panic is the caller's")
	require.Empty(e, e.effects())
	claim := e.claim("a")
	require.Equal(e, persist.ClaimGranted, claim.State)
}

func checkProcessAndClaims(e *env) {
	e.db()
	claim := e.claim("k")
	begin := func() (claim persist.Claim) {
		require.NoError(e, e.process(func(ctx context.Context, p persist.SQLProcess) (err error) {
			claim, err = p.Begin(ctx, "g", "k", time.Hour)
			return err
		}))
		return claim
	}
	busy := begin()
	require.Equal(e, persist.ClaimBusy, busy.State)
	e.around(lease, busy.Remaining, "remaining")
	e.advance(lease)
	taken := begin()
	granted(e, taken, 2)
	require.Greater(e, taken.Epoch, claim.Epoch)
	require.Equal(e, []bool{false}, e.complete(time.Hour, claim), "paused past its lease, and woken up")
	require.Equal(e, persist.ClaimCompleted, begin().State)
	e.complete(time.Hour, e.claim("other"))
	require.NoError(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
		claim, err := p.Begin(ctx, "g", "other", time.Hour)
		if err == nil && claim.State != persist.ClaimCompleted {
			err = errors.New("a completed key was granted")
		}
		return err
	}))
}

func checkProcessStep(e *env) {
	e.db()
	broken := errors.New("step failed")
	require.NoError(e, e.process(func(ctx context.Context, p persist.SQLProcess) error {
		for _, key := range []string{"a", "b", "c"} {
			if _, err := p.Begin(ctx, "g", key, time.Hour); err != nil {
				return err
			}
			err := p.Step(ctx, func() error {
				if err := effect(ctx, p.Tx(), key); err != nil {
					return err
				}
				if key == "b" {
					return broken
				}
				return nil
			})
			if (key == "b") != errors.Is(err, broken) {
				return errors.Join(errors.New("the step's own error is expected"), err)
			}
		}
		return nil
	}))
	require.Equal(e, []string{"a", "c"}, e.effects())
	require.Equal(e, persist.ClaimCompleted, e.claim("b").State, "what came before the step stands")
}

func checkProcessDead(e *env) {
	e.db()
	add := func(id string, result error) error {
		return e.process(func(ctx context.Context, p persist.SQLProcess) error {
			if _, err := p.Begin(ctx, "g", id, time.Hour); err != nil {
				return err
			}
			if err := p.AddDeadLetter(ctx, letter(id)); err != nil {
				return err
			}
			return result
		})
	}
	require.NoError(e, add("a", nil))
	require.Error(e, add("b", errors.New("rolled back")))
	letters := e.letters(persist.DeadLetterFilter{})
	require.Len(e, letters, 1)
	sameLetter(e, letter("a"), letters[0])
	require.Equal(e, persist.ClaimCompleted, e.claim("a").State)
	require.Equal(e, persist.ClaimGranted, e.claim("b").State)
}

func checkProcessRace(e *env) {
	e.db()
	handles := []persist.Store{e.store, e.handle()}
	e.together(8, func(i int) error {
		for range 1000 {
			err := handles[i%2].(persist.SQLProcessor).ProcessTx(e.ctx, func(ctx context.Context, p persist.SQLProcess) error {
				_, err := handleKey(ctx, p, "k")
				return err
			})
			if !errors.Is(err, persist.ErrUnavailable) {
				return err
			}
		}
		return persist.ErrUnavailable
	})
	require.Equal(e, []string{"k"}, e.effects())
}
