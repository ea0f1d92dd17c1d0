package dedup

import (
	"context"
	"sync"
	"time"
)

// A connection whose other side has vanished without a word never answers, and what
// comes after the call has to wait: so a call is given up soon, and made again. But a
// store that does answer, and is slow, must not be asked for the same in vain for
// ever. From a call that has timed out the two look alike. So after some time-outs in a
// row the store is asked for its time as well, with all the patience that there is,
// while the calls go on being short:
//
//	it answers     it is slow: what times out gets twice the time
//	it does not    it is away: all limits are what they were at first
//
// While nothing answers no limit grows, so none outlasts the store's return.
const (
	// impatientCalls is how many calls in a row may time out before the store is asked.
	impatientCalls = 3
	// silencePause is the time between two questions whether the store answers.
	silencePause = 500 * time.Millisecond
)

// kind is a kind of call of the store. Each kind has a limit of its own: what is
// slow is not asked for in vain because something else is quick.
type kind uint8

const (
	callTime kind = iota
	callClaim
	callComplete
	callLetters
	callRelease
	callBegin
	callSweep
	callProbe
	callTxBegin
	callTxCommit
	callKinds
)

// limit is for how long the next call of a kind is waited for.
type limit struct {
	wait     time.Duration
	timeouts int // in a row
}

// limits are for how long a consumer waits for the store.
type limits struct {
	ctx         context.Context //nolint:containedctx // the consumer's life
	store       storeTime
	first, most time.Duration
	questions   sync.WaitGroup

	mu     sync.Mutex // guards the following
	of     [callKinds]limit
	asking bool // the store is being asked for its time
	closed bool
}

func newLimits(ctx context.Context, store storeTime, most time.Duration) *limits {
	l := &limits{ctx: ctx, store: store, first: min(FirstStoreTimeout, most), most: most}
	l.forget()
	return l
}

// forget sets all limits to what they are at first. The caller holds the mutex, if
// anybody else knows l.
func (l *limits) forget() {
	for i := range l.of {
		l.of[i] = limit{wait: l.first}
	}
}

// limit is for how long the next call of that kind is waited for.
func (l *limits) limit(k kind) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of[k].wait
}

// longest is the longest of the limits.
func (l *limits) longest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	longest := l.first
	for i := range l.of {
		longest = max(longest, l.of[i].wait)
	}
	return longest
}

// answered notes that a call was answered after that time.
func (l *limits) answered(k kind, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := &l.of[k]
	of.timeouts = 0
	if took < l.first {
		of.wait = l.first
	}
}

// timedOut notes that a call was not answered in time.
func (l *limits) timedOut(k kind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := &l.of[k]
	of.timeouts++
	if of.timeouts < impatientCalls && of.wait == l.first || l.first == l.most || l.asking || l.closed {
		return
	}
	l.asking = true
	l.questions.Go(l.ask)
}

// ask finds out whether the store is slow or away.
func (l *limits) ask() {
	ctx, cancel := context.WithTimeout(l.ctx, l.most)
	defer cancel()
	_, err := l.store.Time(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asking = false
	if err != nil {
		l.forget()
		return
	}
	for i := range l.of {
		if of := &l.of[i]; of.timeouts >= impatientCalls {
			of.wait = min(2*of.wait, l.most)
		}
	}
}

// close joins the question that may be under way. The context has ended.
func (l *limits) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.questions.Wait()
}

// call makes one call of the store with its time limit.
func call[T any](ctx context.Context, l *limits, k kind, f func(context.Context) (T, error)) (T, error) {
	limited, cancel := context.WithTimeout(ctx, l.limit(k))
	defer cancel()
	began := time.Now()
	result, err := f(limited)
	switch {
	case err == nil:
		l.answered(k, time.Since(began))
	case limited.Err() != nil && ctx.Err() == nil:
		l.timedOut(k)
	}
	return result, err
}
