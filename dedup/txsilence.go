package dedup

import (
	"context"
	"errors"
	"time"
)

// A transaction is given all of TxConfig.Timeout, for what its handlers do, and for the
// transactions of others that it may have to wait for. One whose connection has died
// without a word would take all of it too. So a transaction that lasts is watched: if the
// store did not answer meanwhile, and then does, the connection is taken for one of those
// that have died, and the transaction is given up and done again.
//
//	the store answers all the while   it is the handlers, or locks: go on
//	it does not answer                nothing is gained by giving up: go on
//	it did not, and now it does       give up
//
// Where that was wrong, nothing but the work is lost; and after each that was given up
// the store gets twice the time to answer, until one commits.

// watchAfter is the age from which a transaction is watched: before a silence that lets
// it hang can have ended, and when nearly all transactions are over.
const watchAfter = silencePause

// mostDoublings is how often the time to answer is doubled.
const mostDoublings = 10

// errSilence is why a transaction was given up.
var errSilence = errors.New("the store did not answer for a while: the transaction is given up and done again")

// watch watches a transaction, until ctx ends.
func (c *TxConsumer[T]) watch(ctx context.Context, giveUp context.CancelCauseFunc, limit time.Duration) {
	silent := false
	for {
		asked, cancel := context.WithTimeout(ctx, limit)
		_, err := c.cfg.Store.Time(asked)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			silent = true
		case silent:
			giveUp(errSilence)
			return
		}
		if !pause(ctx, silencePause) {
			return
		}
	}
}

// watched runs a transaction that is watched, and tells whether it was given up.
func (c *TxConsumer[T]) watched(ctx context.Context, w *transaction[T], run func(context.Context) error) (gaveUp bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	limit := min(c.limits.first<<w.gaveUp, c.limits.most)
	over := make(chan struct{})
	watching := time.AfterFunc(watchAfter, func() {
		defer close(over)
		c.watch(ctx, giveUp, limit)
	})
	defer func() {
		giveUp(nil)
		if !watching.Stop() {
			<-over
		}
		gaveUp = err != nil && errors.Is(context.Cause(ctx), errSilence)
	}()
	return false, run(ctx)
}
