package persisttest

import (
	"context"
	"database/sql"

	"github.com/oncemq/oncemq/persist"
)

// TxBackend is implemented by backends whose stores join transactions. SQLTxs
// is one for transactions of database/sql.
type TxBackend interface {
	// DB is the caller's handle of the store's database, through which the
	// suite looks at effects. It stays open until the test ends.
	DB() *sql.DB
	// BeginTx starts a transaction of the caller.
	BeginTx(ctx context.Context) (CallerTx, error)
	// ProcessTx is the ProcessTx of the store.
	ProcessTx(ctx context.Context, store persist.Store, fn ProcessFunc) error
}

// ProcessFunc is what runs in a ProcessTx; tx is its transaction, of which only
// Exec and Outbox are used.
type ProcessFunc func(ctx context.Context, p persist.Process, tx CallerTx) error

// CallerTx is a transaction of the caller, whatever its kind.
type CallerTx interface {
	// Outbox is the store's outbox within the transaction.
	Outbox(store persist.Store) persist.TxOutbox
	// Exec runs a statement without parameters.
	Exec(ctx context.Context, statement string) error
	Commit(ctx context.Context) error
	Rollback(ctx context.Context) error
}

// SQLTxs makes a TxBackend of a handle of database/sql.
type SQLTxs struct {
	// Handle opens the handle, or returns the one that is open.
	Handle func() *sql.DB
}

var _ TxBackend = SQLTxs{}

// DB implements TxBackend.
func (b SQLTxs) DB() *sql.DB { return b.Handle() }

// BeginTx implements TxBackend.
func (b SQLTxs) BeginTx(ctx context.Context) (CallerTx, error) {
	tx, err := b.Handle().BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	return sqlTx{tx}, nil
}

// ProcessTx implements TxBackend.
func (SQLTxs) ProcessTx(ctx context.Context, store persist.Store, fn ProcessFunc) error {
	processor := store.(persist.TxProcessor[*sql.Tx])
	return processor.ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
		return fn(ctx, p, sqlTx{p.Tx()})
	})
}

// sqlTx is a CallerTx of database/sql.
type sqlTx struct{ tx *sql.Tx }

func (t sqlTx) Outbox(store persist.Store) persist.TxOutbox {
	return store.(persist.TxJoiner[*sql.Tx]).WithTx(t.tx)
}

func (t sqlTx) Exec(ctx context.Context, statement string) error {
	_, err := t.tx.ExecContext(ctx, statement)
	return err
}

func (t sqlTx) Commit(context.Context) error   { return t.tx.Commit() }
func (t sqlTx) Rollback(context.Context) error { return t.tx.Rollback() }
