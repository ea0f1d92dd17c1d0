package dedup

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Consumer runs the claims of one group in one process, in leased mode. Its
// methods are safe for concurrent use, and none but Close waits for the store.
type Consumer struct {
	cfg   Config
	owner string
	// started is the zero of the consumer's own time. Only differences by the
	// monotonic clock are used, so that a step of the wall clock changes nothing.
	started   time.Time
	health    *health
	limits    *limits
	admission admission

	stop       context.CancelFunc
	goroutines sync.WaitGroup
	drained    chan struct{} // closed once closing has nothing left to wait for

	// One wake-up each for the goroutines; see unlock.
	wakeClaim, wakeComplete, wakeRenew, wakeClock chan struct{}

	mu sync.Mutex // guards all below, and the nodes of the open deliveries

	due         loops
	closing     bool // Submit refuses
	idle        bool // drained is closed
	stopped     bool // Close gave up: Complete and Release change nothing
	claiming    bool // a claim call is under way
	keys        map[string]*Node
	unkeyedOpen int
	counters    counters

	queue       list // phaseQueued
	held        held // phaseHeld, phaseStuck
	leases      list // everything that holds a claim, oldest since first
	completions list // phaseCompleting
	letters     list // phaseCompleting without a key: dead letters
	releases    list // phaseReleasing

	clockAt    time.Duration // when the clock goroutine wakes by itself
	renewArmed bool          // the renewing goroutine will look at leases by itself
}

// loops are the goroutines that unlock is to wake, as bits.
type loops uint8

const (
	dueClaim loops = 1 << iota
	dueComplete
	dueRenew
	dueClock
)

// New starts a consumer. The error tells all faults of cfg, and wraps
// [persist.ErrInvalid]. The caller calls Close.
func New(cfg Config) (*Consumer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	ctx, stop := context.WithCancel(context.Background())
	c := &Consumer{
		cfg:          cfg,
		owner:        cfg.Owner + "/" + rand.Text(),
		started:      time.Now(),
		health:       newHealth(cfg.OnStoreError, cfg.OnStoreBack, cfg.Logger),
		admission:    admission{window: cfg.Window, skew: cfg.ClockSkew},
		limits:       newLimits(ctx, cfg.Store, cfg.StoreTimeout),
		stop:         stop,
		drained:      make(chan struct{}),
		wakeClaim:    make(chan struct{}, 1),
		wakeComplete: make(chan struct{}, 1),
		wakeRenew:    make(chan struct{}, 1),
		wakeClock:    make(chan struct{}, 1),
		keys:         make(map[string]*Node),
		clockAt:      never,
	}
	for _, run := range []func(context.Context){
		c.runClaims, c.runCompletions, c.runRenewals, c.runClock, c.runSweeps, c.health.report,
	} {
		c.goroutines.Go(func() { run(ctx) })
	}
	return c, nil
}

// Submit hands in one delivery with its dedup key and the time at which the
// message was first sent, as [SentAt] tells it. The empty key is a message
// without one, which is granted within the call; the zero time is one that is
// not known, and sets no limit to the message's age. Submit never waits for the
// store; the caller bounds how many deliveries are open, as the Receive Maximum
// does. Grants come in the order of the submissions, but for keys that were
// held. The error is ErrClosed or ErrSubmitted, and d is not called then.
func (c *Consumer) Submit(d Delivery, key string, sent time.Time) error {
	key = boundKey(key)
	n := d.node()
	c.mu.Lock()
	switch {
	case c.closing:
		c.mu.Unlock()
		return ErrClosed
	case n.phase != phaseIdle:
		c.mu.Unlock()
		return ErrSubmitted
	}
	n.begin(key, sent)
	n.delivery = d
	c.counters.received++

	if key == "" {
		n.attempts = 1
		n.phase = phaseAnnounced
		c.counters.unkeyed++
		c.unkeyedOpen++
		grant := announcement{n: n, delivery: d, grant: Grant{Attempts: 1, turn: n.turn}}
		c.unlock()
		c.announce([]announcement{grant})
		return nil
	}
	if leader := c.keys[key]; leader != nil {
		n.phase = phaseAttached
		leader.followers.pushBack(&n.place)
	} else {
		c.keys[key] = n
		c.enqueue(n)
	}
	c.unlock()
	return nil
}

