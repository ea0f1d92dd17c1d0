package dedup

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// TxConsumer runs the handlers of one group in one process, in transactional
// mode: in the same transaction as their marks, many handlers to a commit, one
// after another. T is the kind of transaction, such as *sql.Tx. Replicas exclude each other by the database's own locks, so
// that there are no leases, and nothing to lose while a process is paused.
//
// Unkeyed deliveries run in the same transactions, without a mark: after a
// commit whose outcome is unknown they run again.
//
// It owns three goroutines: one that runs transactions, one that sweeps, and one
// that reports the store's state; with a HandlerTimeout each transaction has one more,
// which ends with it, or when a handler that was left behind returns. Its methods are safe for concurrent use, and
// none but Close waits for the store.
type TxConsumer[T any] struct {
	cfg       TxConfig[T]
	owner     string // of the claims that count attempts
	started   time.Time
	health    *health
	limits    *limits
	admission admission

	stop       context.CancelFunc
	goroutines sync.WaitGroup
	drained    chan struct{}
	wake       chan struct{}

	mu sync.Mutex // guards all below, and the nodes of the open deliveries

	closing  bool
	idle     bool // drained is closed
	hasty    bool // nothing waits for another attempt, or for a full batch
	working  int  // deliveries in the transaction under way
	counters counters
	queue    list // phaseQueued
	held     held // phaseHeld
	// since is when the first of what is queued was submitted.
	since time.Duration
}

// NewTx starts a transactional consumer. The error tells all faults of cfg, and
// wraps [persist.ErrInvalid]. The caller calls Close.
func NewTx[T any](cfg TxConfig[T]) (*TxConsumer[T], error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	ctx, stop := context.WithCancel(context.Background()) //nolint:gosec // Close calls stop
	c := &TxConsumer[T]{
		cfg:       cfg,
		owner:     "transactions/" + rand.Text(),
		started:   time.Now(),
		health:    newHealth(cfg.OnStoreError, cfg.OnStoreBack, cfg.Logger),
		admission: admission{window: cfg.Window, skew: cfg.ClockSkew},
		limits:    newLimits(ctx, cfg.Store, cfg.StoreTimeout),
		stop:      stop,
		drained:   make(chan struct{}),
		wake:      make(chan struct{}, 1),
	}
	for _, run := range []func(context.Context){c.runTransactions, c.runSweeps, c.health.report} {
		c.goroutines.Go(func() { run(ctx) })
	}
	return c, nil
}

// Submit hands in one delivery with its dedup key and the time at which the
// message was first sent, as [SentAt] tells it; the empty key is a message
// without one, and the zero time is not known. Handlers run in the order of the submissions, but for what waits
// for another attempt or for a key that is busy elsewhere. Submit never waits
// for the store; the caller bounds how many deliveries are open. The error is
// ErrClosed or ErrSubmitted.
func (c *TxConsumer[T]) Submit(d TxDelivery[T], key string, sent time.Time) error {
	return c.submit(d, key, sent, false)
}

// SubmitAgain is Submit for a message that the broker has delivered before, as DUP
// tells: it may have killed the process that had it. See TxConfig.MaxAttempts.
func (c *TxConsumer[T]) SubmitAgain(d TxDelivery[T], key string, sent time.Time) error {
	return c.submit(d, key, sent, true)
}

func (c *TxConsumer[T]) submit(d TxDelivery[T], key string, sent time.Time, again bool) error {
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
	n.txDelivery, n.again = d, again
	c.counters.received++
	if key == "" {
		c.counters.unkeyed++
	}
	n.phase = phaseQueued
	if c.queue.len == 0 {
		c.since = c.now()
	}
	c.queue.pushBack(&n.place)
	// Who waits for a full batch knows for how long.
	due := c.cfg.MaxWait == 0 || c.queue.len == 1 || c.queue.len >= c.cfg.MaxBatch
	c.mu.Unlock()
	if due {
		wake(c.wake)
	}
	return nil
}

