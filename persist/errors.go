package persist

import (
	"errors"
	"strings"
)

// What went wrong, for errors.Is. Every error of a store wraps one of these or
// the context's error.
var (
	// ErrInvalid: an argument or a URL is not of the form that is needed.
	ErrInvalid = errors.New("invalid argument")
	// ErrNotFound: what was asked for is not there.
	ErrNotFound = errors.New("not found")
	// ErrLeaseHeld: somebody else holds the lane.
	ErrLeaseHeld = errors.New("lease is held by another")
	// ErrLeaseLost: the lease or claim passed to another; nothing was changed.
	ErrLeaseLost = errors.New("lease was lost")
	// ErrOutboxFull: a limit of the outbox is reached; nothing was stored. A
	// *FullError says which.
	ErrOutboxFull = errors.New("outbox is full")
	// ErrStoreFull: the disk or quota beneath the store is full; nothing was
	// stored.
	ErrStoreFull = errors.New("no space left for the store")
	// ErrReadOnly: the store can be read and not written.
	ErrReadOnly = errors.New("store is read-only")
	// ErrCorrupt: stored bytes cannot be read.
	ErrCorrupt = errors.New("store is corrupt")
	// ErrSchema: the store was written by a version that this one cannot use.
	ErrSchema = errors.New("store has another schema version")
	// ErrUnavailable: the store cannot be reached or is busy beyond the
	// time-out; nothing was changed, and trying again may help.
	ErrUnavailable = errors.New("store is unavailable")
	// ErrUnknownOutcome: the change may or may not have happened.
	ErrUnknownOutcome = errors.New("outcome is unknown")
	// ErrBusy: the call was not sent, since this process has as many connections in
	// use as it may. It comes with the error of the context that ended the wait.
	ErrBusy = errors.New("all connections are in use")
	// ErrTxInUse: the function of ProcessTx has returned, and a goroutine that it
	// left behind may go on using the transaction. See [TxProcessor].
	ErrTxInUse = errors.New("transaction is still in use")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("store is closed")
)

// Error tells which operation failed, on what, and why. It shows no
// credential and no payload.
type Error struct {
	// Op is the operation: "enqueue", "settle", "open".
	Op string
	// Object is what it was done to: a file, a lane, a group. May be empty.
	Object string
	// Kind is one of the sentinels of this package, or nil.
	Kind error
	// Err is the cause, the driver's error for one. May be nil.
	Err error
}

// Error is "op object: kind: cause".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Object != "" {
		b.WriteByte(' ')
		b.WriteString(e.Object)
	}
	if e.Kind != nil {
		b.WriteString(": ")
		b.WriteString(e.Kind.Error())
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap makes both the sentinel and the cause reachable.
func (e *Error) Unwrap() []error {
	var errs []error
	if e.Kind != nil {
		errs = append(errs, e.Kind)
	}
	if e.Err != nil {
		errs = append(errs, e.Err)
	}
	return errs
}
