package autopaho

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oncemq/oncemq/dedup"
)

// runner runs the items that may begin: a pool, or a batcher.
type runner interface {
	// put queues an item. It never blocks.
	put(it *item)
	// hasten ends all waiting: what waits for another attempt, or for company,
	// is run now.
	hasten()
	// takeOver starts a worker in place of one that does not return from an item:
	// finish decides what becomes of that.
	takeOver(it *item, finish func() (again time.Duration))
	// close ends the workers once nothing is left to run.
	close(ctx context.Context) error
}

var (
	_ runner = (*pool)(nil)
	_ runner = (*batcher)(nil)
)

// batcher runs many items at once, on one goroutine, in the order in which they
// were put; and each of a batch that failed by itself, before it goes on with the
// next batch. What waits for another attempt holds nobody up. What is put is
// bounded by the Receive Maximum, so the batcher bounds nothing.
type batcher struct {
	many     func([]*item) (alone []*item, lost bool) // returns those that are to be run one by one
	one      func(*item) (again time.Duration)
	limit    int
	patience time.Duration // how long a batch waits to be full
	worker   sync.WaitGroup
	wake     chan struct{} // holds one: the worker has something to look at

	mu     sync.Mutex // guards the following
	fresh  []*item
	since  time.Time // when the first of fresh came to an empty queue
	single []*item
	later  map[*item]*time.Timer // what waits for another attempt
	hasty  bool                  // nothing waits any more
	closed bool
}

func newBatcher(limit int, wait time.Duration, many func([]*item) ([]*item, bool), one func(*item) time.Duration) *batcher {
	b := &batcher{
		many: many, one: one, limit: limit, patience: wait,
		wake: make(chan struct{}, 1), later: make(map[*item]*time.Timer),
	}
	b.worker.Go(b.work)
	return b
}

func (b *batcher) put(it *item) {
	b.mu.Lock()
	if len(b.fresh) == 0 {
		b.since = time.Now()
	}
	b.fresh = append(b.fresh, it)
	due := len(b.fresh) == 1 || len(b.fresh) >= b.limit
	b.mu.Unlock()
	if due {
		b.signal()
	}
}

func (b *batcher) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *batcher) work() {
	var batch []*item
	for {
		one, many, wait, over := b.next(batch[:0])
		switch {
		case over:
			return
		case one != nil:
			again := b.one(one)
			if again == abandoned {
				return // another has its place
			}
			b.tryAgain(one, again)
		case len(many) > 0:
			alone, lost := b.many(many)
			if lost {
				return
			}
			b.mu.Lock()
			b.single = append(b.single, alone...)
			b.mu.Unlock()
			clear(many)
			batch = many
		default:
			b.sleep(wait)
		}
	}
}

func (b *batcher) takeOver(it *item, finish func() (again time.Duration)) {
	b.worker.Go(func() {
		b.tryAgain(it, finish())
		b.work()
	})
}

// takeOverMany is takeOver for a batch, whose messages are to be run one by one.
func (b *batcher) takeOverMany(alone []*item) {
	b.worker.Go(func() {
		b.mu.Lock()
		b.single = append(b.single, alone...)
		b.mu.Unlock()
		b.work()
	})
}

// next is what to do: run one, or many, or wait, for ever if that is zero.
func (b *batcher) next(batch []*item) (one *item, many []*item, wait time.Duration, over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.single) > 0 {
		one = b.single[0]
		b.single[0] = nil
		b.single = b.single[1:]
		return one, nil, 0, false
	}
	if len(b.fresh) == 0 {
		return nil, nil, 0, b.closed && len(b.later) == 0
	}
	if len(b.fresh) < b.limit && !b.hasty {
		if wait := b.patience - time.Since(b.since); wait > 0 {
			return nil, nil, wait, false
		}
	}
	n := min(len(b.fresh), b.limit)
	batch = append(batch, b.fresh[:n]...)
	left := copy(b.fresh, b.fresh[n:])
	clear(b.fresh[left:])
	b.fresh = b.fresh[:left]
	return nil, batch, 0, false
}

