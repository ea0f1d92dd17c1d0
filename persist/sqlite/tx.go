package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"

	"github.com/oncemq/oncemq/persist"
)

// execer is the part of a runner that changes things.
type execer interface {
	exec(ctx context.Context, stmt *statement, args ...any) (int64, error)
}

// step runs fn so that what it does in the transaction can be undone alone. An
// error of fn is returned, joined with what went wrong in undoing it.
func step(ctx context.Context, tx execer, q *queries, fn func() error) error {
	if _, err := tx.exec(ctx, q.savepoint); err != nil {
		return err
	}
	err := fn()
	if err != nil {
		if _, undo := tx.exec(ctx, q.savepointRollback); undo != nil {
			return both(err, undo)
		}
	}
	_, end := tx.exec(ctx, q.savepointRelease)
	return both(err, end)
}

// ProcessTx runs fn in one transaction; see [persist.TxProcessor]. While fn
// runs it holds the write lock of the database: nothing else that writes goes
// on, so that many keys in one transaction are faster than one in each. fn must
// not call methods of the store that write, since they would wait for it, and
// fail with [persist.ErrUnavailable] after the busy time-out.
//
// The end of ctx does not end the transaction by itself; whether to go on is
// fn's choice. But SQLite undoes the whole transaction if it interrupts a
// statement that writes, or if the disk is full, and from then on every method
// of the transaction fails, and so does ProcessTx.
func (s *Store) ProcessTx(ctx context.Context, fn func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error) error {
	const op = "process"
	if err := s.enter(op); err != nil {
		return err
	}
	defer s.leave()
	// Others in this process are waited for as long as ctx allows: how long
	// their transactions take is up to the program.
	if err := s.gate.enter(ctx, 0); err != nil {
		return translate(op, s.name, err)
	}
	defer s.gate.leave()
	p, err := s.processor.begin(ctx, s)
	if err != nil {
		return translate(op, s.name, err)
	}
	defer func() {
		// Also after a panic of fn, which goes on to the caller; and while a
		// goroutine that fn left behind still uses the transaction [CLAIM-12]:
		// Rollback waits for its statement, and what comes later fails.
		p.over.Store(true)
		_ = p.tx.Rollback() // after Commit it says that the transaction is done
	}()
	if err := fn(ctx, p); err != nil {
		return err
	}
	if err := p.usable(); err != nil {
		return translate(op, s.name, err)
	}
	if err := p.use(func(tx *txn) error { return tx.keys.write(context.WithoutCancel(ctx), tx) }); err != nil {
		return translate(op, s.name, err)
	}
	if err := p.tx.Commit(); err != nil {
		return translate(op, s.name, &commitError{err})
	}
	return nil
}

// processor is the connection of ProcessTx. Who has the gate may use it.
type processor struct {
	held *heldConn
	// undone tells that the transaction was rolled back. SQLite does that by
	// itself after some errors, and then runs each further statement in a
	// transaction of its own: a mark would be kept without its effect, and an effect
	// without its mark. So none of these is let through.
	undone atomic.Bool
}

// veto makes a rollback of a commit for which there is no transaction of ours.
func (pr *processor) veto() int32 {
	if pr.undone.Load() {
		return 1
	}
	return 0
}

// begin starts a transaction that is the writer from its first statement on,
// whatever the kind of transaction that the caller's pool begins.
func (pr *processor) begin(ctx context.Context, s *Store) (*process, error) {
	if pr.held == nil {
		held, err := holdConn(ctx, s, func(c *conn) error {
			hooks := c.dc.(sqlite.HookRegisterer)
			hooks.RegisterRollbackHook(func() { pr.undone.Store(true) })
			hooks.RegisterCommitHook(pr.veto)
			return nil
		})
		if err != nil {
			return nil, err
		}
		pr.held = held
	}
	// database/sql would roll back when ctx ends, behind our back.
	ctx = context.WithoutCancel(ctx)
	tx, err := pr.held.db.BeginTx(ctx, nil)
	if err != nil {
		if !isBusy(err) {
			// The connection may be broken; the next call takes another.
			pr.held.discard()
			pr.held = nil
		}
		return nil, err
	}
	pr.undone.Store(false)
	p := &process{s: s, tx: tx, processor: pr, held: pr.held}
	err = p.use(func(tx *txn) (err error) {
		p.epoch, err = nextClaimEpoch(ctx, tx)
		return err
	})
	if err != nil {
		return nil, both(err, tx.Rollback())
	}
	// The time counts from when the lock was got.
	p.now = s.now()
	return p, nil
}

// process is a transaction of ProcessTx.
type process struct {
	s         *Store
	processor *processor
	held      *heldConn // the processor's, which may have another later
	tx        *sql.Tx
	now       int64
	epoch     int64 // of all its marks
	over      atomic.Bool
	keys      keyCounts // used with the connection locked; see use
}

var _ persist.TxProcess[*sql.Tx] = (*process)(nil)

