package persisttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// txCases are about messages in transactions of the caller.
func txCases() []testCase {
	return []testCase{
		{tag: "OUTBOX-13", name: "commit", options: Options{Lanes: 2}, needs: needsTx, run: checkTxCommit},
		{tag: "OUTBOX-13", name: "rollback", needs: needsTx, run: checkTxRollback},
		{tag: "OUTBOX-13", name: "duplicates and refusals", needs: needsTx, run: checkTxRefusals},
		{tag: "OUTBOX-13", name: "a full outbox", options: Options{Limits: persist.Limits{Messages: 3}}, needs: needsTx, run: checkTxFull},
		{tag: "OUTBOX-13", name: "closed and cancelled", needs: needsTx, run: checkTxClosed},
		{tag: "OUTBOX-13", name: "a context that ends in between", needs: needsTx, run: checkTxContextEnds},
		{tag: "OUTBOX-7", name: "a transaction that commits late", needs: needsTx, run: checkTxLate},
	}
}

// db is the caller's database with a table of effects.
func (e *env) db() *sql.DB {
	e.Helper()
	db := e.backend.(TxBackend).DB()
	_, err := db.ExecContext(e.ctx, "CREATE TABLE IF NOT EXISTS effects (name VARCHAR(100))")
	require.NoError(e, err)
	return db
}

