package autopaho

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// BreakerName tells one circuit breaker of a client from the other.
type BreakerName string

// The circuit breakers of a client.
const (
	// BreakerStore is around the store. While it is not closed Enqueue fails at
	// once with a *BreakerError instead of waiting for a time-out each time.
	BreakerStore BreakerName = "store"
	// BreakerBroker is around the broker's acceptance of the outbox's messages.
	// While it is not closed messages wait in the outbox, but for a few that
	// are sent to find out whether they are welcome again.
	BreakerBroker BreakerName = "broker"
)

// BreakerState is the state of a circuit breaker.
type BreakerState string

// The states of a circuit breaker.
const (
	// BreakerClosed: all is well, or failures are few.
	BreakerClosed BreakerState = "closed"
	// BreakerOpen: what is behind it fails, and is left alone for a moment.
	BreakerOpen BreakerState = "open"
	// BreakerHalfOpen: it is being tried.
	BreakerHalfOpen BreakerState = "half-open"
)

// BreakerStatus is a circuit breaker at a moment.
type BreakerStatus struct {
	Name  BreakerName
	State BreakerState
	Since time.Time // when State began
	// Err is the last failure; nil while the breaker is closed.
	Err error
}

// breaker is what both breakers have in common: the library's breaker, and whom
// to tell.
type breaker struct {
	client *Client
	inner  circuitbreaker.CircuitBreaker[any] // used under mu, so that changes are in order
	calm   atomic.Bool                        // closed, with no failure since the last success
	moved  func(was, is BreakerState)         // called after a change was told

	mu      sync.Mutex // guards the following
	status  BreakerStatus
	lastErr error
	changes []breakerChange
	telling bool // a goroutine is passing changes on
	opened  bool // the hook knows that it is open; only who passes changes on uses it
	closed  bool // the client was closed
}

type breakerChange struct {
	was    BreakerState
	status BreakerStatus
}

// init makes a breaker that opens after so many failures in a row, and may be
// tried again after the delay.
func (b *breaker) init(c *Client, name BreakerName, failures uint, delay time.Duration) {
	b.client = c
	b.status = BreakerStatus{Name: name, State: BreakerClosed, Since: time.Now()}
	b.calm.Store(true)
	b.inner = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(failures).WithSuccessThreshold(1).WithDelay(delay).
		OnStateChanged(b.changed).Build()
}

// changed is called by the library within change.
func (b *breaker) changed(e circuitbreaker.StateChangedEvent) {
	was := b.status.State
	b.status.State, b.status.Since, b.status.Err = stateNames(e.NewState), time.Now(), b.lastErr
	if b.status.State == BreakerClosed {
		b.status.Err = nil
	}
	b.changes = append(b.changes, breakerChange{was, b.status})
}

func stateNames(s circuitbreaker.State) BreakerState {
	switch s {
	case circuitbreaker.OpenState:
		return BreakerOpen
	case circuitbreaker.HalfOpenState:
		return BreakerHalfOpen
	default:
		return BreakerClosed
	}
}

// change does something to the breaker, and tells what became of it. One goroutine
// tells at a time, without a lock, what others have changed meanwhile as well: so
// changes are told in order.
func (b *breaker) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	f()
	if b.telling {
		return
	}
	b.telling = true
	for len(b.changes) > 0 {
		c := b.changes[0]
		b.changes = b.changes[1:]
		b.mu.Unlock()
		b.tell(c)
		b.mu.Lock()
	}
	b.telling = false
}

func (b *breaker) tell(c breakerChange) {
	b.client.event(Event{Kind: EventBreaker, Breaker: c.status, Err: c.status.Err})
	hook := b.client.cfg.OnBreaker
	switch open := c.status.State == BreakerOpen; {
	case open && !b.opened:
		b.client.cfg.Logger.WarnContext(context.Background(), "circuit breaker opened", "breaker", c.status.Name, "error", c.status.Err)
	case c.status.State == BreakerClosed:
		b.client.cfg.Logger.InfoContext(context.Background(), "circuit breaker closed", "breaker", c.status.Name)
	default:
		hook = nil // it was told that the breaker is open
	}
	b.opened = c.status.State != BreakerClosed
	if hook != nil {
		hook(c.status)
	}
	b.moved(c.was, c.status.State)
}

// failed counts a failure.
func (b *breaker) failed(err error) {
	b.change(func() { b.record(err) })
}

// record is failed, within change.
func (b *breaker) record(err error) {
	b.calm.Store(false)
	b.lastErr = err
	b.inner.RecordFailure()
	if b.status.State != BreakerClosed {
		b.status.Err = err
	}
}

// succeeded closes the breaker: who was let through all the same knows best.
func (b *breaker) succeeded() {
	if b.calm.Load() {
		return
	}
	b.change(func() {
		b.inner.RecordSuccess() // ends the row of failures
		b.inner.Close()
		b.calm.Store(true)
	})
}

func (b *breaker) snapshot() BreakerStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

// close ends all changes.
func (b *breaker) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
}
