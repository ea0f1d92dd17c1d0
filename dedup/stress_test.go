package dedup

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dice is a number below n.
func dice(n int) int {
	return rand.IntN(n)
}

// tossed is a delivery that is completed or given back at random, by another
// goroutine than the one that granted it, and taken back at random before that.
type tossed struct {
	Node
	granted  atomic.Int32
	settled  atomic.Int32
	answered atomic.Bool
	handlers chan<- *tossed
	done     *sync.WaitGroup
}

func (d *tossed) Granted(Grant) {
	d.granted.Add(1)
	d.handlers <- d
}

func (d *tossed) Settled(Outcome) {
	d.settled.Add(1)
	d.done.Done()
}

// Deliveries of few keys, submitted, completed and given back from all sides
// while the store fails now and then: each is settled exactly once, none is
// granted twice, and the counters add up.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	store := newFaulty(newStore(t))
	store.setDecide(func(string, []string) fault {
		return [...]fault{faultFail, faultApplied, faultUnknown, faultNone}[min(dice(200), 3)]
	})
	store.owners = newOwners()
	cfg := testConfig(store)
	cfg.Window, cfg.ClockSkew = time.Second, time.Millisecond // so that keys come back
	cfg.MaxBatch = 7
	c := start(t, cfg)

	const submitters, each = 8, 400
	handlers := make(chan *tossed, submitters*each)
	var workers, done sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for d := range handlers {
				if ctx, cancel := (Grant{consumer: c, n: &d.Node, turn: 1}).Context(context.Background()); ctx != nil {
					cancel()
				}
				if d.answered.Swap(true) {
					continue // taken back before it was granted
				}
				switch dice(10) {
				case 0:
					c.Release(d)
				case 1:
					c.Complete(d, letterFor("tossed"))
				default:
					c.Complete(d, nil)
				}
			}
		})
	}
	done.Add(submitters * each)
	var all sync.Map
	var submitting sync.WaitGroup
	for s := range submitters {
		submitting.Go(func() {
			for i := range each {
				d := &tossed{handlers: handlers, done: &done}
				all.Store([2]int{s, i}, d)
				name := key(dice(50))
				if dice(20) == 0 {
					name = ""
				}
				if err := c.Submit(d, name, time.Time{}); err != nil {
					t.Error(err)
				}
				if dice(10) == 0 && !d.answered.Swap(true) {
					c.Release(d)
				}
				if dice(100) == 0 {
					c.Stats()
				}
			}
		})
	}
	submitting.Wait()
	done.Wait()
	close(handlers)
	workers.Wait()
	all.Range(func(_, v any) bool {
		d := v.(*tossed)
		require.LessOrEqual(t, d.granted.Load(), int32(1))
		require.Equal(t, int32(1), d.settled.Load())
		return true
	})
	s := c.Stats()
	require.Zero(t, s.Open)
	require.Equal(t, int64(submitters*each), s.Received)
	c.mu.Lock()
	defer c.mu.Unlock()
	require.Empty(t, c.keys)
	require.Zero(t, c.leases.len+c.queue.len+c.completions.len+c.letters.len+c.releases.len+c.held.len()+c.unkeyedOpen)
}

// What queues up while a call runs goes into the next one, up to MaxBatch.
func TestBatchesFillUnderLoad(t *testing.T) {
	t.Parallel()
	store := newFaulty(newStore(t))
	running, goOn := make(chan string), make(chan struct{})
	store.setDecide(func(op string, _ []string) fault {
		if op == "claim" || op == "complete" {
			running <- op
			<-goOn
		}
		return faultNone
	})
	cfg := testConfig(store)
	cfg.Lease = time.Hour
	cfg.MaxBatch = 10
	c := start(t, cfg)
	first := submit(t, c, "first")
	require.Equal(t, "claim", <-running)
	var rest []*inbound
	for i := range 25 {
		rest = append(rest, submit(t, c, key(i)))
	}
	goOn <- struct{}{}
	first.grant(t)
	for range 3 {
		require.Equal(t, "claim", <-running)
		goOn <- struct{}{}
	}
	c.Complete(first, nil)
	require.Equal(t, "complete", <-running)
	for _, d := range rest {
		d.grant(t)
		c.Complete(d, nil)
	}
	goOn <- struct{}{}
	for range 3 {
		require.Equal(t, "complete", <-running)
		goOn <- struct{}{}
	}
	for _, d := range append(rest, first) {
		require.Equal(t, OutcomeProcessed, d.outcome(t))
	}
	store.mu.Lock()
	defer store.mu.Unlock()
	require.Equal(t, []int{1, 10, 10, 5}, store.sizes["claim"])
	require.Equal(t, []int{1, 10, 10, 5}, store.sizes["complete"])
}
