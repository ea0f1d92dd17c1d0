package session

import (
	"context"
	"slices"
)

// WaitFlushed returns once no acknowledgement waits to be written, or the
// context ends.
func (e *Engine) WaitFlushed(ctx context.Context) error {
	return e.wait(ctx, e.flushed)
}

// WaitIdle returns once nothing is in flight, no acknowledgement waits to be written
// and no save is under way, or the context ends.
func (e *Engine) WaitIdle(ctx context.Context) error {
	return e.wait(ctx, func() bool {
		return e.barrier.lost || e.flights.len == 0 && !e.barrier.saving && e.flushed()
	})
}

// WaitRequest returns once another SUBSCRIBE or UNSUBSCRIBE may be sent, after
// ErrTooManyRequests, or the connection has ended, or the context ends.
func (e *Engine) WaitRequest(ctx context.Context) error {
	return e.wait(ctx, func() bool { return len(e.requests) < spareIDs })
}

// flushed tells whether nothing waits to be written, or nothing is written any
// more. e.mu is held.
func (e *Engine) flushed() bool {
	return e.barrier.lost || !e.writing && len(e.replies) == 0 && !e.inbox.due()
}

// waiter is somebody who waits for a state of the engine.
type waiter struct {
	until func() bool // called under Engine.mu
	done  chan struct{}
}

func (e *Engine) wait(ctx context.Context, until func() bool) error {
	w := &waiter{until, make(chan struct{})}
	e.mu.Lock()
	if until() {
		e.mu.Unlock()
		return nil
	}
	e.waiters = append(e.waiters, w)
	e.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	e.mu.Lock()
	e.waiters = slices.DeleteFunc(e.waiters, func(other *waiter) bool { return other == w })
	e.mu.Unlock()
	return ctx.Err()
}

// tellWaiters is called after every change that somebody may wait for.
func (e *Engine) tellWaiters() {
	e.waiters = slices.DeleteFunc(e.waiters, func(w *waiter) bool {
		if w.until() {
			close(w.done)
			return true
		}
		return false
	})
}
