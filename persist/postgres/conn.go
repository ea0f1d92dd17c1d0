package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oncemq/oncemq/persist"
)

// step is one statement of a transaction.
type step struct {
	stmt *statement
	args []any
	// row gets each row of the result. Nil: nobody looks at them.
	row func(r row) error
	// changed gets the number of rows that were changed; may be nil. It is not
	// known beside row.
	changed *int64
}

// row is a row of a result.
type row interface{ Scan(dest ...any) error }

// runner runs statements one after another, on a connection or in a transaction.
// Arguments are of the types of this package's statements: integers, bool,
// string, []byte and slices of these.
type runner interface {
	// run tells how many of the steps were carried out.
	run(ctx context.Context, steps []step) (done int, err error)
}

// rowError is an error of step.row.
type rowError struct{ error }

func (e *rowError) Unwrap() error { return e.error }

// batchSender is what connections, pools and transactions of pgx have in common.
type batchSender interface {
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
}

// pgxRunner sends all statements at once and then reads all answers: one round
// trip. On a connection without a transaction they are one transaction all the
// same, which PostgreSQL begins with the first of them and commits at the end of
// the batch, or rolls back with the first error.
type pgxRunner struct{ batchSender }

func (r pgxRunner) run(ctx context.Context, steps []step) (done int, err error) {
	b := &pgx.Batch{QueuedQueries: make([]*pgx.QueuedQuery, 0, len(steps))}
	for i := range steps {
		b.Queue(steps[i].stmt.text, steps[i].args...)
	}
	results := r.SendBatch(ctx, b)
	var failed error
	for i := range steps {
		if err = readStep(results, &steps[i], &failed); err != nil {
			break
		}
		done++
	}
	if end := results.Close(); err == nil {
		err = end
	}
	if err == nil && failed != nil {
		err = &rowError{failed}
	}
	return done, err
}

// readStep reads one result to its end. An error of its row function ends neither
// the statement nor those after it, which the server carries out anyway.
func readStep(results pgx.BatchResults, st *step, failed *error) error {
	if st.row == nil {
		tag, err := results.Exec()
		if err == nil && st.changed != nil {
			*st.changed = tag.RowsAffected()
		}
		return err
	}
	rows, err := results.Query()
	if err != nil {
		return err
	}
	for *failed == nil && rows.Next() {
		*failed = st.row(rows)
	}
	rows.Close()
	return rows.Err()
}

// sqlRunner runs statements in a transaction of database/sql, one by one.
// Whatever the driver, lists reach it as text.
type sqlRunner struct{ tx *sql.Tx }

func (r sqlRunner) run(ctx context.Context, steps []step) (done int, err error) {
	for i := range steps {
		if err := r.one(ctx, &steps[i]); err != nil {
			return done, err
		}
		done++
	}
	return done, nil
}

func (r sqlRunner) one(ctx context.Context, st *step) (err error) {
	args := make([]any, len(st.args))
	for i, arg := range st.args {
		args[i] = sqlArgument(arg)
	}
	if st.row == nil {
		res, err := r.tx.ExecContext(ctx, st.stmt.text, args...)
		if err == nil && st.changed != nil {
			*st.changed, err = res.RowsAffected()
		}
		return err
	}
	rows, err := r.tx.QueryContext(ctx, st.stmt.text, args...)
	if err != nil {
		return err
	}
	defer func() {
		if end := rows.Close(); err == nil {
			err = end
		}
	}()
	for rows.Next() {
		if err := st.row(rows); err != nil {
			return &rowError{err}
		}
	}
	return rows.Err()
}

// sqlArgument is an argument as any driver of PostgreSQL takes it.
func sqlArgument(arg any) any {
	switch list := arg.(type) {
	case []int16:
		return textArray(list, func(n int16) string { return strconv.Itoa(int(n)) })
	case []int32:
		return textArray(list, func(n int32) string { return strconv.Itoa(int(n)) })
	case []int64:
		return textArray(list, func(n int64) string { return strconv.FormatInt(n, 10) })
	case []bool:
		return textArray(list, strconv.FormatBool)
	case [][]byte:
		return textArray(list, func(b []byte) string {
			if b == nil {
				return "NULL"
			}
			return fmt.Sprintf(`"\\x%x"`, b)
		})
	}
	return arg
}

// textArray is an array in the text format of PostgreSQL.
func textArray[T any](list []T, text func(T) string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, v := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(text(v))
	}
	b.WriteByte('}')
	return b.String()
}

// attempt runs steps once on a connection of the pool, as one transaction.
// certain tells that with err nothing has happened.
//
// What PostgreSQL refuses it undoes. An error that comes before the last
// statement was answered therefore means that there was no commit: the end of the
// batch, which commits, is read by the server after all statements. An error after
// that, a connection that breaks without one, or a row that was not understood
// leaves it open. So does the last word of a pooler whose server broke off: answers
// that the server had not passed on yet are lost before it. A server that shuts
// down and speaks to us itself gives the answers first.
func (s *Store) attempt(ctx context.Context, steps []step) (certain bool, err error) {
	c, err := s.acquire(ctx)
	if err != nil {
		return true, err
	}
	defer s.giveBack(c)
	done, err := pgxRunner{c}.run(ctx, steps)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &refused):
		return done < len(steps) && s.undone(refused), err
	}
	return pgconn.SafeToRetry(err), err
}

// acquire takes a connection of the pool.
func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	c, err := s.pool.Acquire(ctx)
	if err != nil && ctx.Err() != nil {
		if st := s.pool.Stat(); st.AcquiredConns() >= st.MaxConns() {
			err = fmt.Errorf("%w: %w", persist.ErrBusy, err)
		}
	}
	return c, err
}

// giveBack gives a connection back to the pool. One that was given up leaves it at once:
// pgx takes up to 15 s to close it, and its place would be taken meanwhile.
func (s *Store) giveBack(c *pgxpool.Conn) {
	if !c.Conn().IsClosed() {
		c.Release()
		return
	}
	done := c.Hijack().PgConn().CleanupDone()
	if s.owned { // as a pool of ours would, Close waits for it
		s.work.Go(func() { <-done })
	}
}

// undone tells that an error which came within a batch has undone it.
func (s *Store) undone(refused *pgconn.PgError) bool {
	if refused.SeverityUnlocalized == "ERROR" {
		return true
	}
	return !s.pooled && (refused.Code == codeShutdown || refused.Code == codeCrash)
}

// mode tells what a call does to the store.
type mode uint8

const (
	// reads: the call changes nothing, so that its error is always certain.
	reads mode = iota
	// writes: the call changes something.
	writes
)

// maxAttempts is how often a call is tried while nothing happened and another
// attempt may go better.
const maxAttempts = 3

// do runs a transaction on behalf of a caller: build is called for each attempt
// and must begin its results anew.
func (s *Store) do(ctx context.Context, op, object string, m mode, build func() []step) error {
	if err := s.enter(op); err != nil {
		return err
	}
	defer s.leave()
	return s.transact(ctx, op, object, m, build)
}

// transact is do for calls that have entered.
func (s *Store) transact(ctx context.Context, op, object string, m mode, build func() []step) error {
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return translate(op, object, err)
		}
		certain, err := s.attempt(ctx, build())
		if err == nil {
			return nil
		}
		if certain || m == reads {
			if n < maxAttempts && worthAnotherTry(err, m) {
				continue
			}
			return translate(op, object, err)
		}
		return unknown(op, object, err)
	}
}
