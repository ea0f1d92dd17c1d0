package postgres

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/oncemq/oncemq/persist"
)

// SQLSTATE codes that are told apart; classes are their first two characters.
// See appendix A of PostgreSQL's documentation.
const (
	classData       = "22"
	classConstraint = "23"

	codeUnique         = "23505"
	codeTxState        = "25000" // of demand_read_committed
	codeReadOnly       = "25006"
	codeFailedTx       = "25P02"
	codeNoSchema       = "3F000"
	codeDeadlock       = "40P01"
	codeSerialization  = "40001"
	codeNoTable        = "42P01"
	codeNoColumn       = "42703"
	codeNoFunction     = "42883"
	codeNoObject       = "42704" // also of insert_rivals
	codeDiskFull       = "53100"
	codeProgramLimit   = "54000"
	codeLockTimeout    = "55P03" // see Store.forgetting
	codeShutdown       = "57P01"
	codeCrash          = "57P02"
	codeCorrupted      = "XX001"
	codeIndexCorrupted = "XX002"
)

// translate makes an error of this package into one of persist: with what was
// being done, to what, and the sentinel. The driver's error stays reachable by
// errors.As. A *persist.Error passes as it is. It is for errors after which
// nothing has happened; see unknown.
func translate(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var done *persist.Error
	if errors.As(err, &done) {
		return err
	}
	return &persist.Error{Op: op, Object: object, Kind: kindOf(err), Err: oneLine(err)}
}

// unknown is translate for an error after which the change may have happened.
func unknown(op, object string, err error) error {
	return &persist.Error{Op: op, Object: object, Kind: persist.ErrUnknownOutcome, Err: oneLine(err)}
}

// refuse is an error of persist that has no cause beneath it.
func refuse(op, object string, kind error) error {
	return &persist.Error{Op: op, Object: object, Kind: kind}
}

// invalid refuses an argument.
func invalid(op, object string, err error) error {
	return &persist.Error{Op: op, Object: object, Kind: persist.ErrInvalid, Err: err}
}

// kindOf is the sentinel of an error; nil for the context's, which stand for
// themselves, and for errors that already wrap a sentinel.
func kindOf(err error) error {
	var refused *pgconn.PgError
	switch {
	case isKind(err):
		return nil
	case errors.As(err, &refused):
		return kindOfCode(refused.Code)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil
	case errors.Is(err, sql.ErrTxDone), errors.Is(err, pgx.ErrTxClosed):
		// The caller's transaction was over before we began.
		return persist.ErrInvalid
	}
	// The network, a closed pool, and whatever else keeps us from the server.
	return persist.ErrUnavailable
}

// kindOfCode is the sentinel of an SQLSTATE. A wrong password or a missing right
// is an ErrUnavailable like a server that is down: nothing was changed, somebody
// has to do something, and then it goes on.
func kindOfCode(code string) error {
	switch code {
	case codeReadOnly:
		return persist.ErrReadOnly
	case codeDiskFull:
		return persist.ErrStoreFull
	case codeNoTable, codeNoColumn, codeNoFunction, codeNoSchema:
		return persist.ErrSchema
	case codeCorrupted, codeIndexCorrupted:
		return persist.ErrCorrupt
	case codeFailedTx, codeTxState, codeProgramLimit:
		return persist.ErrInvalid
	}
	switch code[:min(2, len(code))] {
	case classData, classConstraint:
		// No value of ours is out of range and no constraint of ours can fail
		// through the arguments of a call, so the tables are not as we left them.
		return persist.ErrCorrupt
	}
	return persist.ErrUnavailable
}

// worthAnotherTry tells whether a call that failed, and did nothing, may go
// better at once: another transaction was in its way, or the connection of the
// pool was dead, of which the next one may know.
func worthAnotherTry(err error, m mode) bool {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		switch refused.Code {
		case codeDeadlock, codeSerialization, codeShutdown, codeCrash, codeNoObject:
			return true
		}
		return false
	}
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var network net.Error
	broken := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &network)
	return pgconn.SafeToRetry(err) || m == reads && broken
}

// oneLine is an error whose text has no line breaks. pgx puts each address that
// it tried on a line of its own.
func oneLine(err error) error {
	if text := err.Error(); strings.ContainsAny(text, "\r\n\t") {
		return &flatError{err: err, text: strings.Join(strings.Fields(text), " ")}
	}
	return err
}

type flatError struct {
	err  error
	text string
}

func (e *flatError) Error() string { return e.text }
func (e *flatError) Unwrap() error { return e.err }

// codeOf is the SQLSTATE of an error, if the server sent it.
func codeOf(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// both is two errors, or the one there is.
func both(err, other error) error {
	switch {
	case err == nil:
		return other
	case other == nil:
		return err
	}
	return errors.Join(err, other)
}

func isKind(err error) bool {
	for _, kind := range []error{
		persist.ErrInvalid, persist.ErrNotFound, persist.ErrLeaseHeld, persist.ErrLeaseLost,
		persist.ErrOutboxFull, persist.ErrStoreFull, persist.ErrReadOnly, persist.ErrCorrupt,
		persist.ErrSchema, persist.ErrUnavailable, persist.ErrUnknownOutcome, persist.ErrClosed, persist.ErrBusy,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}
