package dedup

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// transaction is the working memory of the goroutine that runs transactions.
type transaction[T any] struct {
	nodes   []*Node
	results []result // of the first nodes, in their order
	granted []TxGrant[T]
	// failure is the last error of a handler in the transaction, whether or not
	// it could be undone.
	failure error
	out     []settlement
	// began is when the transaction began, or a little before.
	began time.Duration
	keys  []string // of one call of Begin
	// places are the indices of a batch's keys among keys.
	places map[string]int
	// single is how many of the next deliveries get a transaction each, because
	// one of them may have spoilt the one that they shared.
	single int
	// notes are the claims of notes that are not released yet.
	notes []persist.Claim
	// gaveUp is how many transactions in a row were given up: see watch.
	gaveUp int
	// overseer, if set, looks after the handlers; stuck is whose delivery's it left
	// behind.
	overseer *overseer
	stuck    int
}

// result is what a transaction means to do with one delivery once it commits.
type result struct {
	outcome  Outcome       // zero holds it
	until    time.Duration // for one that is held
	attempts int
}

// handlerError marks an error as a handler's, so that it is told from the
// store's when both come out of one call.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }
func (e *handlerError) Unwrap() error { return e.err }

// runTransactions takes what is queued, in batches of what came while the last
// transaction ran.
func (c *TxConsumer[T]) runTransactions(ctx context.Context) {
	c.transact(ctx, new(transaction[T]), false)
}

// transact is runTransactions, and has another goroutine go on if a handler ends this
// one, which that does with again: the transaction of w is rolled back by then.
func (c *TxConsumer[T]) transact(ctx context.Context, w *transaction[T], again bool) {
	ended := false
	defer func() {
		if !ended {
			c.goroutines.Go(func() { c.transact(ctx, w, true) })
		}
	}()
	c.loop(ctx, w, again)
	ended = true
}

