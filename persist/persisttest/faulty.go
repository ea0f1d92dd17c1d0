package persisttest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/oncemq/oncemq/persist"
)

// ErrInjected is wrapped by every error that a faulty store makes up, beside
// the sentinel of package persist that such a failure has.
var ErrInjected = errors.New("injected fault")

// Mode is what a fault does to its call.
type Mode uint8

// The modes of a fault.
const (
	// Failed: the call does not happen. The error wraps persist.ErrUnavailable.
	Failed Mode = iota
	// Applied: the call happens, but its answer is lost. The error wraps
	// persist.ErrUnknownOutcome.
	Applied
	// Lost: the call does not happen, and nobody can tell. The error is the
	// same as for Applied, so a caller is right only if it is so in both cases.
	Lost
)

// String is the mode's name in lower case.
func (m Mode) String() string {
	switch m {
	case Failed:
		return "failed"
	case Applied:
		return "applied"
	case Lost:
		return "lost"
	}
	return "unknown"
}

// Fault makes one call of a store fail.
type Fault struct {
	// Op is the operation whose calls are counted; empty counts all calls.
	Op Op
	// N is which of these calls fails, counted from 1 and from the moment the
	// fault was added; zero is the first as well.
	N int
	// Times is how many calls fail from there on. Zero is one; a negative
	// number is all of them, until Heal.
	Times int
	// Mode is what happens to them.
	Mode Mode
	// Err is the error instead of the mode's, say persist.ErrLeaseLost. It is
	// wrapped, together with ErrInjected.
	Err error
}

// Faults is the control of a faulty store. Its methods are safe for concurrent
// use.
type Faults struct {
	mu     sync.Mutex // guards everything below
	calls  map[Op]int
	armed  []*armed
	holds  []*Hold
	failed int
}

// armed is a fault with the calls that it has seen.
type armed struct {
	Fault
	seen int
}

// NewFaulty wraps a store, so that calls fail as the faults say, those of its
// lanes and of its transactions too. Tests of what uses a store loop over N:
//
//	for n := 1; ; n++ {
//		store, faults := persisttest.NewFaulty(inner, persisttest.Fault{N: n})
//		…
//		if faults.Failed() == 0 {
//			break // there were fewer than n calls
//		}
//	}
//
// The wrapper implements persist.Notifier exactly if the store does, and
// persist.TxJoiner and persist.TxProcessor for *sql.Tx if the store does both.
// Close, Identity, Durability and Notify never fail.
func NewFaulty(inner persist.Store, faults ...Fault) (persist.Store, *Faults) {
	control := &Faults{calls: make(map[Op]int)}
	for _, fault := range faults {
		control.Add(fault)
	}
	return control.wrap(inner), control
}

// Add adds a fault. Calls made before do not count.
func (f *Faults) Add(fault Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault.N = max(fault.N, 1)
	f.armed = append(f.armed, &armed{Fault: fault})
}

// Heal removes all faults. Holds stay.
func (f *Faults) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = nil
}

// Calls is how often an operation was called; with an empty one, how often any
// was.
func (f *Faults) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Failed is how many calls met a fault.
func (f *Faults) Failed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Hold stops one call until it is released.
type Hold struct {
	op       Op
	n        int
	seen     int
	reached  chan struct{}
	released chan struct{}
	once     sync.Once
}

// Hold stops the n-th call of an operation from now on before it happens; an
// empty operation counts all calls. The call goes on after Release, and returns
// the error of its context if that ends first.
func (f *Faults) Hold(op Op, n int) *Hold {
	h := &Hold{op: op, n: n, reached: make(chan struct{}), released: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.holds = append(f.holds, h)
	return h
}

// Reached is closed once the call has come.
func (h *Hold) Reached() <-chan struct{} { return h.reached }

// Release lets the call go on, or pass if it has not come yet.
func (h *Hold) Release() { h.once.Do(func() { close(h.released) }) }

// begin counts a call, and finds the fault and the holds that it meets.
func (f *Faults) begin(op Op) (fault *Fault, holds []*Hold) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[op]++
	f.calls[""]++
	for _, a := range f.armed {
		if a.Op != "" && a.Op != op {
			continue
		}
		a.seen++
		last := a.N + max(a.Times, 1) - 1
		if fault == nil && a.seen >= a.N && (a.seen <= last || a.Times < 0) {
			fault = &a.Fault
			f.failed++
		}
	}
	for _, h := range f.holds {
		if h.op != "" && h.op != op {
			continue
		}
		if h.seen++; h.seen == h.n {
			holds = append(holds, h)
		}
	}
	return fault, holds
}

// call does one call of the inner store under the faults.
func (f *Faults) call(ctx context.Context, op Op, do func() error) error {
	fault, holds := f.begin(op)
	for _, h := range holds {
		close(h.reached)
		select {
		case <-h.released:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", op, ctx.Err())
		}
	}
	if fault == nil {
		return do()
	}
	if fault.Mode == Applied {
		if err := do(); err != nil {
			return err // it was not applied, and says so
		}
	}
	return fault.error(op)
}

// error is the error of a call that met the fault.
func (f *Fault) error(op Op) error {
	kind := f.Err
	if kind == nil {
		kind = persist.ErrUnavailable
		if f.Mode != Failed {
			kind = persist.ErrUnknownOutcome
		}
	}
	return &persist.Error{Op: string(op), Kind: kind, Err: ErrInjected}
}
