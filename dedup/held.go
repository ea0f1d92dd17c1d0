package dedup

import (
	"container/heap"
	"time"
)

// held are the nodes that wait for a moment, earliest first.
type held struct {
	nodes heldHeap
}

func (h *held) len() int { return len(h.nodes) }

// add holds n until at, in the consumer's own time.
func (h *held) add(n *Node, at time.Duration) {
	n.retryAt = at
	heap.Push(&h.nodes, n)
}

// remove takes n out, if it is held.
func (h *held) remove(n *Node) {
	if n.heldAt > 0 {
		heap.Remove(&h.nodes, n.heldAt-1)
	}
}

// next is the earliest moment; ok is false if nothing is held.
func (h *held) next() (at time.Duration, ok bool) {
	if len(h.nodes) == 0 {
		return 0, false
	}
	return h.nodes[0].retryAt, true
}

// popDue takes out one node whose moment has come, or returns nil.
func (h *held) popDue(now time.Duration) *Node {
	if len(h.nodes) == 0 || h.nodes[0].retryAt > now {
		return nil
	}
	n, _ := heap.Pop(&h.nodes).(*Node)
	return n
}

// heldHeap implements heap.Interface. A node's heldAt is its index plus one, so
// that the zero Node is in no heap.
type heldHeap []*Node

func (h heldHeap) Len() int           { return len(h) }
func (h heldHeap) Less(i, j int) bool { return h[i].retryAt < h[j].retryAt }

func (h heldHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heldAt, h[j].heldAt = i+1, j+1
}

func (h *heldHeap) Push(x any) {
	n, _ := x.(*Node)
	*h = append(*h, n)
	n.heldAt = len(*h)
}

func (h *heldHeap) Pop() any {
	old := *h
	n := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	n.heldAt = 0
	return n
}
