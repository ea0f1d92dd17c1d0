package dedup

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// completions is the working memory of the goroutine that completes.
type completions struct {
	nodes   []*Node
	request []persist.Completion
	letters []persist.DeadLetter
	claims  []persist.Claim
	out     []settlement
	single  int // as in claims
}

// runCompletions makes durable what handlers have completed, and gives back what
// was released, in batches of what came while the last calls ran.
func (c *Consumer) runCompletions(ctx context.Context) {
	var w completions
	var retry backoff
	for {
		worked := false
		var err error
		for _, step := range [...]func(context.Context, *completions) (bool, error){
			c.completeBatch, c.addLetters, c.releaseBatch,
		} {
			did, stepErr := step(ctx, &w)
			worked = worked || did
			if stepErr != nil {
				err = stepErr
			}
		}
		if !worked {
			if !c.health.isFailing(loopComplete) {
				select {
				case <-c.wakeComplete:
				case <-ctx.Done():
					return
				}
				continue
			}
			err = c.probe(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.health.failed(loopComplete, err)
			if !retry.wait(ctx) {
				return
			}
			continue
		}
		c.health.succeeded(loopComplete)
		retry.reset()
	}
}

// take moves the next batch of l to w.nodes. The nodes keep their phase, and
// nobody else touches a node in it.
func (c *Consumer) take(l *list, w *completions) bool {
	limit := c.cfg.MaxBatch
	if w.single > 0 {
		limit = 1
	}
	w.nodes = w.nodes[:0]
	c.mu.Lock()
	for len(w.nodes) < limit {
		n := l.popFront()
		if n == nil {
			break
		}
		w.nodes = append(w.nodes, n)
	}
	c.mu.Unlock()
	if len(w.nodes) == 0 {
		return false
	}
	if w.single > 0 {
		w.single--
	}
	return true
}

// completeBatch marks keys as processed. An unknown outcome is repeated with the
// same claims: completing twice is the same as once.
func (c *Consumer) completeBatch(ctx context.Context, w *completions) (bool, error) {
	if !c.take(&c.completions, w) {
		return false, nil
	}
	w.request = w.request[:0]
	var newest time.Time
	for _, n := range w.nodes {
		newest = later(newest, n.sent)
		w.request = append(w.request, persist.Completion{Claim: n.claim(), Dead: n.dead})
	}
	keep := c.admission.retention(newest, c.now())
	done, err := call(ctx, c.limits, callComplete, func(ctx context.Context) ([]bool, error) {
		return c.cfg.Store.Complete(ctx, c.cfg.Group, w.request, keep)
	})
	if err == nil && len(done) != len(w.nodes) {
		err = errAnswers("complete", len(w.nodes), len(done))
	}
	if err != nil {
		w.request = nil // the store may still hold the slice
		return true, c.completionFailed(ctx, w, &c.completions, "complete", err)
	}
	c.mu.Lock()
	for i, n := range w.nodes {
		switch {
		case !done[i]:
			w.out = c.superseded(n, w.out)
		case n.dead != nil:
			w.out = c.settle(n, OutcomeDead, w.out)
		default:
			w.out = c.settle(n, OutcomeProcessed, w.out)
		}
	}
	c.unlock()
	clear(w.request)
	w.tell()
	return true, nil
}

// superseded acts on a completion that was refused because the claim passed to
// another. The handler has run, but the message is not decided: the key is
// claimed again, and if nobody completed it, completed under the new claim. The
// caller holds the mutex.
func (c *Consumer) superseded(n *Node, out []settlement) []settlement {
	c.markLost(n)
	n.lease.remove()
	n.ran = true
	if c.closing {
		return c.settle(n, OutcomeReleased, out)
	}
	c.enqueue(n)
	return out
}

// addLetters stores the dead letters of messages without a key. There is no
// claim to hang them on, so that an unknown outcome may store a letter twice.
func (c *Consumer) addLetters(ctx context.Context, w *completions) (bool, error) {
	if !c.take(&c.letters, w) {
		return false, nil
	}
	w.letters = w.letters[:0]
	for _, n := range w.nodes {
		w.letters = append(w.letters, *n.dead)
	}
	_, err := call(ctx, c.limits, callLetters, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.cfg.Store.AddDeadLetters(ctx, w.letters)
	})
	if err != nil {
		w.letters = nil
		return true, c.completionFailed(ctx, w, &c.letters, "add dead letters", err)
	}
	c.mu.Lock()
	for _, n := range w.nodes {
		w.out = c.settle(n, OutcomeDead, w.out)
	}
	c.unlock()
	clear(w.letters)
	w.tell()
	return true, nil
}

// releaseBatch gives claims back. It is repeated until the store answers, and
// the key is not claimed again here before that: a release that arrives late
// must not end a claim that is in use.
func (c *Consumer) releaseBatch(ctx context.Context, w *completions) (bool, error) {
	if !c.take(&c.releases, w) {
		return false, nil
	}
	w.claims = w.claims[:0]
	for _, n := range w.nodes {
		w.claims = append(w.claims, n.claim())
	}
	_, err := call(ctx, c.limits, callRelease, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.cfg.Store.Release(ctx, c.cfg.Group, w.claims)
	})
	if err != nil {
		w.claims = nil
		return true, c.completionFailed(ctx, w, &c.releases, "release", err)
	}
	c.mu.Lock()
	for _, n := range w.nodes {
		w.out = c.settle(n, OutcomeReleased, w.out)
	}
	c.unlock()
	clear(w.claims)
	w.tell()
	return true, nil
}

// completionFailed puts the batch back to the front of its list. A single one
// that the store refuses for itself is set aside, so that it stops no other; a
// refusal is no failure of the store. A release that is refused is done with:
// the lease ends by itself.
func (c *Consumer) completionFailed(
	ctx context.Context, w *completions, l *list, op string, err error,
) error {
	if isRefusal(err) {
		if len(w.nodes) == 1 {
			c.mu.Lock()
			if l == &c.releases {
				w.out = c.settle(w.nodes[0], OutcomeReleased, w.out)
			} else {
				c.hold(w.nodes[0], phaseStuck, c.now()+refusedPause)
			}
			c.unlock()
			c.refused(ctx, op, err)
			w.tell()
			return nil
		}
		w.single = len(w.nodes)
		err = nil
	}
	c.mu.Lock()
	for i := len(w.nodes) - 1; i >= 0; i-- {
		l.pushFront(&w.nodes[i].place)
	}
	c.mu.Unlock()
	return err
}

// tell makes the calls of Settled, and forgets the batch.
func (w *completions) tell() {
	tell(w.out)
	clear(w.out)
	w.out = w.out[:0]
	clear(w.nodes)
}