func (b *batcher) sleep(wait time.Duration) {
	if wait == 0 {
		<-b.wake
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-b.wake:
	case <-t.C:
	}
}

// tryAgain has an item run again after a while, if that is not zero.
func (b *batcher) tryAgain(it *item, wait time.Duration) {
	if wait == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hasty {
		// It closes: the item is run once more, sees that, and ends.
		b.single = append(b.single, it)
		return
	}
	b.later[it] = time.AfterFunc(wait, func() {
		b.mu.Lock()
		if _, waiting := b.later[it]; waiting {
			delete(b.later, it)
			b.single = append(b.single, it)
		}
		b.mu.Unlock()
		b.signal()
	})
}

func (b *batcher) hasten() {
	b.mu.Lock()
	b.hasty = true
	for it, t := range b.later {
		t.Stop()
		b.single = append(b.single, it)
	}
	clear(b.later)
	b.mu.Unlock()
	b.signal()
}

// close ends the worker once nothing is left. A handler that does not heed its
// context is left behind when ctx ends.
func (b *batcher) close(ctx context.Context) error {
	b.hasten()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.signal()
	joined := make(chan struct{})
	go func() {
		b.worker.Wait()
		close(joined)
	}()
	select {
	case <-joined:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("batch handler did not end: %w", ctx.Err())
	}
}

// batchRun runs a BatchHandler on many items; it keeps its slices.
type batchRun struct {
	sub     *Subscription
	batcher *batcher
	msgs    []*Received
	grants  []dedup.Grant
}

// run is called by the batcher. It returns those that are to be run one by one:
// all of them if the handler failed, since nobody knows by whose fault.
// lost tells that another worker goes on with them.
func (r *batchRun) run(items []*item) (alone []*item, lost bool) {
	s := r.sub
	kept := items[:0]
	for _, it := range items {
		switch {
		case it.dead != nil: // what is left to do is to store that
			alone = append(alone, it)
		case s.isVoid(it):
			s.release(it)
		case it.grant.Lost():
			s.claimAgain(it)
		case it.received.Attempt > 1:
			// It has been in a batch that failed, or that killed its process.
			alone = append(alone, it)
		default:
			kept = append(kept, it)
		}
	}
	if len(kept) < 2 {
		return append(alone, kept...), false
	}
	r.msgs, r.grants = r.msgs[:0], r.grants[:0]
	for _, it := range kept {
		r.msgs = append(r.msgs, s.handed(it))
		r.grants = append(r.grants, it.grant)
	}
	msgs := r.msgs
	defer clear(msgs)
	defer clear(r.grants)
	ctx, forget := dedup.ContextOf(s.ctx, r.grants...)
	defer forget()
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	returned := s.watch(func() {
		r.msgs, r.grants = nil, nil // those are the stuck handler's
		s.batchFailed(kept, ErrHandlerTimeout)
		r.batcher.takeOverMany(append(alone, kept...))
	})
	within, h := s.handling(ctx, kept...)
	went := true
	defer func() {
		if went && returned() {
			h.end(errGoexit)
			r.msgs, r.grants = nil, nil // this goroutine has still to clear them
			s.batchFailed(kept, errGoexit)
			r.batcher.takeOverMany(append(alone, kept...))
		}
	}()
	err := call(within, func(ctx context.Context) error { return s.cfg.BatchHandler(ctx, msgs) })
	went = false
	h.end(err)
	if !returned() {
		return nil, true
	}
	switch {
	case err == nil:
		for _, it := range kept {
			s.complete(it, nil)
		}
		return alone, false
	case errors.Is(err, ErrRelease) || s.ctx.Err() != nil:
		for _, it := range kept {
			s.release(it)
		}
		return alone, false
	}
	s.batchFailed(kept, err)
	return append(alone, kept...), false
}

func (s *Subscription) batchFailed(items []*item, err error) {
	s.client.status.counters.handlerErrors.Add(1)
	for _, it := range items {
		it.by.retried.Add(1)
	}
	s.client.cfg.Logger.WarnContext(s.ctx, "batch failed; its messages are tried one by one",
		"messages", len(items), "error", err)
}
