package session

import (
	"context"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what should happen at once.
const patience = 10 * time.Second

// peer is a link under test with the books that its owner would keep: what it
// was handed, how each of it ended, and what it received.
type peer struct {
	t    *testing.T
	link *Link

	mu        sync.Mutex // guards the following
	changed   chan struct{}
	queue     []*Outgoing // not taken yet
	given     []*Outgoing // all that were ever queued
	taken     []*Outgoing
	ended     map[*Outgoing][]Completion
	order     []*Outgoing // in which they ended
	got       []*Delivery
	ups       []Snapshot
	downs     []error
	failures  []error
	onReceive func(*Delivery)
}

// testConfig is a configuration that suits most tests.
func testConfig(server string) Config {
	u, err := url.Parse(server)
	if err != nil {
		panic(err)
	}
	return Config{
		Servers: []*url.URL{u}, ClientID: "client", KeepAlive: 30 * time.Second, SessionExpiry: 3600,
		ConnectTimeout: patience, PacketTimeout: patience, AckTimeout: time.Minute,
		Logger: slog.New(slog.DiscardHandler), backoff: 5 * time.Millisecond,
		Engine: EngineConfig{
			Window: 100, WindowBytes: 8 << 20, ReceiveMaximum: 20, MaximumPacketSize: 1 << 20,
			WriteTimeout: patience, firstQuiet: 20 * time.Millisecond,
		},
	}
}

// start begins a link with testConfig, changed by adjust, which ends with the
// test.
func start(t *testing.T, server string, adjust ...func(*Config)) *peer {
	t.Helper()
	p := &peer{t: t, changed: make(chan struct{}), ended: make(map[*Outgoing][]Completion)}
	cfg := testConfig(server)
	cfg.Engine.Source, cfg.Engine.Completed, cfg.Engine.Received = p, p.completed, p.received
	cfg.OnUp = func(s Snapshot) { p.note(func() { p.ups = append(p.ups, s) }) }
	cfg.OnDown = func(err error) { p.note(func() { p.downs = append(p.downs, err) }) }
	cfg.OnError = func(err error) { p.note(func() { p.failures = append(p.failures, err) }) }
	for _, f := range adjust {
		f(&cfg)
	}
	l, err := Start(cfg)
	require.NoError(t, err)
	p.link = l
	t.Cleanup(p.close)
	return p
}

// close ends the link. The scripted broker is still there and does not close its
// side: without Drop each test would wait for it.
func (p *peer) close() {
	p.link.Drop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.link.Close(ctx) // it ends in any case
}

// note changes the books and wakes who waits.
func (p *peer) note(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Take is the engine's source.
func (p *peer) Take(dst []*Outgoing, limit int) []*Outgoing {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(limit, len(p.queue))
	p.taken = append(p.taken, p.queue[:n]...)
	dst = append(dst, p.queue[:n]...)
	p.queue = p.queue[n:]
	if n > 0 {
		close(p.changed)
		p.changed = make(chan struct{})
	}
	return dst
}

func (p *peer) completed(done []Completion) {
	p.note(func() {
		for _, c := range done {
			p.ended[c.Out] = append(p.ended[c.Out], c)
			p.order = append(p.order, c.Out)
		}
	})
}

func (p *peer) received(batch []*Delivery) {
	p.mu.Lock()
	f := p.onReceive
	p.mu.Unlock()
	if f != nil {
		for _, d := range batch {
			f(d)
		}
	}
	p.note(func() { p.got = append(p.got, batch...) })
}

// wait returns once cond holds; it is called with the books locked.
func (p *peer) wait(what string, cond func() bool) {
	p.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		ok, changed := cond(), p.changed
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			p.mu.Lock()
			defer p.mu.Unlock()
			require.FailNow(p.t, "waited in vain for "+what, "%d of %d taken, %d ended, %d received, downs %v, failures %v",
				len(p.taken), len(p.given), len(p.order), len(p.got), p.downs, p.failures)
		}
	}
}

// send queues messages.
func (p *peer) send(ms ...*persist.Message) []*Outgoing {
	all := make([]*Outgoing, len(ms))
	for i, m := range ms {
		all[i] = &Outgoing{Message: m}
		if m.Expiry > 0 {
			all[i].ExpiresAt = time.Now().Add(m.Expiry)
		}
	}
	p.mu.Lock()
	p.queue = append(p.queue, all...)
	p.given = append(p.given, all...)
	p.mu.Unlock()
	p.link.Engine().Wake()
	return all
}

// message makes one with a payload that names it.
func message(topic string, level byte, payload string) *persist.Message {
	return &persist.Message{ID: "id-" + payload, Topic: topic, QoS: level, Payload: []byte(payload)}
}

// messages makes n with the payloads "from", "from+1" and so on.
func messages(level byte, from, n int) []*persist.Message {
	all := make([]*persist.Message, n)
	for i := range all {
		all[i] = message("t", level, strconv.Itoa(from+i))
	}
	return all
}

// end waits until o has ended, and returns how.
func (p *peer) end(o *Outgoing) Completion {
	p.t.Helper()
	p.wait("a completion", func() bool { return len(p.ended[o]) > 0 })
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Len(p.t, p.ended[o], 1, "a message ends once")
	return p.ended[o][0]
}

// allEnd waits until all have ended well.
func (p *peer) allEnd(all []*Outgoing) {
	p.t.Helper()
	for _, o := range all {
		c := p.end(o)
		require.Equal(p.t, qos.Success, c.Class, "%s: 0x%02X %s", o.Message.Payload, c.Code, c.Reason)
	}
}

// open tells whether o has not ended.
func (p *peer) open(o *Outgoing) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ended[o]) == 0
}

// delivery waits for the n-th delivery, counted from zero.
func (p *peer) delivery(n int) *Delivery {
	p.t.Helper()
	p.wait("a delivery", func() bool { return len(p.got) > n })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got[n]
}

// down waits for the n-th end of a connection, counted from zero.
func (p *peer) down(n int) error {
	p.t.Helper()
	p.wait("the end of a connection", func() bool { return len(p.downs) > n })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.downs[n]
}

// failure waits for the n-th failed attempt, counted from zero.
func (p *peer) failure(n int) error {
	p.t.Helper()
	p.wait("a failed attempt", func() bool { return len(p.failures) > n })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failures[n]
}

// up waits for the n-th connection, counted from zero.
func (p *peer) up(n int) Snapshot {
	p.t.Helper()
	p.wait("a connection", func() bool { return len(p.ups) > n })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ups[n]
}

// done waits until the link has ended by itself.
func (p *peer) done() error {
	p.t.Helper()
	select {
	case <-p.link.Done():
	case <-time.After(patience):
		require.FailNow(p.t, "the link goes on")
	}
	return p.link.Err()
}

// within bounds a wait.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// balance checks the books after Close: each message that was taken ended once,
// or is withdrawn once.
func (p *peer) balance() {
	p.t.Helper()
	back := p.link.Engine().Withdraw()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range p.taken {
		n := len(p.ended[o])
		if slices.Contains(back, o) {
			n++
		}
		require.Equal(p.t, 1, n, "message %s is on the books so often", o.Message.Payload)
	}
	require.Empty(p.t, p.link.Engine().Withdraw(), "what was withdrawn is gone")
}

// flushed is a broker's script that needs an answer of the client, which shows
// that it has read everything before: the client has no way to tell otherwise.
func flushed(c *brokertest.Conn) {
	c.SendPubrel(64999, 0) // not in use, so that the answer is 0x92
	c.ExpectPubcomp(brokertest.HasID(64999), brokertest.HasCode(0x92))
}
