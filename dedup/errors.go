package dedup

import (
	"errors"
	"fmt"

	"github.com/oncemq/oncemq/persist"
)

var (
	// ErrClosed is returned by Submit after Close was called.
	ErrClosed = errors.New("consumer is closed")
	// ErrSubmitted is returned by Submit for a delivery that was submitted
	// before and is not settled yet.
	ErrSubmitted = errors.New("delivery is already submitted")
	// ErrClaimLost is the cause with which a grant's context is cancelled when
	// the lease can no longer be relied on.
	ErrClaimLost = errors.New("claim was lost")
)

// AbandonedError tells that a message was begun again and again and nobody ever
// heard how it ended: the process died each time, or lost its claim. Its handler
// is not run once more.
type AbandonedError struct {
	// Attempts is how often it was begun.
	Attempts int
}

// Error is one line.
func (e *AbandonedError) Error() string {
	return fmt.Sprintf("begun %d times without an end; its process died each time, or lost its claim", e.Attempts)
}

// PanicError is a panic of a handler, turned into an error.
type PanicError struct {
	// Value is what the handler panicked with.
	Value any
	// Stack is the handler's stack, as runtime/debug.Stack gives it.
	Stack []byte
}

// Error names the value and leaves the stack to the log.
func (e *PanicError) Error() string {
	return fmt.Sprintf("handler panicked: %v", e.Value)
}

// Unwrap is the value, if the handler panicked with an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errAnswers is a store that broke its contract: another number of answers than
// of questions.
func errAnswers(op string, asked, answered int) error {
	return fmt.Errorf("%s: store answered %d of %d keys", op, answered, asked)
}

// isRefusal tells whether an error is due to one member of a batch, so that the
// others are worth trying without it. Every other error is about the store as a
// whole, or about the way to it.
func isRefusal(err error) bool { return errors.Is(err, persist.ErrInvalid) }
