package postgres

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5"

	"github.com/oncemq/oncemq/persist"
)

// WithTx is the outbox within a transaction of the caller [OUTBOX-13], on a
// connection to the store's database from whatever pool. A call is one round trip
// (with [Options.MaxMessages] a few), holds no lock that others who enqueue would
// wait for, but on the IDs of idempotent messages and for that limit, and leaves
// the settings of the transaction as they were. After an error of PostgreSQL the
// transaction can only be rolled back; a refusal such as [persist.ErrOutboxFull]
// leaves it usable. How durable its commit is depends on the caller's settings.
//
// Other processes are woken by the commit. This one is too, unless NoListen is set
// or a pooler stands between: then the messages are found at the next poll.
func (s *Store) WithTx(tx pgx.Tx) persist.TxOutbox { return &txOutbox{s, pgxRunner{tx}} }

// WithSQLTx is [Store.WithTx] for a transaction of database/sql, whatever the
// driver, as long as it is one for PostgreSQL. Each statement is a round trip.
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
	if s.opts.MaxMessages > 0 {
		err = o.limited(ctx, t)
	} else {
		err = o.insert(ctx, t)
	}
	if err == nil {
		err = t.err
	}
	if err != nil {
		// Whatever it is, the messages are not there unless the caller commits, and
		// PostgreSQL does not commit a transaction in which something failed.
		return nil, translate(opEnqueue, s.name, err)
	}
	return t.out, nil
}

func (o *txOutbox) insert(ctx context.Context, t *enqueueTask) error {
	in, steps := o.s.insert([]*enqueueTask{t})
	if in.kind == onceRows {
		steps = o.s.steered(steps...)
	}
	if _, err := o.r.run(ctx, append(steps, o.s.tellAll())); err != nil {
		return err
	}
	in.finish()
	return nil
}

func (o *txOutbox) limited(ctx context.Context, t *enqueueTask) error {
	q := o.s.q
	if _, err := o.r.run(ctx, []step{{stmt: q.steerSave}, {stmt: q.steer}}); err != nil {
		return err
	}
	if err := o.s.insertLimited(ctx, o.r, []*enqueueTask{t}); err != nil {
		return err
	}
	_, err := o.r.run(ctx, []step{{stmt: q.steerBack}, o.s.tellAll()})
	return err
}

// steered puts steps between statements that guide the planner and give the
// caller's transaction its settings back.
func (s *Store) steered(steps ...step) []step {
	all := make([]step, 0, len(steps)+4)
	all = append(all, step{stmt: s.q.steerSave}, step{stmt: s.q.steer})
	all = append(all, steps...)
	return append(all, step{stmt: s.q.steerBack})
}
