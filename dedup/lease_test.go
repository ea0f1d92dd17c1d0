package dedup

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// In these tests time is the bubble's: sleeping waits for every goroutine to have
// nothing to do before a moment passes.

// A handler that takes many leases keeps its claim, however slow or stuck claims
// and completions are (D18).
func TestRenewalKeepsClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		slow := newFaulty(store)
		cfg := testConfig(slow)
		cfg.StoreTimeout = 5 * time.Second // for which the end waits
		one, two := start(t, cfg), start(t, testConfig(store))
		d := submit(t, one, "a")
		g := <-d.granted
		ctx, cancel := g.Context(t.Context())
		defer cancel()
		slow.setDecide(func(op string, _ []string) fault {
			if op == "claim" || op == "complete" {
				return faultHang
			}
			return faultNone
		})
		stuck := submit(t, one, "stuck")
		other := submit(t, two, "a")
		elapse(10 * one.cfg.Lease)
		require.NoError(t, ctx.Err())
		other.undecided(t)
		one.Complete(d, nil)
		elapse(10 * one.cfg.Lease)
		d.undecided(t) // the completion is stuck
		other.undecided(t)
		one.Release(stuck)
		slow.setDecide(nil)
		require.Equal(t, OutcomeProcessed, <-d.settled)
		require.Equal(t, OutcomeDuplicate, <-other.settled)
		require.Zero(t, one.Stats().Lost)
	})
}

// A claim that cannot be renewed is reported to its handler before its lease
// ends, so that the handler can stop before anybody else starts.
func TestLostClaimIsReportedInTime(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]fault{"fails": faultFail, "hangs": faultHang} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newStore(t)
				failing := newFaulty(store)
				one, two := start(t, testConfig(failing)), start(t, testConfig(store))
				d := submit(t, one, "a")
				g := <-d.granted
				granted := time.Now()
				require.False(t, g.Lost())
				ctx, cancel := g.Context(t.Context())
				defer cancel()
				second, cancelSecond := g.Context(t.Context())
				defer cancelSecond()
				failing.setDecide(func(op string, _ []string) fault {
					if op == "renew" {
						return mode
					}
					return faultNone
				})
				other := submit(t, two, "a")
				<-ctx.Done()
				require.Less(t, time.Since(granted), one.cfg.Lease)
				require.ErrorIs(t, context.Cause(ctx), ErrClaimLost)
				<-second.Done()
				require.True(t, g.Lost())
				other.undecided(t)
				late, cancelLate := g.Context(t.Context())
				defer cancelLate()
				require.ErrorIs(t, context.Cause(late), ErrClaimLost)
				require.Equal(t, int64(1), one.Stats().Lost)

				g2 := <-other.granted
				require.Less(t, time.Since(granted), one.cfg.Lease+time.Second, "takeover took too long")
				require.Greater(t, g2.Epoch, g.Epoch)
				two.Complete(other, nil)
				require.Equal(t, OutcomeProcessed, <-other.settled)

				// The zombie wakes up; its completion is refused, and it learns
				// that the message is processed.
				one.Complete(d, nil)
				require.Equal(t, OutcomeDuplicate, <-d.settled)
				require.Empty(t, d.granted)
				require.Equal(t, int64(1), one.Stats().Lost)
			})
		})
	}
}

// A renewal that is refused says for certain that the claim is another's: the
// handler hears of it at once.
func TestRefusedRenewalIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		one, two := start(t, testConfig(store)), start(t, testConfig(store))
		d := submit(t, one, "a")
		g := <-d.granted
		ctx, cancel := g.Context(t.Context())
		defer cancel()
		stolen := []persist.Claim{{Key: "a", Epoch: g.Epoch}}
		require.NoError(t, store.Release(t.Context(), "workers", stolen))
		other := submit(t, two, "a")
		<-other.granted
		began := time.Now()
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), ErrClaimLost)
		require.LessOrEqual(t, time.Since(began), one.renewAfter())
		require.Equal(t, int64(1), one.Stats().Lost)
		two.Complete(other, nil)
		require.Equal(t, OutcomeProcessed, <-other.settled)
		one.Complete(d, nil)
		require.Equal(t, OutcomeDuplicate, <-d.settled)
	})
}

// A lease that ended and was not taken over is still good: the completion is
// tried, and the store decides.
func TestCompletionAfterLeaseEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty(newStore(t))
		c := start(t, testConfig(store))
		d := submit(t, c, "a")
		<-d.granted
		store.setDecide(func(op string, _ []string) fault {
			if op == "renew" {
				return faultFail
			}
			return faultNone
		})
		elapse(5 * c.cfg.Lease)
		c.Complete(d, nil)
		require.Equal(t, OutcomeProcessed, <-d.settled)
	})
}

// The claim was lost, the handler has run all the same, and the other one gave
// up: the key is completed under a new claim, and the handler does not run
// again.
func TestLostClaimIsCompletedIfNobodyElseDid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		failing := newFaulty(store)
		one, two := start(t, testConfig(failing)), start(t, testConfig(store))
		d := submit(t, one, "a")
		<-d.granted
		failing.setDecide(func(op string, _ []string) fault {
			if op == "renew" {
				return faultFail
			}
			return faultNone
		})
		other := submit(t, two, "a")
		<-other.granted
		one.Complete(d, nil)
		elapse(time.Minute)
		d.undecided(t)
		require.Equal(t, 1, one.Stats().Held)
		one.Release(d) // too late, and ignored
		two.Release(other)
		require.Equal(t, OutcomeReleased, <-other.settled)
		require.Equal(t, OutcomeProcessed, <-d.settled)
		require.Empty(t, d.granted)
		require.Equal(t, OutcomeDuplicate, <-submit(t, two, "a").settled)
	})
}

