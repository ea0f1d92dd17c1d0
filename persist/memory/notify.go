package memory

import (
	"slices"
	"sync"
	"sync/atomic"
)

// notifier wakes those who wait for messages. Its list is replaced and never
// changed, so that no channel is sent on under a lock.
type notifier struct {
	mu          sync.Mutex // serialises changes of subscribers
	subscribers atomic.Pointer[[]chan struct{}]
}

// Notify implements persist.Notifier.
func (s *Store) Notify() (wake <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	s.notifier.change(func(list []chan struct{}) []chan struct{} { return append(list, ch) })
	return ch, func() {
		s.notifier.change(func(list []chan struct{}) []chan struct{} {
			return slices.DeleteFunc(list, func(c chan struct{}) bool { return c == ch })
		})
	}
}

// change replaces the list by what edit makes of a copy of it.
func (n *notifier) change(edit func([]chan struct{}) []chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []chan struct{}
	if old := n.subscribers.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = edit(list)
	n.subscribers.Store(&list)
}

// wake tells every subscriber that messages may be due. One that was told and
// has not looked yet is not told twice.
func (n *notifier) wake() {
	list := n.subscribers.Load()
	if list == nil {
		return
	}
	for _, ch := range *list {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
