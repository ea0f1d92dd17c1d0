package dedup

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// batchStep marks all keys of the transaction, in one call, and runs the handler
// for many. If it fails, nobody knows by whose fault: the transaction is given
// up, and each delivery gets one of its own.
func (c *TxConsumer[T]) batchStep(ctx context.Context, w *transaction[T], p persist.TxProcess[T]) error {
	w.granted = w.granted[:0]
	claims, err := c.beginBatch(ctx, w, p)
	if err != nil {
		return err
	}
	next := 0 // of the claims, which are those of the first deliveries of their keys
	for _, n := range w.nodes {
		r := result{outcome: OutcomeProcessed}
		grant := Grant{Attempts: n.attempts + 1}
		if n.key != "" {
			at := w.places[n.key]
			claim := claims[at]
			if at < next && claim.State == persist.ClaimGranted {
				claim.State = persist.ClaimCompleted // by an earlier one of this batch
			}
			next = max(next, at+1)
			if !c.decide(&claim, n, &r, &grant) {
				w.results = append(w.results, r)
				continue
			}
		}
		letter, err := c.batchLetter(w, n, grant.Attempts)
		if err != nil {
			return err
		}
		if letter == nil {
			w.granted = append(w.granted, TxGrant[T]{c.delivery(n), grant})
		} else {
			r = result{outcome: OutcomeDead}
			if n.key != "" {
				claims[w.places[n.key]].Dead = true // for those that follow in this batch
			}
			if err := p.AddDeadLetter(ctx, *letter); err != nil {
				return err
			}
		}
		w.results = append(w.results, r)
	}
	if len(w.granted) == 0 {
		return nil
	}
	err = c.run(ctx, w, anyOfBatch, func(ctx context.Context) error { return c.handleBatch(ctx, w, p) })
	w.failure = err
	if late := ctx.Err(); err == nil && late != nil {
		w.failure = late // if nothing can be committed now, that is why
	}
	clear(w.granted)
	return err
}

// beginBatch marks each key of the transaction once.
func (c *TxConsumer[T]) beginBatch(
	ctx context.Context, w *transaction[T], p persist.TxProcess[T],
) ([]persist.Claim, error) {
	if w.places == nil {
		w.places = make(map[string]int)
	}
	clear(w.places)
	w.keys = w.keys[:0]
	var newest time.Time
	for _, n := range w.nodes {
		if n.key == "" {
			continue
		}
		newest = later(newest, n.sent)
		if _, again := w.places[n.key]; !again {
			w.places[n.key] = len(w.keys)
			w.keys = append(w.keys, n.key)
		}
	}
	if len(w.keys) == 0 {
		return nil, nil
	}
	return c.begin(ctx, w, p, newest)
}

// batchLetter is the dead letter of a delivery whose key is marked: one that was
// judged before, or is too old. It is nil for one that the handler is to have.
// The mark of a message that is to be tried again, or given back, must not
// stay: for that the transaction is given up, and the delivery gets its own.
func (c *TxConsumer[T]) batchLetter(w *transaction[T], n *Node, attempts int) (*persist.DeadLetter, error) {
	if n.dead != nil {
		return n.dead, nil
	}
	tooOld := c.tooOld(n)
	if tooOld == nil {
		return nil, nil //nolint:nilnil // documented
	}
	verdict := n.txDelivery.Failed(tooOld, attempts)
	if verdict.Dead == nil {
		w.failure = tooOld
		return nil, tooOld
	}
	return c.letter(verdict.Dead, n, attempts), nil
}

// handleBatch runs the handler, and turns a panic into an error.
func (c *TxConsumer[T]) handleBatch(ctx context.Context, w *transaction[T], p persist.TxProcess[T]) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return c.cfg.Batch(ctx, p.Tx(), w.granted)
}
