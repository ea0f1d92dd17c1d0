package autopaho

import (
	"context"
	"errors"
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// finish ends the link in good order: nothing new is sent, what is in flight is
// waited for, every answer is settled, the client disconnects, and the lane is
// released last, so that its next holder meets no client of ours. It is false if
// the lane was another's by then.
func (d *drain) finish(link *session.Link, cause error) (kept bool) {
	d.mu.Lock()
	d.stopped = true
	d.out -= d.queue.len()
	d.queue.init()
	d.mu.Unlock()
	ctx := d.relay.ctx
	engine := link.Engine()
	if cause == nil && engine.Snapshot().Connected {
		wait, cancel := context.WithTimeout(ctx, d.answerTimeout())
		_ = engine.WaitIdle(wait) // what is not answered stays pending
		cancel()
	}
	// The user's patience may be over; the last writes are still worth a try.
	last, cancel := closingContext(ctx)
	defer cancel()
	lostLease := errors.Is(cause, persist.ErrLeaseLost)
	if !lostLease && d.receipts.record(last) == nil && engine.Snapshot().Connected {
		flushed, cancel := context.WithTimeout(last, closeTimeout/4)
		_ = engine.WaitFlushed(flushed) // the receipts' PUBACKs; they come again if not
		cancel()
	}
	// A store that hangs may have used the time up, and a broker that is slow to close
	// its side may do so: each has its own.
	last, cancel = closingContext(ctx)
	defer cancel()
	_ = link.Close(last)
	defer engine.Withdraw()
	if lostLease {
		return false
	}
	last, cancel = closingContext(ctx)
	defer cancel()
	if err := d.settleLast(last); err != nil && !errors.Is(err, persist.ErrLeaseLost) {
		d.relay.trouble("settle", err)
	}
	d.saveLast(last, engine)
	return d.release(nil)
}

// closingContext bounds one of the last steps, whatever has become of the drain's own
// context.
func closingContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
}

// settleLast settles all that has ended. It tries again until the store has done it or
// the context ends: what is not settled now is sent again by whoever drains the lane
// next.
func (d *drain) settleLast(ctx context.Context) error {
	for {
		if err := d.settle(ctx, true); err != nil || !d.waiting() {
			return err
		}
		rest := time.NewTimer(storeRest)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
			return nil // settle has told why
		}
	}
}

// release gives the lane back, and is false if it was another's.
func (d *drain) release(cause error) (kept bool) {
	if errors.Is(cause, persist.ErrLeaseLost) {
		return false
	}
	last, cancel := closingContext(d.relay.ctx)
	defer cancel()
	if d.relay.closing() {
		select {
		case <-d.relay.withdrawn:
		case <-last.Done():
		}
	}
	err := d.lane.Release(last)
	if errors.Is(err, persist.ErrLeaseLost) {
		return false
	}
	if err != nil {
		d.relay.trouble("release lane", err)
	}
	return true
}

// answerTimeout is how long the broker's answers are waited for at the end. A
// lane that another relay waits for is not kept longer than if this one had died.
func (d *drain) answerTimeout() time.Duration {
	timeout := d.client.cfg.AckTimeout
	select {
	case <-d.yield:
		return min(timeout, d.client.cfg.Relay.Lease)
	default:
		return timeout
	}
}
