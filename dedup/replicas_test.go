package dedup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

// Three replicas share the work of one group. Every message is sent twice,
// calls of the store fail now and then, and replicas die in the middle and come
// back. No message is lost; none is acknowledged before its mark is durable; no
// two live replicas work on a key at once; and only what was in work at a death
// has an effect twice.
func TestReplicasDieAtRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { replicasDie(t, seed) })
		})
	}
}

// cluster is the broker of the test, and its notebook.
type cluster struct {
	t     *testing.T
	store *memory.Store
	// owners is nil in half of the runs: stores that do not tell whose a busy
	// key is.
	owners *owners

	mu       sync.Mutex
	rand     *rand.Rand
	waiting  []int // deliveries that no replica has, by message
	acked    int
	effects  map[int]int      // by message
	deaths   map[int]int      // by message: how often its holder died
	workers  map[int]*replica // by message: the live replica that works on it
	replicas []*replica
}

type replica struct {
	cluster  *cluster
	consumer *Consumer
	store    *faulty
	dead     bool // guarded by cluster.mu
	open     map[*parcel]struct{}
}

// parcel is one delivery to one replica.
type parcel struct {
	Node
	to      *replica
	message int
}

const (
	messages    = 300
	outstanding = 20
)

func replicasDie(t *testing.T, seed uint64) {
	t.Helper()
	cl := &cluster{
		t: t, store: memory.New(memory.Options{}),
		rand:    rand.New(rand.NewPCG(seed, 1)),
		effects: map[int]int{}, deaths: map[int]int{}, workers: map[int]*replica{},
	}
	if seed%2 == 0 {
		cl.owners = newOwners()
	}
	for m := range messages {
		cl.waiting = append(cl.waiting, m, m)
	}
	cl.rand.Shuffle(len(cl.waiting), func(i, j int) {
		cl.waiting[i], cl.waiting[j] = cl.waiting[j], cl.waiting[i]
	})
	for range 3 {
		cl.replicas = append(cl.replicas, cl.newReplica())
	}
	deaths := 0
	for step := 0; !cl.finished(); step++ {
		require.Less(t, step, 100_000, "no end")
		cl.deliver()
		if step%40 == 39 && deaths < 12 {
			deaths++
			victim := cl.roll(len(cl.replicas))
			cl.kill(cl.replicas[victim])
			cl.replicas[victim] = cl.newReplica()
		}
		elapse(20 * time.Millisecond)
	}
	for _, r := range cl.replicas {
		require.NoError(t, r.consumer.Close(context.Background()))
	}
	elapse(time.Minute) // handlers of dead replicas end
	cl.mu.Lock()
	defer cl.mu.Unlock()
	require.Equal(t, 2*messages, cl.acked)
	doubled := 0
	for m := range messages {
		require.GreaterOrEqual(t, cl.effects[m], 1, "message %d is lost", m)
		require.LessOrEqual(t, cl.effects[m], 1+cl.deaths[m], "message %d", m)
		doubled += cl.effects[m] - 1
	}
	t.Logf("%d deaths, %d effects too many", deaths, doubled)
}

func (cl *cluster) newReplica() *replica {
	r := &replica{cluster: cl, store: newFaulty(cl.store), open: map[*parcel]struct{}{}}
	r.store.owners = cl.owners
	r.store.decide = func(string, []string) fault {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		if r.dead {
			return faultFail
		}
		return [...]fault{faultFail, faultApplied, faultUnknown, faultNone}[min(cl.rand.IntN(60), 3)]
	}
	var err error
	r.consumer, err = New(testConfig(r.store))
	require.NoError(cl.t, err)
	return r
}

func (cl *cluster) roll(n int) int {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.rand.IntN(n)
}

func (cl *cluster) finished() bool {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return cl.acked == 2*messages
}

// deliver fills the windows of the replicas.
func (cl *cluster) deliver() {
	var out []*parcel
	cl.mu.Lock()
	for _, r := range cl.replicas {
		for len(r.open) < outstanding && len(cl.waiting) > 0 {
			p := &parcel{to: r, message: cl.waiting[0]}
			cl.waiting = cl.waiting[1:]
			r.open[p] = struct{}{}
			out = append(out, p)
		}
	}
	cl.mu.Unlock()
	for _, p := range out {
		require.NoError(cl.t, p.to.consumer.Submit(p, key(p.message), time.Time{}))
	}
}

// kill ends a replica. Its handlers go on as zombies, and what it did not
// acknowledge is delivered to others.
func (cl *cluster) kill(r *replica) {
	cl.mu.Lock()
	r.dead = true
	for p := range r.open {
		cl.waiting = append(cl.waiting, p.message)
		if cl.workers[p.message] == r {
			delete(cl.workers, p.message)
			cl.deaths[p.message]++
		}
	}
	r.open = nil
	cl.mu.Unlock()
	kill(cl.t, r.consumer)
}

func (p *parcel) Granted(g Grant) {
	cl := p.to.cluster
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if p.to.dead {
		return
	}
	require.Nil(cl.t, cl.workers[p.message], "two live replicas work on message %d", p.message)
	cl.workers[p.message] = p.to
	takes := time.Duration(cl.rand.Int64N(int64(300 * time.Millisecond)))
	if cl.rand.IntN(20) == 0 {
		takes *= 30 // several leases
	}
	fails := cl.rand.IntN(20) == 0
	go p.handle(takes, fails)
}

func (p *parcel) handle(takes time.Duration, fails bool) {
	cl := p.to.cluster
	elapse(takes)
	cl.mu.Lock()
	if !fails {
		cl.effects[p.message]++
	}
	// A claim that is being given back or completed may be another's as soon as
	// the store has it, before we hear of it.
	if fails && !p.to.dead {
		delete(cl.workers, p.message)
	}
	cl.mu.Unlock()
	if fails {
		p.to.consumer.Release(p)
	} else {
		p.to.consumer.Complete(p, nil)
	}
}

func (p *parcel) Settled(o Outcome) {
	cl := p.to.cluster
	if o.Acknowledge() {
		claims, err := cl.store.Claim(context.Background(), persist.ClaimRequest{
			Group: "workers", Owner: "test", TTL: time.Minute, Keys: []string{key(p.message)},
		})
		require.NoError(cl.t, err)
		require.Equal(cl.t, persist.ClaimCompleted, claims[0].State, "acknowledged before the mark")
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if o == OutcomeProcessed && cl.workers[p.message] == p.to {
		delete(cl.workers, p.message)
	}
	if p.to.dead {
		return // the packet never leaves
	}
	delete(p.to.open, p)
	if o.Acknowledge() {
		cl.acked++
	} else {
		cl.waiting = append(cl.waiting, p.message)
	}
}