func (c *TxConsumer[T]) loop(ctx context.Context, w *transaction[T], again bool) {
	var retry backoff
	for {
		var next time.Duration
		if !again {
			next = c.take(w)
		}
		var err error
		switch {
		case again:
			again = false
			w.failure = errGoexit
			err = c.processFailed(ctx, w, errGoexit)
		case len(w.nodes) > 0:
			err = c.process(ctx, w)
		case c.health.isFailing(loopProcess):
			err = c.probe(ctx)
		default:
			if next != never {
				next -= c.now()
			}
			if !await(ctx, next, c.wake) {
				return
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.health.failed(loopProcess, err)
			if !retry.wait(ctx) {
				return
			}
			continue
		}
		c.health.succeeded(loopProcess)
		retry.reset()
	}
}

// take moves the next batch to w, and tells when something that is held is due.
func (c *TxConsumer[T]) take(w *transaction[T]) (next time.Duration) {
	w.nodes = w.nodes[:0]
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := c.held.popDue(now); n != nil; n = c.held.popDue(now) {
		n.phase = phaseQueued
		c.queue.pushBack(&n.place)
	}
	next = never
	if at, ok := c.held.next(); ok {
		next = at
	}
	if at := c.since + c.cfg.MaxWait; at > now && w.single == 0 && !c.hasty && !c.closing &&
		c.queue.len > 0 && c.queue.len < c.cfg.MaxBatch && !c.alone(c.queue.head.n) {
		return min(next, at)
	}
	limit := c.cfg.MaxBatch
	if w.single > 0 {
		limit = 1
		w.single--
	}
	for len(w.nodes) < limit && c.queue.len > 0 {
		if c.alone(c.queue.head.n) {
			if len(w.nodes) > 0 {
				break
			}
			limit = 1
		}
		n := c.queue.popFront()
		n.phase = phaseGranted
		w.nodes = append(w.nodes, n)
	}
	c.working = len(w.nodes)
	return next
}

// alone tells that a delivery is not to be in a batch with others: it has failed
// before, and would have all of them run again.
func (c *TxConsumer[T]) alone(n *Node) bool {
	return n.dead == nil && (n.suspect || c.cfg.Batch != nil && n.attempts > 0)
}

// process runs one transaction. If it does not commit, or nobody knows whether
// it did, nothing is settled and all of it is tried again: where it had
// committed, Begin then finds the marks, and the deliveries are duplicates.
func (c *TxConsumer[T]) process(ctx context.Context, w *transaction[T]) error {
	w.failure = nil
	// Not within the transaction: the question may take another connection.
	if err := c.admission.clock.refresh(ctx, c.limits, c.now); err != nil {
		return c.processFailed(ctx, w, err)
	}
	if err := c.noteAttempts(ctx, w); err != nil {
		return c.processFailed(ctx, w, err)
	}
	if len(w.nodes) == 0 {
		return nil
	}
	w.began = c.now()
	consumer := ctx.Done()
	gaveUp, err := c.watched(ctx, w, func(ctx context.Context, p persist.TxProcess[T]) error {
		if c.cfg.HandlerTimeout > 0 {
			return c.oversee(ctx, consumer, w, p)
		}
		return c.steps(ctx, w, p)
	})
	if gaveUp != nil && !errors.Is(err, persist.ErrTxInUse) {
		// What the handlers made of it says nothing about them.
		w.failure = nil
		if errors.Is(gaveUp, errSilence) {
			w.gaveUp = min(w.gaveUp+1, mostDoublings)
		}
		err = fmt.Errorf("%w: %v", gaveUp, err) //nolint:errorlint // nor does the kind of the error
	}
	if err != nil {
		return c.processFailed(ctx, w, err)
	}
	w.gaveUp = 0
	c.mu.Lock()
	for i, r := range w.results {
		c.apply(w, w.nodes[i], r)
	}
	c.putBack(w, len(w.results))
	c.unlock()
	w.tell()
	return nil
}

// steps does the deliveries in the transaction, or as many as there is time for.
func (c *TxConsumer[T]) steps(ctx context.Context, w *transaction[T], p persist.TxProcess[T]) error {
	w.results = w.results[:0]
	if c.cfg.Batch != nil && len(w.nodes) > 1 {
		return c.batchStep(ctx, w, p)
	}
	for i, n := range w.nodes {
		if i > 0 && c.now()-w.began > c.cfg.MaxHold {
			break
		}
		r, err := c.step(ctx, w, p, n)
		if err != nil {
			return err
		}
		w.results = append(w.results, r)
	}
	return nil
}

// step does one delivery in the transaction. An error is the store's, and means
// that the transaction is of no use any more.
func (c *TxConsumer[T]) step(ctx context.Context, w *transaction[T], p persist.TxProcess[T], n *Node) (result, error) {
	letter := n.dead
	if letter == nil {
		r, failure, err := c.handlerStep(ctx, w, p, n)
		if failure != nil {
			w.failure = failure
		}
		if failure == nil || err != nil {
			return r, err
		}
		verdict := n.txDelivery.Failed(failure, r.attempts)
		if verdict.Dead == nil {
			return c.judged(verdict, r.attempts), nil
		}
		letter = c.letter(verdict.Dead, n, r.attempts)
	}
	return c.letterStep(ctx, w, p, n, letter)
}

// handlerStep marks the key and runs the handler, so that both are undone
// together if the handler fails. The failure is the handler's, err the store's.
//
// Each handler has a call of Begin of its own, within its step. One for all of
// them, before their steps, would cost less, but a mark that is made before a
// step outlives it: the message of a handler that failed would count as
// processed, and so would those that a transaction did not get to.
func (c *TxConsumer[T]) handlerStep(
	ctx context.Context, w *transaction[T], p persist.TxProcess[T], n *Node,
) (r result, failure, err error) {
	grant := Grant{Attempts: n.attempts + 1}
	r = result{outcome: OutcomeProcessed, attempts: grant.Attempts}
	var failed *handlerError
	ran := false
	err = p.Step(ctx, func() error {
		failed, ran = nil, false
		if ours, err := c.mark(ctx, w, p, n, &r, &grant); err != nil || !ours {
			return err
		}
		if tooOld := c.tooOld(n); tooOld != nil {
			failed = &handlerError{tooOld}
			return failed
		}
		ran = true
		d := c.delivery(n) // not by who may be left behind, when n is another's
		err := c.run(ctx, w, len(w.results), func(ctx context.Context) error { return c.handle(ctx, p, d, grant) })
		if errors.Is(err, errLate) {
			return err
		}
		if err != nil {
			failed = &handlerError{err}
			return failed
		}
		if late := ctx.Err(); late != nil {
			w.failure = late // if nothing can be committed now, that is why
		}
		return nil
	})
	switch {
	case failed == nil && err != nil && ran:
		return r, err, err // the handler may have ended the transaction
	case failed == nil:
		return r, nil, err
	case !errors.Is(err, failed):
		// The step could not be undone, or claims that the handler succeeded.
		return r, failed.err, fmt.Errorf("dedup: handler's writes could not be undone: %w", err)
	case ctx.Err() != nil:
		// The handler was made to stop; the transaction cannot commit.
		return r, failed.err, ctx.Err()
	}
	return r, failed.err, nil
}

// letterStep marks the key and stores the dead letter. If one of them fails, so
// does the transaction.
func (c *TxConsumer[T]) letterStep(
	ctx context.Context, w *transaction[T], p persist.TxProcess[T], n *Node, letter *persist.DeadLetter,
) (result, error) {
	var grant Grant
	r := result{outcome: OutcomeDead, attempts: n.attempts}
	if ours, err := c.mark(ctx, w, p, n, &r, &grant); err != nil || !ours {
		return r, err
	}
	return r, p.AddDeadLetter(ctx, *letter)
}

// letter completes a copy of a dead letter with what the consumer knows.
func (c *TxConsumer[T]) letter(dead *persist.DeadLetter, n *Node, attempts int) *persist.DeadLetter {
	return c.admission.fillLetter(dead, c.cfg.Group, n.key, attempts, c.started)
}

// delivery is what n was submitted as.
func (c *TxConsumer[T]) delivery(n *Node) TxDelivery[T] {
	d, _ := n.txDelivery.(TxDelivery[T]) // Submit took nothing else
	return d
}

// handle runs the handler, and turns a panic into an error.
func (c *TxConsumer[T]) handle(ctx context.Context, p persist.TxProcess[T], d TxDelivery[T], grant Grant) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	if c.cfg.Batch != nil {
		return c.cfg.Batch(ctx, p.Tx(), []TxGrant[T]{{d, grant}})
	}
	return d.Process(ctx, p.Tx(), grant)
}

