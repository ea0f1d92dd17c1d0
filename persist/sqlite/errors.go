package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/oncemq/oncemq/persist"
)

// translate makes an error of this package into one of persist: with what was
// being done, to what, and the sentinel. The driver's error stays reachable by
// errors.As. A *persist.Error passes as it is.
func translate(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var done *persist.Error
	if errors.As(err, &done) {
		return err
	}
	return &persist.Error{Op: op, Object: object, Kind: kindOf(err), Err: err}
}

// refuse is an error of persist that has no cause beneath it.
func refuse(op, object string, kind error) error {
	return &persist.Error{Op: op, Object: object, Kind: kind}
}

// kindOf is the sentinel of an error; nil for the context's, which stand for
// themselves, and for errors that already wrap a sentinel.
func kindOf(err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case isKind(err):
		return nil
	case errors.Is(err, sql.ErrTxDone):
		// The caller's transaction was over before we began.
		return persist.ErrInvalid
	case errors.Is(err, sql.ErrConnDone), errors.Is(err, driver.ErrBadConn):
		return persist.ErrUnavailable
	}
	code, ok := resultCode(err)
	if !ok {
		// database/sql has errors without a type, "sql: database is closed"
		// for one. None of them leaves a change behind.
		return persist.ErrUnavailable
	}
	var commit *commitError
	switch {
	case code == sqlite3.SQLITE_IOERR_SHMSIZE:
		// The index of the write-ahead log is a file of its own. If it cannot
		// grow, the disk is full, whatever the code says.
		return persist.ErrStoreFull
	case code&0xff == sqlite3.SQLITE_IOERR && errors.As(err, &commit):
		// The frames of the transaction may be in the log, whole. Nobody sees
		// them now, but a crash before the next commit overwrites them would
		// bring them back.
		return persist.ErrUnknownOutcome
	}
	switch code & 0xff {
	case sqlite3.SQLITE_FULL:
		return persist.ErrStoreFull
	case sqlite3.SQLITE_READONLY:
		return persist.ErrReadOnly
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT:
		return persist.ErrCorrupt
	case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH:
		// No constraint of ours can fail through the arguments of a call, so
		// the tables are not as we left them.
		return persist.ErrCorrupt
	case sqlite3.SQLITE_TOOBIG:
		return persist.ErrInvalid
	}
	// BUSY, LOCKED, IOERR, CANTOPEN, NOMEM, PROTOCOL, PERM and the rest: the
	// statement was undone, and another attempt may go better.
	return persist.ErrUnavailable
}

// commitError is an error of COMMIT.
type commitError struct{ error }

func (e *commitError) Unwrap() error { return e.error }

// errGateBusy: another transaction of this process did not end in time.
var errGateBusy = errors.New("another transaction of this process holds the write lock")

// resultCode is SQLite's extended result code.
func resultCode(err error) (int, bool) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.Code(), true
}

// isBusy tells whether another connection held a lock for too long.
func isBusy(err error) bool {
	code, ok := resultCode(err)
	return ok && (code&0xff == sqlite3.SQLITE_BUSY || code&0xff == sqlite3.SQLITE_LOCKED)
}

// both is two errors in one line, or the one there is.
func both(err, other error) error {
	switch {
	case err == nil:
		return other
	case other == nil:
		return err
	}
	return fmt.Errorf("%w; %w", err, other)
}

func isKind(err error) bool {
	for _, kind := range []error{
		persist.ErrInvalid, persist.ErrNotFound, persist.ErrLeaseHeld, persist.ErrLeaseLost,
		persist.ErrOutboxFull, persist.ErrStoreFull, persist.ErrReadOnly, persist.ErrCorrupt,
		persist.ErrSchema, persist.ErrUnavailable, persist.ErrUnknownOutcome, persist.ErrClosed,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
