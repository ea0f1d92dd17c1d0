package dedup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// A handler that does not return would keep its transaction open, with it the locks
// and the one writer that SQLite has, and every other handler. So with a
// HandlerTimeout the handlers of a transaction run on a goroutine of its own (one for
// a transaction, not for a handler), beside one that looks at the clock. When a
// handler is overdue, the store is told that the transaction is in use, and ends it
// from outside [CLAIM-12]; the handler keeps what it got, none of which is used again
// by anybody else.
//
//	decided by one compare-and-swap: the handler returned, or was left behind
//	returned     all goes on as without a HandlerTimeout
//	left behind  its attempt has failed; the others run again, without it

// HandlerGrace is how long a handler has to return once its context has ended, before
// it is left behind.
const HandlerGrace = time.Second

// ErrHandlerTimeout is the error of a handler that had not returned HandlerGrace after
// its time limit. It may still be running.
var ErrHandlerTimeout = errors.New("handler did not return in time")

// errGoexit is the error of a handler that has ended its goroutine by runtime.Goexit,
// as FailNow of package testing does. Another goroutine goes on.
var errGoexit = errors.New("handler ended its goroutine")

// errLate is what comes of a handler that returns when it was left behind.
var errLate = errors.New("handler returned too late")

// The values of overseer.since that are no time.
const (
	noHandler = 0
	leftAlone = -1
)

// overseer knows since when a handler runs.
type overseer struct {
	// since is the consumer's time at which the handler began, and a nanosecond.
	since atomic.Int64
	// place is the index of its delivery, or anyOfBatch. It is written
	// before since.
	place int
}

// anyOfBatch stands for the index of a delivery: it may be any of them.
const anyOfBatch = -1

// begin notes that a handler begins.
func (o *overseer) begin(now time.Duration, place int) (since int64) {
	o.place = place
	since = int64(now) + 1
	o.since.Store(since)
	return since
}

// returned tells whether the handler has returned in time.
func (o *overseer) returned(since int64) bool { return o.since.CompareAndSwap(since, noHandler) }

// leave leaves a handler behind that has run for limit or longer. Otherwise it tells
// when to look again.
func (o *overseer) leave(now, limit time.Duration) (again time.Duration, left bool) {
	since := o.since.Load()
	if since == noHandler {
		return limit, false
	}
	if rest := limit - (now - time.Duration(since-1)); rest > 0 {
		return rest, false
	}
	// If it has returned meanwhile, another may have begun.
	return limit, o.since.CompareAndSwap(since, leftAlone)
}

// run runs a handler with its time limit.
func (c *TxConsumer[T]) run(ctx context.Context, w *transaction[T], place int, handle func(context.Context) error) error {
	if w.overseer == nil {
		return handle(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.HandlerTimeout)
	defer cancel()
	overseer := w.overseer
	since := overseer.begin(c.now(), place)
	went := true
	defer func() {
		if went && !overseer.returned(since) {
			c.cfg.OnStuck(-1)
		}
	}()
	err := handle(ctx)
	went = false
	if !overseer.returned(since) {
		c.cfg.OnStuck(-1)
		return errLate
	}
	return err
}

// oversee does the steps of a transaction on a goroutine that may be left behind. If
// it is, the error wraps ErrTxInUse, and what w has in common with it is given up. The
// transaction that is given up for a silence of the store is no fault of its handlers:
// they have their time all the same, unless closed says that the consumer ends.
func (c *TxConsumer[T]) oversee(ctx context.Context, closed <-chan struct{}, w *transaction[T], p persist.TxProcess[T]) error {
	o := new(overseer)
	theirs := *w
	theirs.overseer = o
	ended := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() {
			if errors.Is(err, errGoexit) {
				theirs.failure = err
			}
			ended <- err
		}()
		err = c.steps(ctx, &theirs, p)
	}()

	limit := c.cfg.HandlerTimeout + HandlerGrace
	timer := time.NewTimer(limit)
	defer timer.Stop()
	stopped := ctx.Done() // by the time limit of the transaction, or by Close
	for {
		select {
		case err := <-ended:
			*w = theirs
			w.overseer = nil
			return err
		case <-stopped:
			if stopped = nil; closed != nil && errors.Is(context.Cause(ctx), errSilence) {
				stopped, closed = closed, nil
				continue
			}
			limit = 0
			timer.Reset(HandlerGrace)
		case <-timer.C:
			again, left := o.leave(c.now(), limit)
			if left {
				c.cfg.OnStuck(1)
				w.nodes = slices.Clone(w.nodes)
				w.results, w.granted, w.keys, w.places = nil, nil, nil, nil
				w.stuck = o.place
				return fmt.Errorf("%w: %w", persist.ErrTxInUse, ErrHandlerTimeout)
			}
			timer.Reset(max(again, time.Millisecond))
		}
	}
}

// leftBehind acts on a transaction that was given up because a handler did not
// return: its attempt has failed, and the other deliveries are done again.
func (c *TxConsumer[T]) leftBehind(w *transaction[T]) {
	n := w.nodes[w.stuck]
	n.suspect = true // nobody is to wait for it again
	r := c.failedAlone(n, ErrHandlerTimeout)
	c.mu.Lock()
	c.apply(w, n, r)
	w.nodes = slices.Delete(w.nodes, w.stuck, w.stuck+1)
	c.putBack(w, 0)
	c.unlock()
	w.tell()
}

// failedAlone is the result of a delivery whose handler failed in a transaction of
// which nothing is left. A dead letter is stored by the next one, without running the
// handler.
func (c *TxConsumer[T]) failedAlone(n *Node, failure error) result {
	verdict := n.txDelivery.Failed(failure, n.attempts+1)
	if verdict.Dead == nil {
		return c.judged(verdict, n.attempts+1)
	}
	n.dead = c.letter(verdict.Dead, n, n.attempts+1)
	return result{until: c.now(), attempts: n.attempts + 1}
}
