package dedup

import (
	"context"
	"time"
)

const (
	// sweepLimit is how many keys one call looks at: few enough for the call to
	// hold others up for milliseconds at most.
	sweepLimit = 1000
	// sweepFind is the part of them, one in that many, whose forgetting makes
	// the next call follow at once. A store that visits all keys in turn keeps
	// about as large a part of closed keys.
	sweepFind = 8
	// sweepShare bounds the time that such calls take of the store: one part in
	// that many.
	sweepShare = 5
	sweepPause = 10 * time.Millisecond
)

// expirer is the part of [persist.Processed] that sweeping needs.
type expirer interface {
	ExpireProcessed(ctx context.Context, limit int) (forgotten int, err error)
}

func (c *Consumer) runSweeps(ctx context.Context) {
	sweep(ctx, c.cfg.Store, c.cfg.SweepInterval, c.limits, func(forgotten int) {
		c.mu.Lock()
		c.counters.forgotten += int64(forgotten)
		c.mu.Unlock()
	})
}

// sweep forgets keys whose window has closed, until ctx ends: now and then, and
// nearly without a pause while calls find much to forget, since keys may close
// as fast as they are completed. An error is left to the next
// round: nothing depends on a sweep, and if the store is down others say so.
func sweep(
	ctx context.Context, store expirer, interval time.Duration, limits *limits, count func(forgotten int),
) {
	wait := jittered(interval)
	for pause(ctx, wait) {
		began := time.Now()
		forgotten, err := call(ctx, limits, callSweep, func(ctx context.Context) (int, error) {
			return store.ExpireProcessed(ctx, sweepLimit)
		})
		wait = jittered(interval)
		if err != nil {
			continue
		}
		if forgotten > 0 {
			count(forgotten)
		}
		if forgotten > sweepLimit/sweepFind {
			wait = min(wait, sweepPause+(sweepShare-1)*time.Since(began))
		}
	}
}