// A replica that dies holds its keys until their leases end, and no longer.
func TestTakeoverAfterDeath(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		dying := newFaulty(store)
		one, err := New(testConfig(dying))
		require.NoError(t, err)
		two := start(t, testConfig(store))
		var first []*inbound
		for i := range 100 {
			first = append(first, submit(t, one, key(i)))
		}
		for _, d := range first {
			<-d.granted
		}
		dying.setDecide(func(string, []string) fault { return faultFail })
		died := time.Now()
		kill(t, one)
		var second []*inbound
		for i := range 100 {
			second = append(second, submit(t, two, key(i)))
		}
		for _, d := range second {
			require.Equal(t, 2, (<-d.granted).Attempts)
			two.Complete(d, nil)
			require.Equal(t, OutcomeProcessed, <-d.settled)
		}
		require.Less(t, time.Since(died), two.cfg.Lease+time.Second)
	})
}

// kill ends a consumer as a crash does: whatever its store calls were, it settles
// and releases nothing.
func kill(t *testing.T, c *Consumer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := c.Close(ctx); err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
}

// Many keys that are busy elsewhere are asked for in few calls.
func TestHeldKeysAreAskedForTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore(t)
		counting := newFaulty(store)
		cfg := testConfig(counting)
		cfg.PollInterval = DefaultPollInterval
		one, two := start(t, testConfig(store)), start(t, cfg)
		var first, second []*inbound
		for i := range 300 {
			first = append(first, submit(t, one, key(i)))
		}
		for i, d := range first {
			<-d.granted
			second = append(second, submit(t, two, key(i)))
		}
		// How many calls the first claims take is the scheduler's matter.
		synctest.Wait()
		arriving := counting.count("claim")
		elapse(time.Minute)
		// A step is 50 ms, and a key is asked for every 750 ms at most.
		require.LessOrEqual(t, counting.count("claim")-arriving, 60*20+1)
		counting.mu.Lock()
		asked := 0
		for _, n := range counting.sizes["claim"] {
			asked += n
		}
		counting.mu.Unlock()
		require.LessOrEqual(t, asked, 300*(60*4/3+2))
		require.GreaterOrEqual(t, asked, 300*60*3/4)
		for i, d := range first {
			one.Complete(d, nil)
			require.Equal(t, OutcomeProcessed, <-d.settled)
			require.Equal(t, OutcomeDuplicate, <-second[i].settled)
		}
	})
}

func TestWindowEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig(newStore(t))
		cfg.Window, cfg.ClockSkew = 10*time.Second, time.Millisecond
		c := start(t, cfg)
		for range 3 {
			d := submit(t, c, "a")
			require.Equal(t, 1, (<-d.granted).Attempts)
			c.Complete(d, nil)
			require.Equal(t, OutcomeProcessed, <-d.settled)
			elapse(9 * time.Second)
			require.Equal(t, OutcomeDuplicate, <-submit(t, c, "a").settled)
			elapse(1100 * time.Millisecond)
		}
		require.Eventually(t, func() bool { return c.Stats().Forgotten > 0 }, time.Minute, time.Second)
	})
}

// Keys close as fast as they were completed; the sweeper keeps up without a
// setting, and rests when there is nothing.
func TestSweeperKeepsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty(newStore(t))
		cfg := testConfig(store)
		cfg.Window = time.Second
		c := start(t, cfg)
		const n = 20 * sweepLimit
		done := make(chan struct{}, n)
		for i := range n {
			d := &inbound{settled: make(chan Outcome, 1)}
			d.onGranted = func(d *inbound, _ Grant) { c.Complete(d, nil); done <- struct{}{} }
			require.NoError(t, c.Submit(d, key(i), time.Time{}))
		}
		for range n {
			<-done
		}
		elapse(12 * time.Second)
		require.Equal(t, int64(n), c.Stats().Forgotten)
		before := store.count("expire")
		elapse(10 * time.Minute)
		require.Less(t, store.count("expire")-before, 200)
	})
}

// The lease counts from the asking, not from the answer: of a claim that took
// most of its lease to be answered little is left.
func TestLeaseCountsFromTheAsking(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty(newStore(t))
		c := start(t, testConfig(store))
		store.setAfter(func(op string) {
			if op == "claim" {
				elapse(c.cfg.Lease / 2)
			}
		})
		store.setDecide(func(op string, _ []string) fault {
			if op == "renew" {
				return faultFail
			}
			return faultNone
		})
		asked := time.Now()
		d := submit(t, c, "a")
		ctx, cancel := (<-d.granted).Context(t.Context())
		defer cancel()
		require.Equal(t, c.cfg.Lease/2, time.Since(asked))
		<-ctx.Done()
		require.Less(t, time.Since(asked), c.cfg.Lease)
		c.Complete(d, nil)
		require.Equal(t, OutcomeProcessed, <-d.settled)
	})
}
