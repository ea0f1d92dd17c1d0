package autopaho

import (
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
	behind map[string]*queue // keys in work or ready, and what comes after
	timers map[*time.Timer]struct{}
	closed bool
}

// queue is what waits for its key.
type queue struct{ items []*item }

func newPool(workers int, run func(*item) time.Duration) *pool {
	p := &pool{run: run, behind: make(map[string]*queue), timers: make(map[*time.Timer]struct{})}
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
	defer p.mu.Unlock()
	for {
		for p.head == len(p.ready) {
			if p.closed {
				return
			}
			p.more.Wait()
		}
		it := p.ready[p.head]
		p.ready[p.head] = nil
		p.head++
		p.mu.Unlock()
		again := p.run(it)
		p.mu.Lock()
		if again > 0 && !p.closed {
			p.later(it, again) // its key stays taken
			continue
		}
		if again > 0 {
			// Closed meanwhile: it is run once more, sees that, and ends.
			p.makeReady(it)
			continue
		}
		p.next(it.order)
	}
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

// later makes an item ready after a while; p.mu is held.
func (p *pool) later(it *item, wait time.Duration) {
	var t *time.Timer
	t = time.AfterFunc(wait, func() {
		p.mu.Lock()
		delete(p.timers, t)
		p.makeReady(it)
		p.mu.Unlock()
		p.more.Signal()
	})
	p.timers[t] = struct{}{}
}

// close ends the workers once nothing is ready. Items that wait for another
// attempt run once more, which ends them.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.more.Broadcast()
	p.workers.Wait()
}
