package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/history"
	"github.com/oncemq/oncemq/internal/testenv"
)

// backend is the store of a run.
type backend struct {
	name     string
	url      string
	modes    []string // of the subscribers, one each
	unshared bool
	once     bool // effects and marks commit together
	orders   []string
	kinds    []faultKind // faults of this store
	weight   int         // its share of the messages of a run, in per cent
	// effects and balances read the tables; nil in leased mode.
	effects  func() ([]history.Op, error)
	count    func(ctx context.Context) (int, error)
	balances func() ([]history.Op, error)
}

// run is one run on one store.
type run struct {
	t    *testing.T
	ctx  context.Context
	b    *backend
	opts options

	lease   time.Duration
	broker  *testenv.MosquittoServer
	proxies []*fault.MQTT // the relays', the subscribers'
	taps    []*tap
	watcher *watcher
	members []*member
	dir     string
	log     *history.Log
	counted atomic.Int64 // effects in the table

	mu      sync.Mutex // guards the following
	checker *history.Checker
	began   time.Time
}

const accounts = 20

// record adds to the record.
func (r *run) record(op history.Op) {
	op.At = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log.Add(op)
	r.checker.Add(op)
}

// accepted is how many messages were stored for certain.
func (r *run) accepted() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checker.Accepted()
}

// arrived is how many messages have reached the broker.
func (r *run) arrived() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checker.Arrived()
}

