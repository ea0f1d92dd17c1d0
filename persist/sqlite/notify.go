package sqlite

import "sync"

// notifier wakes subscribers.
type notifier struct {
	mu   sync.Mutex // guards subs
	subs map[chan struct{}]struct{}
}

// Notify subscribes to commits of this process that may have made messages due;
// see [persist.Notifier]. Commits of other processes are not seen, and those of
// transactions with WithTx some milliseconds late. The channel is never
// closed.
func (s *Store) Notify() (<-chan struct{}, func()) {
	n := &s.notifier
	ch := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.subs == nil {
		n.subs = make(map[chan struct{}]struct{})
	}
	n.subs[ch] = struct{}{}
	return ch, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.subs, ch)
	}
}

// wake sends without waiting, so that it may do so under the lock.
func (n *notifier) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ch := range n.subs {
		select {
		case ch <- struct{}{}:
		default: // it has one already
		}
	}
}

func (n *notifier) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.subs)
}
