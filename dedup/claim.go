package dedup

import (
	"context"
	"log/slog"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// claims is the working memory of the goroutine that claims.
type claims struct {
	keys   []string
	grants []announcement
	out    []settlement
	// single is how many of the next keys are claimed one by one, because the
	// store refused a batch that they were in.
	single int
	// again are the claims of keys that were claimed before.
	again []persist.Claim
}

// runClaims claims what is queued, in batches of what came while the last call
// ran.
func (c *Consumer) runClaims(ctx context.Context) {
	var w claims
	var retry backoff
	for {
		c.takeQueued(&w)
		var err error
		switch {
		case len(w.keys) > 0:
			if err = c.tellTime(ctx); err == nil {
				err = c.claimBatch(ctx, &w)
			} else {
				err = c.claimFailed(ctx, &w, err)
			}
		case c.health.isFailing(loopClaim):
			err = c.probe(ctx)
		default:
			select {
			case <-c.wakeClaim:
			case <-ctx.Done():
				return
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.health.failed(loopClaim, err)
			if !retry.wait(ctx) {
				return
			}
			continue
		}
		c.health.succeeded(loopClaim)
		retry.reset()
	}
}

// takeQueued moves the next batch from the queue to w.
func (c *Consumer) takeQueued(w *claims) {
	limit := c.cfg.MaxBatch
	if w.single > 0 {
		limit = 1
		w.single--
	}
	w.keys = w.keys[:0]
	c.mu.Lock()
	for len(w.keys) < limit {
		n := c.queue.popFront()
		if n == nil {
			w.single = 0
			break
		}
		n.phase = phaseClaiming
		w.keys = append(w.keys, n.key)
	}
	c.claiming = len(w.keys) > 0
	c.unlock()
}

// tellTime has the store's time known, by which messages may be too old.
func (c *Consumer) tellTime(ctx context.Context) error {
	return c.admission.clock.refresh(ctx, c.limits, c.now)
}

// claimBatch makes one call of the store and acts on its answers.
//
// If its outcome is unknown, some of the keys may be claimed by this very call,
// and answer busy to the next one until their leases end. A store that names the
// owner of a busy key lets us recognise such a claim: the owner's name is unique
// to this Consumer, which claims a key only while it holds no claim of it, and
// asks again only once a release of it was answered. So a busy key of our own is
// ours to use, and is taken on under the epoch that the store tells. With a
// store that does not name the owner the key is held until its lease ends.
func (c *Consumer) claimBatch(ctx context.Context, w *claims) error {
	since := c.now()
	answers, err := call(ctx, c.limits, callClaim, func(ctx context.Context) ([]persist.Claim, error) {
		return c.cfg.Store.Claim(ctx, persist.ClaimRequest{
			Group: c.cfg.Group, Owner: c.owner, TTL: c.cfg.Lease, Keys: w.keys,
		})
	})
	if err == nil && len(answers) != len(w.keys) {
		err = errAnswers("claim", len(w.keys), len(answers))
	}
	if err != nil {
		return c.claimFailed(ctx, w, err)
	}

	w.grants, w.out, w.again = w.grants[:0], w.out[:0], nil
	c.mu.Lock()
	c.claiming = false
	for i := range answers {
		c.answered(w, w.keys[i], &answers[i], since)
	}
	c.unlock()
	tell(w.out)
	c.uncount(ctx, w.again)
	c.announce(w.grants)
	clear(w.out)
	clear(w.grants)
	return nil
}

// uncount has the store know of keys that were claimed before that they are held and
// not begun. If this process dies before Begin, which a message that kills may have
// it do, their attempts are what they were. An error is no matter: renewals say the
// same.
func (c *Consumer) uncount(ctx context.Context, again []persist.Claim) {
	if len(again) == 0 {
		return
	}
	_, err := call(ctx, c.limits, callBegin, func(ctx context.Context) ([]bool, error) {
		return c.cfg.Store.RenewClaims(ctx, c.cfg.Group, again, c.cfg.Lease)
	})
	if err != nil {
		c.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "claims count as begun for now", slog.Any("error", err))
	}
}

// claimFailed puts the batch back to the front of the queue. A single key that
// the store refuses for itself is held, so that it stops no other; a refusal is
// no failure of the store.
func (c *Consumer) claimFailed(ctx context.Context, w *claims, err error) error {
	refusal := isRefusal(err)
	single := refusal && len(w.keys) == 1
	if refusal && !single {
		w.single = len(w.keys)
	}
	c.mu.Lock()
	c.claiming = false
	for i := len(w.keys) - 1; i >= 0; i-- {
		n := c.keys[w.keys[i]]
		if n == nil || n.phase != phaseClaiming {
			continue // released meanwhile
		}
		if single {
			c.hold(n, phaseHeld, c.now()+refusedPause)
			continue
		}
		n.phase = phaseQueued
		c.queue.pushFront(&n.place)
	}
	c.unlock()
	// The store may still hold the slice, if it gave up on a call that goes on.
	w.keys = nil
	if single {
		c.refused(ctx, "claim", err)
	}
	if refusal {
		return nil
	}
	return err
}

// answered acts on the answer for one key. The caller holds the mutex.
//
// Between the question and the answer the delivery may have been released, and
// another one of the same key been submitted: the answer is for whoever leads
// the key now, if it waits for one, be it still queued.
func (c *Consumer) answered(w *claims, key string, answer *persist.Claim, since time.Duration) {
	n := c.keys[key]
	mine := answer.State == persist.ClaimGranted
	if answer.State == persist.ClaimBusy && answer.Owner == c.owner && answer.Epoch != 0 {
		mine = true // by a call whose answer was lost
		since += min(0, answer.Remaining-c.cfg.Lease)
	}
	if n == nil {
		if mine { // nobody wants it any more
			n = &Node{}
			n.begin(key, time.Time{})
			n.epoch, n.attempts, n.counted = answer.Epoch, answer.Attempts, answer.Attempts-1
			c.keys[key] = n
			c.giveBack(n, nil)
		}
		return
	}
	n.place.remove()
	switch {
	case mine:
		n.epoch, n.attempts, n.since = answer.Epoch, max(1, answer.Attempts), since
		n.counted = n.attempts
		if c.cfg.TellsBegin && n.attempts > CountedClaims && !n.ran {
			n.counted-- // until Begin
			w.again = append(w.again, n.claim())
		}
		c.addLease(n)
		if n.ran {
			n.phase = phaseCompleting
			c.completions.pushBack(&n.place)
			c.due |= dueComplete
			return
		}
		n.phase = phaseAnnounced
		w.grants = append(w.grants, announcement{
			n: n, delivery: n.delivery,
			grant: Grant{
				Epoch: n.epoch, Attempts: n.attempts, TooOld: c.admission.check(n.sent, c.now()),
				consumer: c, n: n, turn: n.turn,
			},
		})
	case answer.State == persist.ClaimCompleted:
		w.out = c.settle(n, duplicate(answer), w.out)
	default:
		c.hold(n, phaseHeld, askAgain(c.now(), answer.Remaining, c.cfg.PollInterval))
	}
}

// duplicate is the outcome of a delivery whose key was completed before.
func duplicate(answer *persist.Claim) Outcome {
	if answer.Dead {
		return OutcomeDuplicateDead
	}
	return OutcomeDuplicate
}

// askAgain is when to ask again for a key that is busy elsewhere: a little after
// its lease ends, or after the poll interval if that is sooner. Jitter spreads
// the replicas, and whole steps keep the keys of one replica together, so that
// many of them cost few calls.
func askAgain(now, remaining, poll time.Duration) time.Duration {
	at := now + min(max(0, remaining)+5*time.Millisecond+below(45*time.Millisecond), jittered(poll))
	step := max(1, min(50*time.Millisecond, poll/8))
	return at + step - at%step
}

// hold sets n aside until a moment. The caller holds the mutex.
func (c *Consumer) hold(n *Node, p phase, until time.Duration) {
	n.phase = p
	c.held.add(n, until)
	c.wakeClockAt(until)
}

// announcement is a call of Granted that is to be made once the mutex is free.
type announcement struct {
	n        *Node
	delivery Delivery
	grant    Grant
}

// announce makes the calls, and afterwards releases what the callers gave back
// meanwhile. A node whose turn is another was completed, settled and submitted
// again in the course of it.
func (c *Consumer) announce(grants []announcement) {
	if len(grants) == 0 {
		return
	}
	for i := range grants {
		grants[i].delivery.Granted(grants[i].grant)
	}
	var out []settlement
	c.mu.Lock()
	for i := range grants {
		n := grants[i].n
		if n.turn != grants[i].grant.turn || n.phase != phaseAnnounced {
			continue
		}
		n.phase = phaseGranted
		if n.unwanted {
			out = c.giveBack(n, out)
		}
	}
	c.unlock()
	tell(out)
}