// Complete says that the handler of a granted delivery is through: with success
// if dead is nil, for good without success else. Side, State, Group, Key, Attempts,
// First and Last of the letter are filled in where they are zero; the times of First
// and Last are this process's, and become the store's. Settled follows once
// that is durable: with OutcomeProcessed or OutcomeDead, or with
// OutcomeDuplicate if the claim was lost meanwhile and another completed the
// key. If the claim was lost and nobody completed the key, it is claimed again
// to be completed, and the handler does not run again.
//
// For a delivery that is not granted, Complete does nothing but log.
func (c *Consumer) Complete(d Delivery, dead *persist.DeadLetter) {
	n := d.node()
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return
	}
	if n.phase != phaseGranted && n.phase != phaseAnnounced {
		c.mu.Unlock()
		c.cfg.Logger.LogAttrs(context.Background(), slog.LevelError, "completed a delivery that is not granted")
		return
	}
	if n.key == "" && dead == nil {
		out := c.settle(n, OutcomeProcessed, nil)
		c.unlock()
		tell(out)
		return
	}
	n.phase = phaseCompleting
	n.dead = c.letter(dead, n)
	if n.key == "" {
		c.letters.pushBack(&n.place)
	} else {
		c.completions.pushBack(&n.place)
	}
	c.due |= dueComplete
	c.unlock()
}

// Release gives a delivery back, granted or not: its handler failed and another
// replica shall try, or the connection that it came by is gone. Settled follows
// with OutcomeReleased, within the call if the delivery was not granted. The
// next delivery of the key in this process, if there is one, takes its place.
// After Complete, and for a delivery that is not open, Release does nothing.
func (c *Consumer) Release(d Delivery) {
	n := d.node()
	c.mu.Lock()
	n.counted = n.attempts
	c.mu.Unlock()
	c.release(d)
}

func (c *Consumer) release(d Delivery) {
	n := d.node()
	var out []settlement
	c.mu.Lock()
	if c.stopped || n.ran {
		c.mu.Unlock()
		return
	}
	switch n.phase {
	case phaseQueued, phaseClaiming, phaseHeld, phaseAttached:
		out = c.settle(n, OutcomeReleased, nil)
	case phaseAnnounced:
		// Granted is being called this moment by another goroutine, or is
		// what called us. Settled must not overtake it: announce goes on.
		n.unwanted = true
	case phaseGranted:
		out = c.giveBack(n, nil)
	case phaseIdle, phaseCompleting, phaseStuck, phaseReleasing:
	}
	c.unlock()
	tell(out)
}

// Withdraw gives a delivery back if it is not granted, and does nothing else:
// for whoever learns that the connection of a delivery is gone, and does not know
// whether its handler is about to run. Settled follows within the call.
func (c *Consumer) Withdraw(d Delivery) {
	n := d.node()
	var out []settlement
	c.mu.Lock()
	if !c.stopped && !n.ran {
		switch n.phase {
		case phaseQueued, phaseClaiming, phaseHeld, phaseAttached:
			out = c.settle(n, OutcomeReleased, nil)
		default:
		}
	}
	c.unlock()
	tell(out)
}

// Stats returns the counters and gauges as they are now.
func (c *Consumer) Stats() Stats {
	c.mu.Lock()
	s := c.counters.stats()
	for _, n := range c.held.nodes {
		if n.phase == phaseHeld {
			s.Held++
		}
	}
	c.mu.Unlock()
	s.StoreError = c.health.lastError()
	return s
}

// Close ends the consumer. Submit is refused from now on, and deliveries that
// are not granted are settled with OutcomeReleased at once; so whoever wants to
// finish all that was submitted waits for its settlement first. Then Close waits
// until every granted delivery was completed or released by the caller and its
// settlement is durable, ends all goroutines and returns nil.
//
// If ctx ends first, Close abandons what is open, without another call to it,
// and returns an error that wraps the context's; claims that are still held run
// out by themselves. Close may be called at any time and more than once.
func (c *Consumer) Close(ctx context.Context) error {
	c.mu.Lock()
	var out []settlement
	if !c.closing {
		c.closing = true
		for _, n := range c.keys {
			switch n.phase {
			case phaseQueued, phaseClaiming, phaseHeld:
				out = c.settle(n, OutcomeReleased, out)
			case phaseIdle, phaseAttached, phaseAnnounced, phaseGranted,
				phaseCompleting, phaseStuck, phaseReleasing:
			}
		}
	}
	c.unlock()
	tell(out)

	var err error
	select {
	case <-c.drained:
	case <-ctx.Done():
		c.mu.Lock()
		if !c.idle {
			c.stopped = true
			err = fmt.Errorf("dedup: close: %d deliveries are not settled: %w",
				c.counters.stats().Open, context.Cause(ctx))
		}
		c.mu.Unlock()
	}
	c.stop()
	c.goroutines.Wait()
	c.limits.close()
	return err
}

