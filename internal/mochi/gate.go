package mochi

import "sync"

// gate holds up what some clients send to the broker: a network that is silent in
// one direction for a moment.
type gate struct {
	mu   sync.Mutex
	shut chan struct{} // nil while the gate is open; closed when it opens
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// pass waits until the gate is open; it is false if given ends first.
func (g *gate) pass(given <-chan struct{}) bool {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut == nil {
		return true
	}
	select {
	case <-shut:
		return true
	case <-given:
		return false
	}
}
