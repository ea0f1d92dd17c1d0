package autopaho

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Received is a message as a handler sees it. It is the handler's to read, not
// to keep: a handler that goes on using it after it has returned copies it.
type Received struct {
	Message
	// Dup is the DUP flag of the PUBLISH: the broker may have sent it before.
	Dup bool
	// PacketID is the packet identifier, for logs: it means nothing once the
	// connection has ended. Zero at QoS 0.
	PacketID uint16
	// Group is the subscription's.
	Group string
	// Attempt is how often the message was begun, by all replicas of the
	// group, this time included; by this process alone without dedup.
	Attempt int
	// Epoch is the fencing token of the claim: higher for each later holder.
	// An effect outside the store (a call to another service) cannot be undone
	// when a paused replica wakes up; a service that remembers the highest
	// epoch can refuse it. Zero without dedup.
	Epoch int64
	// At is when the message was received, by this process's clock.
	At time.Time
}

// Handler processes one message. Nil completes it: the mark becomes durable,
// then the broker gets its acknowledgement. An error has it tried again, with
// back-off, up to the subscription's attempts; then, or at once if the error
// wraps [Permanent], it becomes a dead letter. A panic is an error, and so is
// runtime.Goexit.
//
// The context ends when the client closes and its patience is over, when the
// HandlerTimeout is, or when the claim was lost to another replica.
type Handler func(ctx context.Context, m *Received) error

// BatchHandler processes many messages at once, in the order in which they came.
// Nil completes all of them. If it fails or panics nobody knows by whose fault:
// it is called for each message alone then, and the messages that fail alone are
// tried again and become dead letters as those of a Handler do, while the others
// go on. So a message may be handed over again that a failed call has seen.
// ErrRelease gives all of them back.
//
// The slice is the handler's until it returns, and so are the messages. The
// context ends as that of a Handler does: when the claim of one of the messages
// was lost, among others.
type BatchHandler func(ctx context.Context, msgs []*Received) error

// ErrRelease is returned by a handler that gives a message back: it is neither
// processed nor failed, no attempt is made here again, and the broker gets no
// acknowledgement for it or for what came after it on this connection. So it
// comes again, to this replica or another, once the connection has ended: for a
// handler that is about to stop.
var ErrRelease = errors.New("message was given back")

// Permanent marks an error that trying again would not mend: the message
// becomes a dead letter at once.
func Permanent(err error) error { return &permanentError{err} }

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// PanicError is a handler's panic.
type PanicError struct {
	Value any
	Stack []byte
}

// Error tells the value, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// errGoexit is the error of a handler that has ended its goroutine by runtime.Goexit,
// as FailNow of package testing does. Another goroutine takes the place of that one.
var errGoexit = errors.New("handler ended its goroutine")

// call runs a handler and turns a panic into an error.
func call(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return run(ctx)
}

// callApart is call on a goroutine of the handler's own, which it may end.
func callApart(ctx context.Context, run func(context.Context) error) error {
	returned := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { returned <- err }()
		err = call(ctx, run)
	}()
	return <-returned
}
