package dedup

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// renewAfter is the age at which a claim is renewed: a third of the lease, so
// that two renewals may fail before it ends.
func (c *Consumer) renewAfter() time.Duration { return c.cfg.Lease / 3 }

// renewFor is how long a renewal is waited for after so many that failed in a row. It
// has to come through before the lease ends, be the store slow or have lost its
// connections without a word: so it is soon made again, with four times the time, and
// gets no less than any other call does.
func (c *Consumer) renewFor(failed int) time.Duration {
	return min(c.limits.longest()<<(2*failed), c.cfg.StoreTimeout, c.renewAfter())
}

// trustFor is the age up to which a claim is relied on without renewal. The
// margin covers the difference between the store's clock and ours over a lease,
// and the time a handler takes to stop.
func (c *Consumer) trustFor() time.Duration { return c.cfg.Lease - c.cfg.Lease/10 }

// addLease puts n in its place among the leases: behind all that began no later.
// Claims and renewals are answered nearly in the order of their calls, so the
// place is near the end. The caller holds the mutex.
func (c *Consumer) addLease(n *Node) {
	at := c.leases.tail
	for at != nil && at.n.since > n.since {
		at = at.prev
	}
	c.leases.insertAfter(&n.lease, at)
	if !c.renewArmed {
		c.renewArmed = true
		c.due |= dueRenew
	}
	c.wakeClockAt(n.since + c.trustFor())
}

// markLost records that the claim cannot be relied on any more, and returns what
// tells the handler, or nil. The caller holds the mutex.
func (c *Consumer) markLost(n *Node) context.CancelCauseFunc {
	if n.lost {
		return nil
	}
	n.lost = true
	c.counters.lost++
	return n.onLost
}

// renewal is one claim that is being renewed.
type renewal struct {
	n    *Node
	turn uint64
}

// renewals is the working memory of the goroutine that renews.
type renewals struct {
	nodes  []renewal
	claims []persist.Claim
	lost   []context.CancelCauseFunc
}

// runRenewals renews each claim at a third of its lease. It is a goroutine of
// its own, so that no slow claim or completion holds it up.
func (c *Consumer) runRenewals(ctx context.Context) {
	var w renewals
	var retry backoff
	for {
		next := c.takeDue(&w)
		var err error
		switch {
		case len(w.nodes) > 0:
			err = c.renewBatch(ctx, &w, retry.failures)
		case c.health.isFailing(loopRenew):
			err = c.probe(ctx)
		default:
			if !c.sleep(ctx, next, c.wakeRenew) {
				return
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.health.failed(loopRenew, err)
			if !retry.wait(ctx) {
				return
			}
			continue
		}
		c.health.succeeded(loopRenew)
		retry.reset()
	}
}

// takeDue lists the claims that are to be renewed now, and tells when the next
// one is.
func (c *Consumer) takeDue(w *renewals) (next time.Duration) {
	w.nodes, w.claims = w.nodes[:0], w.claims[:0]
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.leases.head; e != nil && len(w.nodes) < c.cfg.MaxBatch; e = e.next {
		if at := e.n.since + c.renewAfter(); at > now {
			next = at
			break
		}
		w.nodes = append(w.nodes, renewal{n: e.n, turn: e.n.turn})
		w.claims = append(w.claims, e.n.claim())
	}
	if c.leases.len == 0 {
		next = never
	}
	c.renewArmed = c.leases.len > 0
	return next
}

// renewBatch makes one call of the store and acts on its answers. Claims may
// have been completed or released meanwhile, and their nodes be in another turn.
func (c *Consumer) renewBatch(ctx context.Context, w *renewals, failed int) error {
	since := c.now()
	limited, cancel := context.WithTimeout(ctx, c.renewFor(failed))
	defer cancel()
	held, err := c.cfg.Store.RenewClaims(limited, c.cfg.Group, w.claims, c.cfg.Lease)
	if err == nil && len(held) != len(w.nodes) {
		err = errAnswers("renew", len(w.nodes), len(held))
	}
	if err != nil {
		w.claims = nil // the store may still hold the slice
		return err
	}
	c.mu.Lock()
	for i, r := range w.nodes {
		n := r.n
		if n.turn != r.turn || n.epoch != w.claims[i].Epoch || n.lease.in == nil {
			continue
		}
		n.lease.remove()
		if held[i] {
			n.since = since
			c.addLease(n)
			continue
		}
		if n.phase == phaseCompleting {
			continue // it may be completed already, and its answer on the way
		}
		if tellLost := c.markLost(n); tellLost != nil {
			w.lost = append(w.lost, tellLost)
		}
	}
	c.unlock()
	w.tellLost()
	return nil
}

func (w *renewals) tellLost() {
	for i := range w.lost {
		w.lost[i](ErrClaimLost)
	}
	clear(w.lost)
	w.lost = w.lost[:0]
}

// sleep waits until a moment in the consumer's time or a wake-up, and returns
// false once ctx has ended.
func (c *Consumer) sleep(ctx context.Context, until time.Duration, wake <-chan struct{}) bool {
	if until != never {
		until -= c.now()
	}
	return await(ctx, until, wake)
}
