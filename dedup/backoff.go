package dedup

import (
	"context"
	"math"
	"math/rand/v2"
	"time"
)

// The pauses between attempts on a store that fails: full jitter below a bound
// that doubles, so that many replicas do not come back in step, and capped so
// that work resumes within two seconds of the store's return: a client of the store
// may have a pause of a second of its own before it connects again. If connections
// have died without a word, it is a call that hangs for up to FirstStoreTimeout that
// comes before the pause, see limits.
const (
	backoffFirst = 100 * time.Millisecond
	backoffCap   = time.Second
	backoffFloor = 5 * time.Millisecond
)

// never is a moment that does not come.
const never = time.Duration(math.MaxInt64)

// backoff counts failures in a row. The zero value is ready.
type backoff struct {
	failures int
}

func (b *backoff) reset() { b.failures = 0 }

// next is the pause after one more failure.
func (b *backoff) next() time.Duration {
	bound := backoffCap
	if b.failures < 5 { // 100 ms × 2^4 is beyond the cap
		bound = min(backoffCap, backoffFirst<<b.failures)
		b.failures++
	}
	return backoffFloor + below(bound-backoffFloor)
}

// wait pauses, and returns false if ctx ended first.
func (b *backoff) wait(ctx context.Context) bool {
	return pause(ctx, b.next())
}

// pause returns true after d, or false once ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// await waits for d, or for ever if d is never, or for a wake-up, and returns
// false once ctx has ended.
func await(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	var timer <-chan time.Time
	if d != never {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
	case <-wake:
	case <-ctx.Done():
		return false
	}
	return true
}

// jittered is d give or take a quarter.
func jittered(d time.Duration) time.Duration {
	return d - d/4 + below(d/2+1)
}

// below is a random part of d, to spread what many would do at once.
func below(d time.Duration) time.Duration {
	return rand.N(d) //nolint:gosec // nobody gains by guessing it
}
