package mochi

import (
	"slices"
	"sync"
)

// wire counts PUBLISH packets over all lives of the broker. It belongs to whoever
// watches and not to the broker, which forgets.
type wire struct {
	mu     sync.Mutex     // guards the following
	sent   map[string]int // to members, by message ID
	copies int            // the sum of sent
}

func (w *wire) count(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[id]++
	w.copies++
}

// redelivered is how many copies were sent beyond the first of each message.
func (w *wire) redelivered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.copies - len(w.sent)
}

// unsent are those of the messages that were never sent.
func (w *wire) unsent(ids []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(ids, func(id string) bool { return w.sent[id] > 0 })
}
