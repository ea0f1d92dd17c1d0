package postgres

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oncemq/oncemq/persist"
)

// ProcessTx runs fn in one transaction on a connection of the store's pool; see
// [persist.TxProcessor]. An error of PostgreSQL in fn's own statements makes the
// transaction useless, unless it happened within Step: return it then. Two
// transactions with the same key run one after the other, from the second's Begin
// on. Deadlocks, between locks of handlers, end as any other error of a statement:
// nothing has happened, and the caller may try again.
func (s *Store) ProcessTx(ctx context.Context, fn func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error) error {
	const op = "process"
	if err := ctx.Err(); err != nil {
		return translate(op, s.name, err)
	}
	if err := s.enter(op); err != nil {
		return err
	}
	defer s.leave()
	var own error // what fn has returned
	certain, err := s.attemptTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		p := &process{s: s, tx: tx}
		defer p.over.Store(true)
		own = fn(ctx, p)
		return own
	})
	switch {
	case own != nil:
		return ownError(op, s.name, own)
	case err == nil:
		return nil
	case !certain:
		return unknown(op, s.name, err)
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return translate(op, s.name, errFailedTx)
	}
	return translate(op, s.name, err)
}

// errFailedTx: fn returned nil after a statement had failed.
var errFailedTx = errors.New("a statement had failed, so that the transaction was rolled back")

// ownError is an error of a handler: its own, but for what the server says when
// another transaction was in the way, which it passed on.
func ownError(op, object string, err error) error {
	switch codeOf(err) {
	case codeDeadlock, codeSerialization:
		return translate(op, object, err)
	}
	return err
}

// process is a transaction of ProcessTx.
type process struct {
	s    *Store
	tx   pgx.Tx
	over atomic.Bool
}

var _ persist.TxProcess[pgx.Tx] = (*process)(nil)

// Tx is the transaction.
func (p *process) Tx() pgx.Tx { return p.tx }

// errOver: the function that got the process has returned.
var errOver = errors.New("the transaction is over")

// ready looks whether a statement may run.
func (p *process) ready(ctx context.Context) error {
	if p.over.Load() {
		return errOver
	}
	return ctx.Err()
}

// Begin marks keys as completed; see [persist.Process].
//
// It claims the keys as any replica would, marks what it got, and deletes its
// claims, all before anybody sees them. So the unique index of the claims decides
// here too. Whoever comes to a key of ours, in whichever way, finds a row of a
// transaction under way and waits for its end. If we commit, the claim is gone and
// the mark is there, which both kinds look for again after they got their row; if
// we roll back there is neither. And a claim of a replica without transactions that
// was committed before ours is seen by the insertion, which waits for it if it is
// not committed yet.
func (p *process) Begin(ctx context.Context, group string, keys []string, window time.Duration) ([]persist.Claim, error) {
	const op = "begin"
	s, object := p.s, groupName(group)
	if err := checkWindow(op, group, window); err != nil {
		return nil, err
	}
	list := newKeyList(len(keys), func(i int) string { return keys[i] })
	if list.twice() {
		return nil, invalid(op, object, errTwice)
	}
	if err := p.ready(ctx); err != nil {
		return nil, translate(op, object, err)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	for range maxAttempts {
		a := answers{req: keys, keys: list}
		// Nobody sees the lease.
		steps := s.claimSteps(&a, group, int64(time.Hour/time.Millisecond), "")
		steps = append(steps, step{stmt: s.q.mark, args: []any{list.keys, millis(window)}})
		if _, err := (pgxRunner{p.tx}).run(ctx, s.steered(steps...)); err != nil {
			return nil, translate(op, object, err)
		}
		if a.group {
			return a.finish(), nil
		}
		if err := p.addGroup(ctx, group); err != nil {
			return nil, translate(op, object, err)
		}
	}
	return nil, translate(op, object, errNoGroup)
}

// addGroup numbers a group that is new. That is done outside of this transaction,
// which may be rolled back, and on which others that add it would wait; and on a
// connection that is none of the pool's: who holds one of these and waits for another
// may wait for ever, if all do.
func (p *process) addGroup(ctx context.Context, name string) error {
	c, err := pgx.ConnectConfig(ctx, p.s.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	_, err = pgxRunner{c}.run(ctx, []step{p.s.groupAdding(name)})
	closing, cancel := p.s.undoing(ctx)
	defer cancel()
	return errors.Join(err, c.Close(closing))
}

// Step runs fn so that it can fail alone; see [persist.Process].
func (p *process) Step(ctx context.Context, fn func() error) error {
	const op = "step"
	if err := p.ready(ctx); err != nil {
		return translate(op, p.s.name, err)
	}
	// A nested transaction of pgx is a savepoint, and p.tx goes on to be used in it.
	nested, err := p.tx.Begin(ctx)
	if err != nil {
		return translate(op, p.s.name, err)
	}
	undo := func() error {
		ctx, cancel := p.s.undoing(ctx)
		defer cancel()
		return nested.Rollback(ctx)
	}
	defer func() { _ = undo() }() // after a panic; else it is closed
	if failed := fn(); failed != nil {
		if err := undo(); err != nil {
			return errors.Join(failed, translate(op, p.s.name, err))
		}
		return failed
	}
	return translate(op, p.s.name, nested.Commit(ctx))
}

// AddDeadLetter stores a letter; see [persist.Process].
func (p *process) AddDeadLetter(ctx context.Context, letter persist.DeadLetter) error {
	const op = "add dead letter"
	if err := checkLetter(&letter); err != nil {
		return invalid(op, p.s.name, err)
	}
	err := p.ready(ctx)
	if err == nil {
		var list letterList
		list.add(&letter)
		steps := []step{{stmt: p.s.q.deadAdd, args: list.args()}}
		if letter.Key != "" {
			steps = append(steps, step{stmt: p.s.q.claimDead, args: []any{storedKey(letter.Group), storedKey(letter.Key)}})
		}
		_, err = pgxRunner{p.tx}.run(ctx, steps)
	}
	return translate(op, p.s.name, err)
}
