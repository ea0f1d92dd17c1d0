package dedup

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

// Whichever call of the store fails, and whether or not it was done before it
// failed, each message is processed once and each delivery is settled once. Time
// is the bubble's, so that leases may be waited out.
func TestNthCallFails(t *testing.T) {
	t.Parallel()
	modes := map[string]fault{"fail": faultFail, "applied": faultApplied, "unknown": faultUnknown, "hang": faultHang}
	for name, mode := range modes {
		for _, tellOwner := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/owner=%v", name, tellOwner), func(t *testing.T) {
				t.Parallel()
				for n := 1; ; n++ {
					var reached bool
					synctest.Test(t, func(t *testing.T) { reached = nthCallFails(t, n, mode, tellOwner) })
					if !reached {
						require.Greater(t, n, 10, "the scenario makes more calls than that")
						return
					}
				}
			})
		}
	}
}

// nthCallFails runs one scenario, and tells whether it had that many calls.
func nthCallFails(t *testing.T, n int, mode fault, tellOwner bool) bool {
	t.Helper()
	store := newFaulty(memory.New(memory.Options{}))
	if tellOwner {
		store.owners = newOwners()
	}
	var mu sync.Mutex
	calls := 0
	store.decide = func(op string, _ []string) fault {
		if op == "expire" {
			return faultNone // the number of sweeps depends on the time that passes
		}
		mu.Lock()
		defer mu.Unlock()
		if calls++; calls == n {
			return mode
		}
		return faultNone
	}
	cfg := testConfig(store)
	cfg.MaxBatch = 3
	cfg.Lease = 30 * time.Second
	c := start(t, cfg)

	began := time.Now()
	var deliveries []*inbound
	for i := range 5 {
		d := submit(t, c, key(i))
		<-d.granted
		deliveries = append(deliveries, d)
	}
	elapse(11 * time.Second) // bubble time, for a renewal
	duplicate := submit(t, c, key(0))
	unkeyed := submit(t, c, "")
	<-unkeyed.granted
	c.Complete(unkeyed, letterFor("unkeyed"))
	for i, d := range deliveries {
		switch i {
		case 3:
			c.Release(d)
			require.Equal(t, OutcomeReleased, <-d.settled)
			again := submit(t, c, key(i))
			// A claim whose answer was lost and that was waited out counts.
			require.GreaterOrEqual(t, (<-again.granted).Attempts, 2)
			c.Complete(again, nil)
			require.Equal(t, OutcomeProcessed, <-again.settled)
		case 4:
			c.Complete(d, letterFor("dead"))
			require.Equal(t, OutcomeDead, <-d.settled)
		default:
			c.Complete(d, nil)
			require.Equal(t, OutcomeProcessed, <-d.settled)
		}
		require.Empty(t, d.granted, "a handler ran twice")
	}
	require.Equal(t, OutcomeDuplicate, <-duplicate.settled)
	require.Equal(t, OutcomeDead, <-unkeyed.settled)
	if tellOwner && mode != faultHang {
		require.Less(t, time.Since(began), 15*time.Second, "a lease was waited out")
	}
	require.NoError(t, c.Close(t.Context()))
	require.Zero(t, c.Stats().Open)
	require.Zero(t, c.Stats().Lost)

	letters, err := store.Store.(*memory.Store).ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	keyed := 0
	for _, l := range letters {
		if l.Key != "" {
			keyed++
		}
	}
	require.Equal(t, 1, keyed, "the letter of a key is stored once")
	require.NoError(t, store.Store.(*memory.Store).Close(t.Context()))
	mu.Lock()
	defer mu.Unlock()
	return calls >= n
}