// judged is the result of a verdict without a dead letter.
func (c *TxConsumer[T]) judged(v Verdict, attempts int) result {
	if v.Release {
		return result{outcome: OutcomeReleased}
	}
	return result{until: c.now() + max(0, v.After), attempts: attempts}
}

// apply does what the transaction meant to do. The caller holds the mutex.
func (c *TxConsumer[T]) apply(w *transaction[T], n *Node, r result) {
	c.working--
	if r.outcome == 0 && (c.closing || n.unwanted || c.hasty && r.attempts > 0 && n.dead == nil) {
		r.outcome = OutcomeReleased
	}
	if r.outcome != 0 {
		w.out = c.settle(n, r.outcome, w.out)
		return
	}
	n.noted = n.noted && r.attempts == n.attempts
	n.attempts = r.attempts
	n.phase = phaseHeld
	c.held.add(n, r.until)
}

// putBack returns the nodes from that index on to the front of the queue, for
// the next transaction. The caller holds the mutex.
func (c *TxConsumer[T]) putBack(w *transaction[T], from int) {
	for i := len(w.nodes) - 1; i >= from; i-- {
		n := w.nodes[i]
		c.working--
		if c.closing || n.unwanted {
			w.out = c.settle(n, OutcomeReleased, w.out)
			continue
		}
		n.phase = phaseQueued
		c.queue.pushFront(&n.place)
	}
}

// processFailed acts on a transaction that did not commit for certain.
//
// Usually the store is at fault, and the batch waits for it. But a handler can
// spoil the transaction for all: by a statement upon which the database rolls
// everything back, by writes whose constraint is checked at commit, or by
// running beyond the time limit. If that may be so, each delivery gets a
// transaction of its own; and if that fails although an empty one then commits,
// the failure is the handler's, and is judged as such.
func (c *TxConsumer[T]) processFailed(ctx context.Context, w *transaction[T], err error) error {
	if errors.Is(err, persist.ErrTxInUse) && ctx.Err() == nil {
		if w.stuck != anyOfBatch {
			c.leftBehind(w)
			return nil
		}
		w.failure = ErrHandlerTimeout
	}
	suspected := (w.failure != nil || isRefusal(err)) && ctx.Err() == nil
	if !suspected || len(w.nodes) != 1 { // none if all were set aside
		if suspected {
			w.single = len(w.nodes)
			err = nil
		}
		c.mu.Lock()
		c.putBack(w, 0)
		c.unlock()
		w.tell()
		return err
	}

	n := w.nodes[0]
	r := result{attempts: n.attempts}
	probeErr := c.probe(ctx)
	switch {
	case probeErr != nil:
		err = probeErr
	case n.dead != nil:
		c.logHeld(ctx, err)
		err = nil
		r.until = c.now() + refusedPause
	default:
		failure := w.failure
		if failure == nil {
			failure = err
		}
		err = nil
		r = c.failedAlone(n, failure)
	}
	c.mu.Lock()
	if probeErr != nil {
		c.putBack(w, 0)
	} else {
		c.apply(w, n, r)
	}
	c.unlock()
	w.tell()
	return err
}

// tell makes the calls of Settled, and forgets the batch.
func (w *transaction[T]) tell() {
	w.tellOut()
	clear(w.nodes)
}

// tellOut makes the calls of Settled.
func (w *transaction[T]) tellOut() {
	tell(w.out)
	clear(w.out)
	w.out = w.out[:0]
}
