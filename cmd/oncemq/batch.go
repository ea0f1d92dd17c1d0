package main

import (
	"errors"
	"sync"
)

// A batch has at most that many payloads and bytes, but always one.
const (
	batchSize  = 500
	batchBytes = 4 << 20
)

// errStopped is what put returns after stop.
var errStopped = errors.New("stopped")

// gather brings payloads from the goroutine that reads them to the one that
// stores them. While a batch is being stored the next one fills, so that a
// batch has as many payloads as came in that time: one if they come slowly,
// batchSize if they come fast. It holds one batch.
type gather struct {
	mu      sync.Mutex // guards the following
	changed sync.Cond
	bytes   []byte
	ends    []int // of each payload in bytes
	ended   bool
	stopped bool
	err     error
}

func newGather() *gather {
	g := new(gather)
	g.changed.L = &g.mu
	return g
}

// put copies a payload into the batch, once there is room for it.
func (g *gather) put(payload []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for !g.stopped && len(g.ends) > 0 && (len(g.ends) >= batchSize || len(g.bytes)+len(payload) > batchBytes) {
		g.changed.Wait()
	}
	if g.stopped {
		return errStopped
	}
	g.bytes = append(g.bytes, payload...)
	g.ends = append(g.ends, len(g.bytes))
	g.changed.Broadcast()
	return nil
}

// end says that no more payloads come, and why.
func (g *gather) end(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ended {
		g.ended, g.err = true, err
	}
	g.changed.Broadcast()
}

// stop has put refuse more. What was put is still taken.
func (g *gather) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stopped = true
	g.changed.Broadcast()
}

// take returns the payloads that were put, as soon as there is one; none once
// the end has come, or stop.
func (g *gather) take() [][]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	for len(g.ends) == 0 && !g.ended && !g.stopped {
		g.changed.Wait()
	}
	if len(g.ends) == 0 {
		return nil
	}
	payloads := make([][]byte, len(g.ends))
	start := 0
	for i, end := range g.ends {
		payloads[i] = g.bytes[start:end:end]
		start = end
	}
	// A store may keep the payloads, so that the bytes are not used again.
	g.bytes = make([]byte, 0, cap(g.bytes))
	if cap(g.bytes) > 256<<10 {
		g.bytes = nil
	}
	g.ends = g.ends[:0]
	g.changed.Broadcast()
	return payloads
}

// result tells why the payloads ended: nil if all were read, and whether they
// ended by themselves.
func (g *gather) result() (ended bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended && !errors.Is(g.err, errStopped), g.err
}