// errUndone: the transaction of a process is no more.
var errUndone = errors.New("the transaction was rolled back")

// usable tells whether the transaction is still open.
func (p *process) usable() error {
	if p.over.Load() || p.processor.undone.Load() {
		return errUndone
	}
	return nil
}

// use runs statements of ours in the transaction. fn must not call the user's
// code: the connection is locked.
func (p *process) use(fn func(tx *txn) error) error {
	return p.held.use(func(c *conn) error {
		if p.over.Load() {
			return errUndone // the connection may be in another transaction by now
		}
		tx := &txn{runner: c, q: p.s.q, now: p.now, keys: p.keys}
		err := fn(tx)
		p.keys = tx.keys // after an error too: what was done before it stays
		return err
	})
}

// exec runs one statement of ours in the transaction.
func (p *process) exec(ctx context.Context, stmt *statement, args ...any) (n int64, err error) {
	err = p.use(func(tx *txn) error {
		n, err = tx.exec(ctx, stmt, args...)
		return err
	})
	return n, err
}

// Tx is the transaction.
func (p *process) Tx() *sql.Tx { return p.tx }

// Begin marks keys as completed; see [persist.Process].
func (p *process) Begin(ctx context.Context, group string, keys []string, window time.Duration) ([]persist.Claim, error) {
	const op = "begin"
	if err := checkWindow(op, group, window); err != nil {
		return nil, err
	}
	if err := checkKeys(op, group, keys); err != nil {
		return nil, err
	}
	ctx, err := p.ready(ctx)
	if err != nil {
		return nil, translate(op, groupName(group), err)
	}
	claims := make([]persist.Claim, len(keys))
	err = p.use(func(tx *txn) error {
		id, err := p.group(ctx, tx, group)
		for i, key := range keys {
			if err != nil {
				break
			}
			claims[i] = persist.Claim{Key: key, Epoch: p.epoch}
			err = p.begin(ctx, tx, id, &claims[i], tx.now+millis(window))
		}
		return err
	})
	if err != nil {
		return nil, translate(op, groupName(group), err)
	}
	return claims, nil
}

func (p *process) begin(ctx context.Context, tx *txn, id int64, claim *persist.Claim, until int64) error {
	added, err := tx.exec(ctx, tx.q.claimAdd, id, storedKey(claim.Key), claim.Epoch, until)
	if err != nil {
		return err
	}
	if added > 0 {
		tx.keys.moved(keyAbsent, keyCompleted, added)
		claim.State, claim.Attempts = persist.ClaimGranted, 1
		return nil
	}
	known, err := getKey(ctx, tx, id, claim.Key)
	if err != nil || !known.decide(tx.now, claim) {
		return err
	}
	return putKey(ctx, tx, id, known, claim, keyCompleted, nil, until)
}

// ready looks whether a statement may run, and gives it a context that does not
// interrupt it: that would undo the whole transaction.
func (p *process) ready(ctx context.Context) (context.Context, error) {
	if err := p.usable(); err != nil {
		return nil, err
	}
	return context.WithoutCancel(ctx), ctx.Err()
}

// group is the number of a group. One that this transaction adds is not kept in
// memory, since it may be undone.
func (p *process) group(ctx context.Context, tx *txn, name string) (int64, error) {
	if id, ok := p.s.groups.Load(name); ok {
		return id.(int64), nil
	}
	return addGroup(ctx, tx, name)
}

// Step runs fn so that it can fail alone; see [persist.Process].
func (p *process) Step(ctx context.Context, fn func() error) error {
	const op = "step"
	ctx, err := p.ready(ctx)
	if err != nil {
		return translate(op, p.s.name, err)
	}
	var failed error
	err = step(ctx, p, p.s.q, func() error {
		var before keyCounts
		err := p.use(func(tx *txn) error {
			before = tx.keys
			return nil
		})
		if err != nil {
			return err
		}
		if failed = fn(); failed == nil {
			return nil
		}
		// What is undone was not counted. Without a transaction there is nothing to count.
		_ = p.use(func(tx *txn) error {
			tx.keys = before
			return nil
		})
		return failed
	})
	if failed != nil {
		// Whatever undid more than the step is told by the next call.
		return failed
	}
	return translate(op, p.s.name, err)
}

// AddDeadLetter stores a letter; see [persist.Process].
func (p *process) AddDeadLetter(ctx context.Context, letter persist.DeadLetter) error {
	const op = "add dead letter"
	if err := checkLetter(&letter); err != nil {
		return &persist.Error{Op: op, Object: p.s.name, Kind: persist.ErrInvalid, Err: err}
	}
	ctx, err := p.ready(ctx)
	if err == nil {
		err = p.use(func(tx *txn) error {
			if err := addDeadLetter(ctx, tx, &letter); err != nil || letter.Key == "" {
				return err
			}
			_, err := tx.exec(ctx, tx.q.claimDead, letter.Group, storedKey(letter.Key))
			return err
		})
	}
	return translate(op, p.s.name, err)
}
