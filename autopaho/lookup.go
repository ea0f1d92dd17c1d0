package autopaho

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// lookupInterval is how often the store is asked about messages that another
// process may deliver.
const lookupInterval = 200 * time.Millisecond

// slowLookups is how many intervals pass between look-ups of what this client's
// own relay is expected to report.
const slowLookups = 10

// lookups are those of one Wait, one at a time. It goes on listening beside them.
type lookups struct {
	of     *Enqueued
	answer chan error // of the one under way; nil if there is none
	cancel context.CancelFunc
	again  bool // the last one failed
}

func (l *lookups) begin(ctx context.Context) {
	ctx, l.cancel = context.WithCancel(ctx)
	q, answer := l.of, make(chan error, 1)
	l.answer = answer
	go func() { answer <- q.ask(ctx) }() // joined by end
}

// answered is called with what answer tells.
func (l *lookups) answered(err error) {
	l.cancel()
	l.answer, l.again = nil, err != nil
}

func (l *lookups) end() {
	if l.answer != nil {
		l.cancel()
		l.answered(<-l.answer)
	}
}

// ask looks up, and tells of an error.
func (q *Enqueued) ask(ctx context.Context) error {
	err := q.lookup(ctx)
	if err != nil && ctx.Err() == nil {
		q.client.cfg.Logger.WarnContext(ctx, "cannot look up messages", "error", err)
	}
	return err
}

// lookupLast is lookup for a client that has ended. One that took too long is made
// again, since its connection may be dead and others good.
func (q *Enqueued) lookupLast(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeoutMost)
	defer cancel()
	for {
		began := time.Now()
		err := q.lookup(ctx)
		if err == nil || ctx.Err() != nil || time.Since(began) < storeTimeout {
			return err
		}
	}
}

// lookup asks the store for what is not known yet.
func (q *Enqueued) lookup(ctx context.Context) error {
	q.mu.Lock()
	var open []int
	var flags []resultFlag // of the open
	var refs []persist.Ref
	for i := range q.results {
		if q.flags[i]&flagFinal == 0 {
			open, flags = append(open, i), append(flags, q.flags[i])
			refs = append(refs, q.refs[i].Ref)
		}
	}
	q.mu.Unlock()
	var fates []persist.Fate
	err := q.patience.call(ctx, func(ctx context.Context) (err error) {
		fates, err = q.client.cfg.Store.Lookup(ctx, refs)
		return err
	})
	if err != nil {
		return err
	}
	for n, fate := range fates {
		r := Result{ID: q.ids[open[n]], State: fate.State, ReasonCode: fate.ReasonCode, Reason: fate.LastError}
		switch {
		case fate.State == persist.StatePending, fate.Gone && flags[n]&flagDoubt != 0:
			continue
		case fate.Gone && flags[n]&flagReceipt != 0:
			r.State = persist.StateAcknowledged
		}
		final := fate.Gone || fate.State != persist.StateDelivered
		q.resolve(open[n], r, final)
		if final {
			q.client.tracker.report(outcome{result: r, final: true}) // nobody else will
		}
	}
	return nil
}
