package dedup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// A transaction is given all of TxConfig.Timeout, for what its handlers do, and for the
// transactions of others that it may have to wait for. One whose connection has died
// without a word would take all of it too. Where it waits for nobody, as it begins and
// as it commits, it has the limits of any other call. In between it is watched, if it
// lasts: if the store did not answer meanwhile, and then does, the connection is taken
// for one of those that have died, and the transaction is given up and done again.
//
//	the store answers all the while   it is the handlers, or locks: go on
//	it does not answer                nothing is gained by giving up: go on
//	it did not, and now it does       give up
//
// Where that was wrong, nothing but the work is lost; and after each that was given up
// the store gets twice the time to answer, until one commits. A connection that dies
// alone, or in a silence too short to be seen, is found at the end of the time limits.

// watchAfter is the age from which a transaction is watched: before a silence that lets
// it hang can have ended, and when nearly all transactions are over.
const watchAfter = silencePause

// mostDoublings is how often the time to answer is doubled.
const mostDoublings = 10

// errSilence is why a transaction was given up.
var errSilence = errors.New("the store did not answer for a while: the transaction is given up and done again")

// errHung is why one was that took too long to begin or to commit.
var errHung = fmt.Errorf("the transaction took too long to begin or to commit: %w", context.DeadlineExceeded)

// watch watches a transaction, until ctx ends.
func (c *TxConsumer[T]) watch(ctx context.Context, giveUp context.CancelCauseFunc, limit time.Duration) {
	silent := false
	for {
		asked, cancel := context.WithTimeout(ctx, limit)
		_, err := c.cfg.Store.Time(asked)
		timedOut := asked.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			// A question that was refused, or never sent, tells of no silence.
			silent = silent || timedOut && !errors.Is(err, persist.ErrBusy)
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
func (c *TxConsumer[T]) watched(
	ctx context.Context, w *transaction[T], fn func(context.Context, persist.TxProcess[T]) error,
) (gaveUp, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	over := make(chan struct{})
	patience := min(c.limits.first<<w.gaveUp, c.limits.most)
	watching := time.AfterFunc(watchAfter, func() {
		defer close(over)
		c.watch(ctx, giveUp, patience)
	})

	phase, since := callTxBegin, time.Now()
	hung := time.AfterFunc(c.limits.limit(phase), func() { giveUp(errHung) })
	defer hung.Stop()
	err = c.cfg.Store.ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[T]) error {
		hung.Stop()
		c.limits.answered(phase, time.Since(since))
		err := fn(ctx, p)
		if err == nil {
			phase, since = callTxCommit, time.Now()
			hung.Reset(c.limits.longest()) // not less than it took to begin
		}
		return err
	})
	hung.Stop()
	if err != nil {
		gaveUp = context.Cause(ctx)
	}
	switch {
	case err == nil:
		c.limits.answered(callTxCommit, time.Since(since))
	case errors.Is(gaveUp, errHung):
		c.limits.timedOut(phase)
	case !errors.Is(gaveUp, errSilence):
		gaveUp = nil
	}
	giveUp(nil)
	if !watching.Stop() {
		<-over
	}
	return gaveUp, err
}