// effect writes in a transaction what a handler would. The names are the
// suite's own, and the placeholders of databases differ.
func effect(ctx context.Context, tx CallerTx, name string) error {
	return tx.Exec(ctx, "INSERT INTO effects (name) VALUES ('"+name+"')")
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

func (e *env) enqueueTx(tx CallerTx, msgs ...persist.Message) []persist.Enqueued {
	e.Helper()
	places, err := tx.Outbox(e.store).Enqueue(e.ctx, msgs)
	require.NoError(e, err, "enqueue in a transaction")
	require.Len(e, places, len(msgs))
	return places
}

func (e *env) begin() CallerTx {
	e.Helper()
	e.db()
	tx, err := e.backend.(TxBackend).BeginTx(e.ctx)
	require.NoError(e, err)
	e.Cleanup(func() { _ = tx.Rollback(context.Background()) }) // after a commit it is an error of no interest
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
	require.NoError(e, tx.Commit(e.ctx))
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
	require.NoError(e, tx.Rollback(e.ctx))
	e.enqueue(message("real"))
	require.Equal(e, []string{"real"}, ids(e.stored(0)))
	require.Equal(e, []string{"real"}, ids(e.next(e.acquire(0))))
	require.EqualValues(e, 1, e.stats().Pending)
	require.Empty(e, e.effects())
	_, err := tx.Outbox(e.store).Enqueue(e.ctx, messages("late", 1))
	require.Error(e, err, "the transaction is over")
	require.EqualValues(e, 1, e.stats().Pending)
}

func checkTxRefusals(e *env) {
	first := e.enqueue(idempotent("a", ""))[0]
	tx := e.begin()
	places := e.enqueueTx(tx, idempotent("a", ""), idempotent("b", ""), idempotent("b", ""))
	require.Equal(e, persist.Enqueued{Ref: first.Ref, Duplicate: true}, places[0])
	require.Equal(e, persist.Enqueued{Ref: places[1].Ref, Duplicate: true}, places[2])
	_, err := tx.Outbox(e.store).Enqueue(e.ctx, []persist.Message{message("c"), {}})
	require.ErrorIs(e, err, persist.ErrInvalid)
	require.NoError(e, tx.Commit(e.ctx))
	require.Equal(e, []string{"a", "b"}, ids(e.stored(0)))
}

// A position is given out within a transaction; where others commit before it,
// a reader that remembers the highest position would pass it over.
func checkTxLate(e *env) {
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
	require.NoError(e, tx.Commit(e.ctx))
	for _, id := range ids(e.next(lane)) {
		require.Contains(e, want, id)
	}
	found, err := e.store.GetOutbox(e.ctx, "late")
	require.NoError(e, err)
	require.Len(e, found, 1)
	require.Empty(e, e.next(lane))
}

func checkTxFull(e *env) {
	e.enqueue(droppable("a"))
	tx := e.begin()
	_, err := tx.Outbox(e.store).Enqueue(e.ctx, messages("b", 3))
	require.ErrorIs(e, err, persist.ErrOutboxFull)
	e.enqueueTx(tx, messages("c", 2)...) // the caller may go on after a refusal
	require.NoError(e, tx.Commit(e.ctx))
	require.Equal(e, []string{"a", "c0", "c1"}, ids(e.stored(0)))
	e.full(message("d"))

	tx = e.begin()
	e.enqueueTx(tx, droppable("e"))
	require.NoError(e, tx.Rollback(e.ctx))
	require.Equal(e, []string{"a", "c0", "c1"}, ids(e.stored(0)), "what gave way comes back with the rollback")
	require.Zero(e, e.stats().Dropped)

	tx = e.begin()
	e.enqueueTx(tx, droppable("f"))
	require.NoError(e, tx.Commit(e.ctx))
	require.Equal(e, []string{"c0", "c1", "f"}, ids(e.stored(0)))
	require.EqualValues(e, 1, e.stats().Dropped)
}

func checkTxClosed(e *env) {
	cancelled, cancel := context.WithCancel(e.ctx)
	cancel()
	never := func(context.Context, persist.Process, CallerTx) error {
		e.Errorf("the function of a transaction that cannot begin was called")
		return nil
	}
	tx := e.begin()
	_, err := tx.Outbox(e.store).Enqueue(cancelled, messages("m", 1))
	require.ErrorIs(e, err, context.Canceled)
	require.NoError(e, tx.Rollback(e.ctx))
	require.ErrorIs(e, e.backend.(TxBackend).ProcessTx(cancelled, e.store, never), context.Canceled)
	require.Zero(e, e.stats().Pending)

	require.NoError(e, e.store.Close(e.ctx))
	tx = e.begin()
	_, err = tx.Outbox(e.store).Enqueue(e.ctx, messages("m", 1))
	require.ErrorIs(e, err, persist.ErrClosed)
	require.NoError(e, tx.Rollback(e.ctx))
	require.ErrorIs(e, e.process(never), persist.ErrClosed)
	require.NoError(e, e.db().PingContext(e.ctx), "the caller's handle stays open")
}

// endingContext ends when it is looked at for the n-th time: at any point of a call.
type endingContext struct {
	context.Context //nolint:containedctx // it is one
	cancel          context.CancelFunc
	left            atomic.Int32
}

func endsAt(ctx context.Context, n int) *endingContext {
	c := &endingContext{}
	c.Context, c.cancel = context.WithCancel(ctx)
	c.left.Store(int32(n))
	return c
}

func (c *endingContext) look() {
	if c.left.Add(-1) == 0 {
		c.cancel()
	}
}

func (c *endingContext) Done() <-chan struct{} { c.look(); return c.Context.Done() }
func (c *endingContext) Err() error            { c.look(); return c.Context.Err() }

// The context of an Enqueue ends while that is under way, and the caller commits all
// the same: nothing of the call is there then, and if it goes through all of what the
// caller did is.
func checkTxContextEnds(e *env) {
	want := []string{}
	for n, through := 1, 0; through < 3; n++ {
		require.Less(e, n, 1000, "a context that nobody looks at so often")
		batch := []persist.Message{
			message(fmt.Sprintf("%04d a", n)), idempotent(fmt.Sprintf("%04d b", n), ""), message(fmt.Sprintf("%04d c", n)),
		}
		tx := e.begin()
		name := fmt.Sprintf("effect %04d", n)
		require.NoError(e, effect(e.ctx, tx, name))
		ctx := endsAt(e.ctx, n)
		_, err := tx.Outbox(e.store).Enqueue(ctx, batch)
		ctx.cancel()
		committed := tx.Commit(e.ctx)
		if err == nil {
			require.NoError(e, committed)
			through++
			want = append(want, batch[0].ID, batch[1].ID, batch[2].ID)
		}
		if committed == nil {
			require.Contains(e, e.effects(), name)
		} else {
			require.NotContains(e, e.effects(), name)
		}
		got := ids(e.stored(0))
		slices.Sort(got)
		require.Equal(e, want, got, "the context ended at look %d: %v", n, err)
		require.EqualValues(e, len(want), e.stats().Pending)
	}
}