// settled is how many messages have had their effect, as far as that is known: a
// little late where it stands in a table.
func (r *run) settled() int {
	if r.b.effects != nil {
		return int(r.counted.Load())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checker.Settled()
}

// count looks at the table of effects now and then.
func (r *run) count(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil {
		if n, err := r.b.count(ctx); err == nil {
			r.counted.Store(int64(n))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// of are the members of a role.
func (r *run) of(role string) []*member {
	var of []*member
	for _, m := range r.members {
		if m.set.Role == role {
			of = append(of, m)
		}
	}
	return of
}

// said takes a line of a subscriber in leased mode.
func (r *run) said(m *member, line string) {
	var kind, id string
	var fence int64
	if _, err := fmt.Sscan(line, &kind, &id, &fence); err != nil {
		r.t.Errorf("%s says %q", m.set.ID, line)
		return
	}
	v, err := history.ParseID(id)
	if err != nil {
		r.t.Errorf("%s says %q", m.set.ID, line)
		return
	}
	if history.Kind(kind) == history.Mark {
		r.taps[1].processed(m.set.ID, v)
	}
	r.record(history.Op{Type: history.OK, Kind: history.Kind(kind), Values: []history.Value{v}, Pod: m.set.ID, Fence: fence})
}

// pause lets time pass, and starts again what has ended by itself. Nothing is
// synchronised by it.
func (r *run) pause(d time.Duration) {
	r.t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, m := range r.members {
			m.supervise()
		}
		select {
		case <-timer.C:
			return
		case <-tick.C:
		}
	}
}

// begin sets everything up and waits until the subscribers are ready.
func begin(t *testing.T, b *backend, opts options) *run {
	t.Helper()
	if opts.lease == 0 {
		opts.lease = 1500 * time.Millisecond
	}
	r := &run{
		t: t, ctx: t.Context(), b: b, opts: opts, lease: opts.lease,
	}
	var err error
	r.dir, err = os.MkdirTemp("", "oncemq-chaos-") //nolint:usetesting // it outlives a test that fails.
	require.NoError(t, err)
	r.log, err = history.Create(filepath.Join(r.dir, "history.jsonl"))
	require.NoError(t, err)
	t.Cleanup(r.keep)
	o := history.Options{Once: b.once}
	if b.balances != nil {
		o.Accounts = accounts
	}
	r.checker = history.New(o)
	r.record(history.Op{Type: history.Info, Kind: history.Note, Text: fmt.Sprintf("%s, seed %d", b.name, opts.seed)})

	mosquitto := testenv.MosquittoOptions{Extra: []string{"max_queued_messages 0"}}
	if opts.deny != "" {
		mosquitto.ACL = []string{"topic readwrite #", "topic deny " + opts.deny}
	}
	r.broker = testenv.Mosquitto(t, mosquitto)
	r.watcher = watch(t, r.broker.Addr(), r.record, r.arrived, opts.receipts)
	for range 2 {
		p := fault.StartMQTT(t, r.broker.Addr())
		tp := newTap(r.record)
		p.Inspect(tp)
		r.proxies, r.taps = append(r.proxies, p), append(r.taps, tp)
	}
	binary := testenv.BuildTags(t, "./internal/chaos/worker", opts.tags)
	add := func(s settings) {
		s.Store, s.LeaseMS, s.Accounts, s.HandlerMS = b.url, int(r.lease/time.Millisecond), accounts, opts.handler
		s.Unshared, s.QoS, s.ReceiptTimeoutMS, s.Receipts = b.unshared, opts.qos, 3000, opts.receipts
		s.env = opts.env[s.Role]
		r.members = append(r.members, newMember(t, binary, s, r.said))
	}
	for i, mode := range b.modes {
		add(settings{Role: "subscriber", ID: fmt.Sprintf("subscriber-%d", i), Broker: r.proxies[1].URL(), Mode: mode})
	}
	for _, m := range r.members {
		m.await(30 * time.Second) // nobody is to miss a message
	}
	relays := 2
	if opts.relays != 0 {
		relays = opts.relays
	}
	for i := range relays {
		add(settings{Role: "relay", ID: fmt.Sprintf("relay-%d", i), Broker: r.proxies[0].URL()})
	}
	for i := range 2 {
		add(settings{Role: "producer", ID: fmt.Sprintf("producer-%d", i), Broker: r.proxies[0].URL(), Producer: i})
	}
	r.began = time.Now()
	return r
}

// keep ends the log, and keeps it with what the processes said if the test has
// failed.
func (r *run) keep() {
	if err := r.log.Close(); err != nil {
		r.t.Error(err)
	}
	if !r.t.Failed() {
		_ = os.RemoveAll(r.dir)
		return
	}
	for _, m := range r.members {
		m.keep(r.dir)
	}
	text := fmt.Sprintf("%s\nseed %d\n", r.b.name, r.opts.seed)
	if err := os.WriteFile(filepath.Join(r.dir, "seed"), []byte(text), 0o600); err != nil {
		r.t.Error(err)
	}
	r.t.Logf("kept in %s: history.jsonl, seed, and what the processes said", r.dir)
}

// chaos has messages sent while the nemesis is at work, lets all come to an end,
// and returns what the record shows.
func (r *run) chaos() *history.Report {
	r.t.Helper()
	random := rand.New(rand.NewPCG(r.opts.seed, 1))
	n := &nemesis{run: r, random: random}
	ctx, stop := context.WithCancel(r.ctx)
	defer stop()
	var accepted atomic.Int64
	var feeders sync.WaitGroup
	var all []*feeder
	for i, m := range r.of("producer") {
		f := &feeder{
			t: r.t, member: m, record: r.record, random: rand.New(rand.NewPCG(r.opts.seed, uint64(100+i))),
			settled: r.settled, pace: r.opts.pace, modes: r.b.orders, accepted: &accepted, receipt: r.opts.receipts,
			most: r.opts.most,
		}
		all = append(all, f)
		feeders.Go(func() { f.run(ctx) })
	}
	if r.b.effects != nil {
		feeders.Go(func() { r.count(ctx) })
	}
	kinds := slices.Clone(r.opts.kinds)
	if r.opts.all {
		kinds = append(kinds, r.b.kinds...)
	}
	faults := 0
	for faults < r.opts.faults || int(accepted.Load()) < r.opts.messages || time.Since(r.began) < r.opts.duration {
		count := max(r.opts.faults-faults, 4)
		if len(kinds) == 0 || r.opts.faults == 0 {
			r.pause(50 * time.Millisecond)
			continue
		}
		steps := plan(random, kinds, count)
		if r.opts.singly {
			steps = singles(random, kinds)
		}
		for _, s := range steps {
			if faults >= r.opts.faults && int(accepted.Load()) >= r.opts.messages && time.Since(r.began) >= r.opts.duration {
				break
			}
			n.strike(s)
			faults += len(s)
			r.pause(between(random, 100*time.Millisecond, 600*time.Millisecond))
		}
	}
	stop()
	done := make(chan struct{})
	go func() {
		feeders.Wait()
		close(done)
	}()
	for waiting := true; waiting; {
		r.pause(10 * time.Millisecond)
		select {
		case <-done:
			waiting = false
		default:
		}
	}
	for _, p := range r.proxies {
		p.Clear()
	}
	r.drain()
	for _, f := range all {
		if f.failed != "" {
			r.t.Logf("%s said last: %s", f.member.set.ID, f.failed)
		}
	}
	return r.report()
}
