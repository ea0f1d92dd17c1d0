package postgres

import (
	"context"
	"database/sql"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oncemq/oncemq/persist"
)

// WithTx is the outbox within a transaction of the caller [OUTBOX-13], on a
// connection to the store's database from whatever pool. A call is one round trip
// (with [Options.MaxMessages] or [Options.MaxBytes] a few), holds no lock that
// others who enqueue would wait for, but on the IDs of idempotent messages that it
// adds, on the ordering keys under which it supersedes, and for those limits, and
// leaves the settings of the transaction as they were. After an error of
// PostgreSQL the transaction can only be rolled back; a refusal such as
// [persist.ErrOutboxFull] leaves it usable. How durable its commit is depends on
// the caller's settings.
//
// With a limit, a message that gives way to a
// [persist.Message.Droppable] one is deleted by the caller's transaction. A relay
// that has sent it by then waits for the end of that transaction before it can go
// on with the lane: such a transaction should be short. A message that the
// transaction supersedes is not sent before it ends, whether it commits or not. Two
// transactions that add the same idempotent messages, or supersede under the same
// keys, by several calls each, in different orders, may
// deadlock; PostgreSQL then refuses one of them.
//
// A transaction in which messages supersede others, or that must heed a limit, has to
// be read committed; with a stricter isolation it would not see what it has to.
//
// Other processes are woken by the commit. This one is too, unless NoListen is set
// or a pooler stands between: then the messages are found at the next poll.
func (s *Store) WithTx(tx pgx.Tx) persist.TxOutbox { return &txOutbox{s, pgxRunner{tx}} }

// WithSQLTx is [Store.WithTx] for a transaction of database/sql, whatever the
// driver, as long as it is one for PostgreSQL. Each statement is a round trip, two
// of them for a savepoint: whatever a call fails with, it leaves nothing behind.
func (s *Store) WithSQLTx(tx *sql.Tx) persist.TxOutbox { return &txOutbox{s, sqlRunner{tx}} }

// txOutbox is the outbox within a transaction.
type txOutbox struct {
	s *Store
	r runner
}

// Identity is that of the store.
func (o *txOutbox) Identity() string { return o.s.identity }

// Enqueue stores messages within the transaction; see [persist.TxOutbox].
func (o *txOutbox) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	s := o.s
	t, err := s.newEnqueue(msgs)
	if err != nil || len(msgs) == 0 {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, translate(opEnqueue, s.name, err)
	}
	if err := s.enter(opEnqueue); err != nil {
		return nil, err
	}
	defer s.leave()
	if s.opts.limits().CountsRoom() {
		err = o.limited(ctx, t)
	} else {
		err = o.insert(ctx, t)
	}
	if err == nil {
		err = t.err
	}
	if err != nil {
		// Whatever it is, nothing of this call will be there: it was undone, or
		// PostgreSQL does not commit the transaction any more.
		return nil, translate(opEnqueue, s.name, err)
	}
	return t.out, nil
}

func (o *txOutbox) insert(ctx context.Context, t *enqueueTask) error {
	if r, ok := o.r.(pgxRunner); ok {
		// All statements are sent at once, so that they are carried out together or
		// fail together, and take the transaction with them.
		return o.insertAll(ctx, r, t)
	}
	return o.part(ctx, nil, func() error { return o.insertAll(ctx, o.r, t) }, nil)
}

func (o *txOutbox) insertAll(ctx context.Context, r runner, t *enqueueTask) error {
	in, steps := o.s.insert([]*enqueueTask{t})
	if in.waits {
		steps = o.s.steered(steps...)
	}
	if _, err := r.run(ctx, append(steps, o.s.tellAll())); err != nil {
		return err
	}
	in.finish()
	return nil
}

func (o *txOutbox) limited(ctx context.Context, t *enqueueTask) error {
	q := o.s.q
	return o.part(ctx, []step{{stmt: q.steerSave}, {stmt: q.steer}},
		func() error { return o.s.insertLimited(ctx, o.r, []*enqueueTask{t}) },
		[]step{{stmt: q.steerBack}, o.s.tellAll()})
}

// defaultUndo is how long a call whose context may have ended goes on, to undo what it
// did. The driver gives up a connection that takes longer, and with it the
// transaction.
const defaultUndo = 10 * time.Second

// undoing is a context in which something is undone.
func (s *Store) undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := s.undoTimeout
	if timeout == 0 {
		timeout = defaultUndo
	}
	return context.WithTimeout(context.WithoutCancel(ctx), timeout)
}

// part runs what takes several round trips: between any two of them ctx may end,
// and the caller may commit all the same. A savepoint undoes what was done by then.
func (o *txOutbox) part(ctx context.Context, first []step, fn func() error, last []step) error {
	q := o.s.q
	first = append([]step{{stmt: q.savepoint}}, first...)
	last = append(last, step{stmt: q.savepointRelease})
	for n := 1; ; n++ {
		done, err := o.r.run(ctx, first)
		if err == nil {
			err = fn()
		}
		if err == nil {
			_, err = o.r.run(ctx, last)
		}
		if err == nil || done == 0 {
			return err
		}
		if undone := o.undo(ctx); !undone || n == maxAttempts || codeOf(err) != codeNoObject {
			return err
		}
	}
}

// undo goes back to the savepoint. It tells whether the transaction is usable.
func (o *txOutbox) undo(ctx context.Context) bool {
	ctx, cancel := o.s.undoing(ctx)
	defer cancel()
	// In two batches: of a transaction in which something failed PostgreSQL takes
	// nothing but the first.
	for _, stmt := range []*statement{o.s.q.savepointBack, o.s.q.savepointRelease} {
		if _, err := o.r.run(ctx, []step{{stmt: stmt}}); err != nil {
			return false
		}
	}
	return true
}

// steered puts steps between statements that guide the planner and give the
// caller's transaction its settings back.
func (s *Store) steered(steps ...step) []step {
	all := make([]step, 0, len(steps)+4)
	all = append(all, step{stmt: s.q.steerSave}, step{stmt: s.q.steer})
	all = append(all, steps...)
	return append(all, step{stmt: s.q.steerBack})
}
