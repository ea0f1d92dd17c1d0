package memory

import "container/heap"

// queue is a heap of entries: those with a time to come by that time, ties and
// all others by position. An entry is in one queue at most and knows where, so
// that it can be taken out from anywhere.
type queue struct {
	byTime  bool
	entries []*entry
}

func (q *queue) len() int      { return len(q.entries) }
func (q *queue) first() *entry { return q.entries[0] }

func (q *queue) add(e *entry) {
	e.queue = q
	heap.Push((*queueHeap)(q), e)
}

func (q *queue) pop() *entry {
	e := q.entries[0]
	q.remove(e)
	return e
}

func (q *queue) remove(e *entry) {
	heap.Remove((*queueHeap)(q), e.slot)
	e.queue = nil
}

// queueHeap is the queue as container/heap wants it.
type queueHeap queue

func (h *queueHeap) Len() int { return len(h.entries) }

func (h *queueHeap) Less(i, j int) bool {
	a, b := h.entries[i], h.entries[j]
	if h.byTime && a.dueAt != b.dueAt {
		return a.dueAt < b.dueAt
	}
	return a.Position < b.Position
}

func (h *queueHeap) Swap(i, j int) {
	h.entries[i], h.entries[j] = h.entries[j], h.entries[i]
	h.entries[i].slot, h.entries[j].slot = i, j
}

func (h *queueHeap) Push(x any) {
	e := x.(*entry) // only queue.add pushes
	e.slot = len(h.entries)
	h.entries = append(h.entries, e)
}

func (h *queueHeap) Pop() any {
	last := len(h.entries) - 1
	e := h.entries[last]
	h.entries[last] = nil
	h.entries = h.entries[:last]
	return e
}
