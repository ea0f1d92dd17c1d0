package dedup

import (
	"context"
	"runtime/debug"

	"github.com/oncemq/oncemq/persist"
)

// batchStep marks all keys of the transaction and runs the handler for many. If
// it fails, nobody knows by whose fault: the transaction is given up, and each
// delivery gets one of its own.
func (c *TxConsumer) batchStep(ctx context.Context, w *transaction, p persist.SQLProcess) error {
	w.granted = w.granted[:0]
	for _, n := range w.nodes {
		r := result{outcome: OutcomeProcessed}
		if n.dead != nil { // judged before, and only to be stored
			r, err := c.letterStep(ctx, p, n, n.dead)
			if err != nil {
				return err
			}
			w.results = append(w.results, r)
			continue
		}
		var grant Grant
		ours, err := c.mark(ctx, p, n, &r, &grant)
		if err != nil {
			return err
		}
		if ours {
			w.granted = append(w.granted, n.txDelivery)
		}
		w.results = append(w.results, r)
	}
	if len(w.granted) == 0 {
		return nil
	}
	err := c.handleBatch(ctx, w, p)
	w.failure = err
	if late := ctx.Err(); err == nil && late != nil {
		w.failure = late // if nothing can be committed now, that is why
	}
	clear(w.granted)
	return err
}

// handleBatch runs the handler, and turns a panic into an error.
func (c *TxConsumer) handleBatch(ctx context.Context, w *transaction, p persist.SQLProcess) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return c.cfg.Batch(ctx, p.Tx(), w.granted)
}
