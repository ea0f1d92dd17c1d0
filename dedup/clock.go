package dedup

import (
	"context"
	"time"
)

// runClock does what is due at a moment and needs no store: it queues what was
// held, and reports leases that ended. One timer serves all deliveries, and no
// call of the store can hold it up.
func (c *Consumer) runClock(ctx context.Context) {
	var lost renewals
	for {
		next := c.tick(&lost)
		lost.tellLost()
		if !c.sleep(ctx, next, c.wakeClock) {
			return
		}
	}
}

// tick does what is due, and returns the next moment at which something is.
func (c *Consumer) tick(w *renewals) time.Duration {
	now := c.now()
	c.mu.Lock()
	for n := c.held.popDue(now); n != nil; n = c.held.popDue(now) {
		switch {
		case n.phase == phaseHeld:
			c.enqueue(n)
		case n.key == "":
			n.phase = phaseCompleting
			c.letters.pushBack(&n.place)
			c.due |= dueComplete
		default:
			n.phase = phaseCompleting
			c.completions.pushBack(&n.place)
			c.due |= dueComplete
		}
	}
	next := never
	if at, ok := c.held.next(); ok {
		next = at
	}
	for e := c.leases.head; e != nil; e = e.next {
		if e.n.lost {
			continue // reported, and still renewed while the store lets us
		}
		if at := e.n.since + c.trustFor(); at > now {
			next = min(next, at)
			break
		}
		if tellLost := c.markLost(e.n); tellLost != nil {
			w.lost = append(w.lost, tellLost)
		}
	}
	c.clockAt = next
	c.unlock()
	return next
}

// wakeClockAt makes sure that the clock looks at a moment. It is woken only if it
// would come too late by itself, which a steady flow of claims never needs. The
// caller holds the mutex.
func (c *Consumer) wakeClockAt(at time.Duration) {
	if at < c.clockAt {
		c.clockAt = at
		c.due |= dueClock
	}
}
