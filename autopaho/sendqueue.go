package autopaho

import (
	"container/heap"
	"slices"
	"time"

	"github.com/oncemq/oncemq/internal/session"
)

// sendQueue orders what a drain has read and not yet sent: first what is to be
// sent again, then the rest by position. A message of strict order waits while
// another of its key is on its way.
type sendQueue struct {
	fresh []*session.Outgoing // in order; fresh[head:] is left
	head  int
	again []*session.Outgoing // due once more
	later retryHeap
	busy  map[string][]*session.Outgoing // strict keys on their way, and who waits
	held  int                            // how many wait in busy
}

func (q *sendQueue) init() {
	*q = sendQueue{busy: make(map[string][]*session.Outgoing)}
}

// len counts what can be sent now, and what waits for its key.
func (q *sendQueue) len() int { return len(q.fresh) - q.head + len(q.again) + q.held }

func (q *sendQueue) push(o *session.Outgoing) {
	if q.head > 0 && len(q.fresh) == cap(q.fresh) {
		n := copy(q.fresh, q.fresh[q.head:])
		clear(q.fresh[n:])
		q.fresh, q.head = q.fresh[:n], 0
	}
	q.fresh = append(q.fresh, o)
}

// take appends up to limit messages that may leave now.
func (q *sendQueue) take(dst []*session.Outgoing, limit int) []*session.Outgoing {
	for limit > 0 && len(q.again) > 0 {
		dst = append(dst, q.again[0])
		q.again[0] = nil
		q.again = q.again[1:]
		limit--
	}
	for limit > 0 && q.head < len(q.fresh) {
		o := q.fresh[q.head]
		q.fresh[q.head] = nil
		q.head++
		if o.Message.Strict {
			key := o.Message.Key()
			if waiting, taken := q.busy[key]; taken {
				q.busy[key] = append(waiting, o)
				q.held++
				continue
			}
			q.busy[key] = nil
		}
		dst = append(dst, o)
		limit--
	}
	if q.head == len(q.fresh) {
		q.fresh, q.head = q.fresh[:0], 0
	}
	return dst
}

// remove takes what fits out of the queue, wherever it waits: to be sent, to be sent
// again, or for its key.
func (q *sendQueue) remove(fits func(*session.Outgoing) bool) (removed []*session.Outgoing) {
	take := func(list []*session.Outgoing) []*session.Outgoing {
		return slices.DeleteFunc(list, func(o *session.Outgoing) bool {
			found := fits(o)
			if found {
				removed = append(removed, o)
			}
			return found
		})
	}
	q.fresh = q.fresh[:q.head+len(take(q.fresh[q.head:]))]
	for key, waiting := range q.busy {
		rest := take(waiting)
		q.held -= len(waiting) - len(rest)
		q.busy[key] = rest
	}
	// These hold their keys, if they are strict.
	holders := len(removed)
	q.again = take(q.again)
	q.later = slices.DeleteFunc(q.later, func(it retryItem) bool {
		found := fits(it.out)
		if found {
			removed = append(removed, it.out)
		}
		return found
	})
	heap.Init(&q.later)
	for _, o := range removed[holders:] {
		q.done(o)
	}
	return removed
}

// done frees the key of a strict message that has ended, for the next one.
func (q *sendQueue) done(o *session.Outgoing) {
	if !o.Message.Strict {
		return
	}
	key := o.Message.Key()
	waiting, taken := q.busy[key]
	switch {
	case !taken:
	case len(waiting) == 0:
		delete(q.busy, key)
	default:
		q.again = append(q.again, waiting[0])
		q.busy[key] = waiting[1:]
		q.held--
	}
}

// retry keeps a message until it is to be sent again.
func (q *sendQueue) retry(o *session.Outgoing, at time.Time) {
	heap.Push(&q.later, retryItem{o, at})
}

// due moves what is to be sent again by now.
func (q *sendQueue) due(now time.Time) (moved bool, next time.Duration, ok bool) {
	for len(q.later) > 0 && !q.later[0].at.After(now) {
		q.again = append(q.again, heap.Pop(&q.later).(retryItem).out)
		moved = true
	}
	if len(q.later) == 0 {
		return moved, 0, false
	}
	return moved, q.later[0].at.Sub(now), true
}

type retryItem struct {
	out *session.Outgoing
	at  time.Time
}

// retryHeap is a heap by time, and by position for equal times.
type retryHeap []retryItem

func (h retryHeap) Len() int { return len(h) }
func (h retryHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].out.Ref.Position < h[j].out.Ref.Position
	}
	return h[i].at.Before(h[j].at)
}
func (h retryHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *retryHeap) Push(x any)   { *h = append(*h, x.(retryItem)) }
func (h *retryHeap) Pop() any {
	old := *h
	n := len(old) - 1
	it := old[n]
	old[n] = retryItem{}
	*h = old[:n]
	return it
}