// now is the consumer's own time.
func (c *Consumer) now() time.Duration { return time.Since(c.started) }

// unlock releases the mutex, and wakes afterwards whom the changes concern.
func (c *Consumer) unlock() {
	due := c.due
	c.due = 0
	if c.closing && !c.idle && len(c.keys) == 0 && c.unkeyedOpen == 0 && !c.claiming {
		c.idle = true
		close(c.drained)
	}
	c.mu.Unlock()
	if due&dueClaim != 0 {
		wake(c.wakeClaim)
	}
	if due&dueComplete != 0 {
		wake(c.wakeComplete)
	}
	if due&dueRenew != 0 {
		wake(c.wakeRenew)
	}
	if due&dueClock != 0 {
		wake(c.wakeClock)
	}
}

// enqueue lets n be claimed. The caller holds the mutex.
func (c *Consumer) enqueue(n *Node) {
	n.phase = phaseQueued
	c.queue.pushBack(&n.place)
	c.due |= dueClaim
}

// giveBack ends a grant without completion. The caller holds the mutex.
func (c *Consumer) giveBack(n *Node, out []settlement) []settlement {
	if n.key == "" {
		return c.settle(n, OutcomeReleased, out)
	}
	n.phase = phaseReleasing
	n.lease.remove() // not renewed any more
	c.releases.pushBack(&n.place)
	c.due |= dueComplete
	return out
}

// settlement is a call of Settled that is to be made once the mutex is free.
type settlement struct {
	delivery interface{ Settled(outcome Outcome) }
	outcome  Outcome
}

// tell makes the calls. The nodes may belong to other messages already.
func tell(out []settlement) {
	for i := range out {
		out[i].delivery.Settled(out[i].outcome)
	}
}

// settle ends n, and what follows it: followers of a key that was processed are
// duplicates; else the first takes the place of n, and asks the store. It does so of
// a dead letter, too: that may have been tried again in the meantime, which forgets
// the mark, and be the follower. The caller holds the mutex, and tells.
func (c *Consumer) settle(n *Node, outcome Outcome, out []settlement) []settlement {
	attached := n.phase == phaseAttached
	n.place.remove()
	n.lease.remove()
	c.held.remove(n)
	switch {
	case n.key == "":
		c.unkeyedOpen--
	case attached:
	case outcome != OutcomeProcessed && outcome != OutcomeDuplicate && !c.closing && n.followers.len > 0:
		next := n.followers.popFront()
		next.followers.takeAll(&n.followers)
		c.keys[n.key] = next
		c.enqueue(next)
	default:
		delete(c.keys, n.key)
		follow := OutcomeDuplicate
		if outcome != OutcomeProcessed && outcome != OutcomeDuplicate {
			follow = OutcomeReleased
		}
		for f := n.followers.popFront(); f != nil; f = n.followers.popFront() {
			out = c.finish(f, follow, out)
		}
	}
	return c.finish(n, outcome, out)
}

// finish counts the outcome and makes the node ready for another submission. A
// node without a delivery stands for a claim that nobody wants any more.
func (c *Consumer) finish(n *Node, outcome Outcome, out []settlement) []settlement {
	d := n.delivery
	n.end()
	if d == nil {
		return out
	}
	c.counters.outcomes[outcome]++
	return append(out, settlement{d, outcome})
}

// probe asks the store for next to nothing, to learn whether it answers. It is
// what a goroutine does whose last call failed and whose work has gone since:
// otherwise a client that stopped its intake would wait for ever for the return.
func (c *Consumer) probe(ctx context.Context) error {
	_, err := call(ctx, c.limits, callProbe, func(ctx context.Context) (int, error) {
		return c.cfg.Store.ExpireProcessed(ctx, 1)
	})
	return err
}

// refused logs that the store refuses one member of a batch and takes others.
func (c *Consumer) refused(ctx context.Context, op string, err error) {
	c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "dedup store refuses one key; it is held",
		slog.String("operation", op), slog.Any("error", err))
}

// refusedPause is how long a key that the store refuses is held.
const refusedPause = 10 * time.Second
