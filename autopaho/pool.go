package autopaho

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// pool runs items on a fixed number of workers: those with one ordering key one
// after another, in the order in which they were put, different keys at once.
// What is put is bounded by the Receive Maximum, so the pool bounds nothing.
type pool struct {
	run     func(*item) (again time.Duration)
	workers sync.WaitGroup

	mu     sync.Mutex
	more   sync.Cond // there is something in ready, or closed
	ready  []*item   // the next item of each key that nobody works on
	head   int
	behind map[string]*queue     // keys in work or ready, and what comes after
	later  map[*item]*time.Timer // what waits for another attempt
	hasty  bool                  // nothing waits any more
	closed bool
}

// queue is what waits for its key.
type queue struct{ items []*item }

func newPool(workers int, run func(*item) time.Duration) *pool {
	p := &pool{run: run, behind: make(map[string]*queue), later: make(map[*item]*time.Timer)}
	p.more.L = &p.mu
	for range workers {
		p.workers.Go(p.worker)
	}
	return p
}

// put queues an item. It never blocks.
func (p *pool) put(it *item) {
	p.mu.Lock()
	q, busy := p.behind[it.order]
	if busy {
		if q == nil {
			q = new(queue)
			p.behind[it.order] = q
		}
		q.items = append(q.items, it)
		p.mu.Unlock()
		return
	}
	p.behind[it.order] = nil
	p.makeReady(it)
	p.mu.Unlock()
	p.more.Signal()
}

// makeReady appends to ready; p.mu is held.
func (p *pool) makeReady(it *item) {
	if p.head > 0 && len(p.ready) == cap(p.ready) {
		n := copy(p.ready, p.ready[p.head:])
		clear(p.ready[n:])
		p.ready, p.head = p.ready[:n], 0
	}
	p.ready = append(p.ready, it)
}

func (p *pool) worker() {
	p.mu.Lock()
	for {
		for p.head == len(p.ready) {
			if p.closed {
				p.mu.Unlock()
				return
			}
			p.more.Wait()
		}
		it := p.ready[p.head]
		p.ready[p.head] = nil
		p.head++
		p.mu.Unlock()
		again := p.run(it) // which does not return from a handler that ends the goroutine
		if again == abandoned {
			return // another has its place
		}
		p.mu.Lock()
		p.ran(it, again)
	}
}

// ran goes on after an item was run; p.mu is held.
func (p *pool) ran(it *item, again time.Duration) {
	switch {
	case again > 0 && !p.hasty:
		p.wait(it, again) // its key stays taken
	case again > 0:
		// It closes: the item is run once more, sees that, and ends.
		p.makeReady(it)
	default:
		p.next(it.order)
	}
}

// takeOver starts a worker in place of one that does not return from an item.
func (p *pool) takeOver(it *item, finish func() (again time.Duration)) {
	p.workers.Go(func() {
		again := finish()
		p.mu.Lock()
		p.ran(it, again)
		p.mu.Unlock()
		p.worker()
	})
}

// next frees a key, or makes its next item ready. p.mu is held; the calling
// worker takes one item itself, so that it wakes nobody.
func (p *pool) next(order string) {
	q := p.behind[order]
	if q == nil || len(q.items) == 0 {
		delete(p.behind, order)
		return
	}
	it := q.items[0]
	q.items[0] = nil
	q.items = q.items[1:]
	p.makeReady(it)
}

// wait makes an item ready after a while; p.mu is held.
func (p *pool) wait(it *item, wait time.Duration) {
	p.later[it] = time.AfterFunc(wait, func() {
		p.mu.Lock()
		if _, waiting := p.later[it]; waiting {
			delete(p.later, it)
			p.makeReady(it)
		}
		p.mu.Unlock()
		p.more.Signal()
	})
}

// hasten ends all waiting: what waits for another attempt is run now.
func (p *pool) hasten() {
	p.mu.Lock()
	p.hasty = true
	for it, t := range p.later {
		t.Stop()
		p.makeReady(it)
	}
	clear(p.later)
	p.mu.Unlock()
	p.more.Broadcast()
}

// close ends the workers once nothing is ready. A handler that does not heed its
// context is left behind when ctx ends.
func (p *pool) close(ctx context.Context) error {
	p.hasten()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.more.Broadcast()
	joined := make(chan struct{})
	go func() {
		p.workers.Wait()
		close(joined)
	}()
	select {
	case <-joined:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("handlers did not end: %w", ctx.Err())
	}
}
