package dedup

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// The store is down for ten minutes, and the connection to the broker flaps all
// the while (D17): nothing is granted, settled or lost, nothing piles up, and
// work resumes by itself.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]fault{"fails": faultFail, "hangs": faultHang} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { storeDown(t, mode) })
		})
	}
}

func storeDown(t *testing.T, mode fault) {
	t.Helper()
	store := newFaulty(newStore(t))
	var down atomic.Bool
	cfg := testConfig(store)
	cfg.StoreTimeout = time.Second
	cfg.OnStoreError = func(err error) {
		require.Error(t, err)
		down.Store(true)
	}
	cfg.OnStoreBack = func() { down.Store(false) }
	c := start(t, cfg)

	inWork := submit(t, c, "in-work")
	<-inWork.granted
	store.setDecide(func(string, []string) fault { return mode })
	c.Complete(inWork, nil)

	var outstanding []*inbound
	outage := time.Now()
	for time.Since(outage) < 10*time.Minute {
		for _, d := range outstanding { // the connection is gone
			d.undecided(t)
			c.Release(d)
			require.Equal(t, OutcomeReleased, <-d.settled)
		}
		outstanding = outstanding[:0]
		for i := range 20 { // and there is another one
			outstanding = append(outstanding, submit(t, c, key(i)))
		}
		outstanding = append(outstanding, submit(t, c, "in-work"))
		elapse(3 * time.Second)
		require.True(t, down.Load())
		require.Error(t, c.Stats().StoreError)
		require.Equal(t, int64(22), c.Stats().Open)
		c.mu.Lock()
		require.LessOrEqual(t, len(c.keys), 21)
		c.mu.Unlock()
	}
	require.Less(t, store.count("claim"), 2000, "the store is hammered")
	inWork.undecided(t)
	require.Empty(t, inWork.settled)

	store.setDecide(nil)
	back := time.Now()
	require.Equal(t, OutcomeProcessed, <-inWork.settled)
	require.Equal(t, OutcomeDuplicate, <-outstanding[20].settled)
	for _, d := range outstanding[:20] {
		<-d.granted
		c.Complete(d, nil)
		require.Equal(t, OutcomeProcessed, <-d.settled)
	}
	require.LessOrEqual(t, time.Since(back), 2*backoffCap+cfg.StoreTimeout)
	synctest.Wait()
	elapse(3 * time.Second) // the loop that renews learns of it, too
	require.False(t, down.Load())
	require.NoError(t, c.Stats().StoreError)
}

// A client that stops its intake while the store is down has nothing to try, and
// must learn of the return all the same.
func TestStoreBackIsNoticedWithoutWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFaulty(newStore(t))
		events := make(chan string, 1000)
		cfg := testConfig(store)
		cfg.OnStoreError = func(error) { events <- "down" }
		cfg.OnStoreBack = func() { events <- "back" }
		c := start(t, cfg)
		store.setDecide(func(string, []string) fault { return faultFail })
		d := submit(t, c, "a")
		require.Equal(t, "down", <-events)
		c.Release(d)
		require.Equal(t, OutcomeReleased, <-d.settled)
		elapse(time.Minute)
		store.setDecide(nil)
		elapse(backoffCap)
		synctest.Wait()
		for len(events) > 1 {
			require.Equal(t, "down", <-events)
		}
		require.Equal(t, "back", <-events)
	})
}

func TestCloseWhileStoreIsDown(t *testing.T) {
	t.Parallel()
	store := newFaulty(newStore(t))
	c, err := New(testConfig(store))
	require.NoError(t, err)
	d := submit(t, c, "a")
	d.grant(t)
	store.setDecide(func(string, []string) fault { return faultHang })
	c.Complete(d, nil)
	kill(t, c)
	require.Empty(t, d.settled)
}

// One key that the store refuses for itself stops no other.
func TestRefusedKeyIsHeldAlone(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"claim", "complete"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newFaulty(newStore(t))
				refuse := func(o string, keys []string) fault {
					for _, k := range keys {
						if o == op && k == key(7) {
							return faultRefuse
						}
					}
					return faultNone
				}
				store.setDecide(refuse)
				c := start(t, testConfig(store))
				var all []*inbound
				for i := range 20 {
					d := newInbound()
					d.onGranted = func(d *inbound, _ Grant) { c.Complete(d, nil) }
					require.NoError(t, c.Submit(d, key(i), time.Time{}))
					all = append(all, d)
				}
				for i, d := range all {
					if i != 7 {
						require.Equal(t, OutcomeProcessed, <-d.settled)
					}
				}
				elapse(time.Minute)
				require.Empty(t, all[7].settled)
				require.NoError(t, c.Stats().StoreError)
				store.setDecide(nil)
				require.Equal(t, OutcomeProcessed, <-all[7].settled)
			})
		})
	}
}

// A store that answers too few keys has settled none of them.
func TestStoreThatBreaksItsContract(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, errAnswers("claim", 3, 2), "2 of 3")
	require.False(t, isRefusal(errors.New("unheard of")))
	require.True(t, isRefusal(&persist.Error{Op: "claim", Kind: persist.ErrInvalid}))
}