// Release takes a delivery back whose connection is gone. Settled follows with
// OutcomeReleased, within the call if no transaction has it; else with what
// becomes of it there. For a delivery that is not open, Release does nothing.
func (c *TxConsumer[T]) Release(d TxDelivery[T]) {
	n := d.node()
	var out []settlement
	c.mu.Lock()
	switch n.phase {
	case phaseQueued, phaseHeld:
		out = c.settle(n, OutcomeReleased, nil)
	case phaseGranted:
		n.unwanted = true
	case phaseIdle, phaseClaiming, phaseAttached, phaseAnnounced, phaseCompleting, phaseStuck, phaseReleasing:
	}
	c.unlock()
	tell(out)
}

// Hasten is the first step of an end in good order, before the caller waits for
// what is open and calls Close: what waits for another attempt is settled with
// OutcomeReleased, now and from now on, and no transaction waits for company.
func (c *TxConsumer[T]) Hasten() {
	var out []settlement
	c.mu.Lock()
	c.hasty = true
	for _, n := range slices.Clone(c.held.nodes) {
		if n.attempts > 0 && n.dead == nil {
			out = c.settle(n, OutcomeReleased, out)
		}
	}
	c.unlock()
	tell(out)
	wake(c.wake)
}

// Stats returns the counters and gauges as they are now. Lost is always zero,
// and Held includes what waits for another attempt.
func (c *TxConsumer[T]) Stats() Stats {
	c.mu.Lock()
	s := c.counters.stats()
	s.Held = c.held.len()
	c.mu.Unlock()
	s.StoreError = c.health.lastError()
	return s
}

// Close ends the consumer. Submit is refused from now on, and deliveries that
// are in no transaction are settled with OutcomeReleased at once; so whoever
// wants to finish all that was submitted waits for its settlement first. Then
// Close waits for the transaction under way, ends all goroutines and returns
// nil.
//
// If ctx ends first, the transaction is rolled back, unless its commit is under
// way already (with a HandlerTimeout, HandlerGrace later even if a handler does not
// return; without one, Close waits for it); its deliveries are settled with OutcomeReleased, and the error
// wraps the context's. Close may be called at any time and more than once.
func (c *TxConsumer[T]) Close(ctx context.Context) error {
	c.mu.Lock()
	var out []settlement
	if !c.closing {
		c.closing = true
		for e := c.queue.head; e != nil; e = c.queue.head {
			out = c.settle(e.n, OutcomeReleased, out)
		}
		for c.held.len() > 0 {
			out = c.settle(c.held.nodes[0], OutcomeReleased, out)
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
			err = fmt.Errorf("dedup: close: a transaction of %d deliveries was under way: %w",
				c.working, context.Cause(ctx))
		}
		c.mu.Unlock()
	}
	c.stop()
	c.goroutines.Wait()
	c.limits.close()
	return err
}

// now is the consumer's own time.
func (c *TxConsumer[T]) now() time.Duration { return time.Since(c.started) }

func (c *TxConsumer[T]) unlock() {
	if c.closing && !c.idle && c.working == 0 && c.queue.len == 0 && c.held.len() == 0 {
		c.idle = true
		close(c.drained)
	}
	c.mu.Unlock()
}

// settle ends n. The caller holds the mutex, and tells.
func (c *TxConsumer[T]) settle(n *Node, outcome Outcome, out []settlement) []settlement {
	n.place.remove()
	c.held.remove(n)
	c.counters.outcomes[outcome]++
	out = append(out, settlement{n.txDelivery, outcome})
	n.end()
	return out
}

func (c *TxConsumer[T]) runSweeps(ctx context.Context) {
	sweep(ctx, c.cfg.Store, c.cfg.SweepInterval, c.limits, func(forgotten int) {
		c.mu.Lock()
		c.counters.forgotten += int64(forgotten)
		c.mu.Unlock()
	})
}

// probe runs an empty transaction, to learn whether the store works.
func (c *TxConsumer[T]) probe(ctx context.Context) error {
	_, err := call(ctx, c.limits, callProbe, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.cfg.Store.ProcessTx(ctx, func(context.Context, persist.TxProcess[T]) error { return nil })
	})
	return err
}

func (c *TxConsumer[T]) logHeld(ctx context.Context, err error) {
	c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "dedup store refuses one message; it is held",
		slog.Any("error", err))
}
