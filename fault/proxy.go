package fault

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/oncemq/oncemq/internal/loopback"
)

// Direction is one of the two streams of a connection.
type Direction int

const (
	// ToServer is what the client sends.
	ToServer Direction = iota
	// ToClient is what the server sends.
	ToClient
)

// How is the way in which a connection is cut.
type How int

const (
	// RST closes both sides by reset: what was not delivered is lost.
	RST How = iota
	// FIN ends both streams after what was delivered, as a server that shuts
	// down does; what still comes in is thrown away.
	FIN
)

// Proxy forwards TCP connections to a server. Its methods are safe for
// concurrent use.
type Proxy struct {
	addr string

	mu       sync.Mutex
	target   string
	tls      *tls.Config                                 // to the server; nil for none
	own      func(ctx context.Context) (net.Conn, error) // see UseDial; nil for target
	ln       *net.TCPListener                            // nil while refusing or closed
	conns    map[*conn]struct{}
	faults   faults
	changed  chan struct{} // closed and replaced when faults change
	accepted int
	// inspector is for connections that are made from now on; nil for none.
	inspector Inspector
	closed    bool

	goroutines sync.WaitGroup
}

// faults are the settings that connections obey.
type faults struct {
	hole     bool
	stream   [2]streamFaults
	lifetime struct{ least, most time.Duration }
	rng      *rand.Rand
}

// streamFaults are those of one direction.
type streamFaults struct {
	stopped   bool
	latency   time.Duration
	bandwidth int // bytes a second; 0: unlimited
	slice     int // bytes a write; 0: unlimited
	loss      float64
	timeout   time.Duration // of the first retransmission
	rng       *rand.Rand    // of loss
	cut       *cutPlan
}

// cutPlan is a cut that waits for the first connection to reach it.
type cutPlan struct {
	after int64
	how   How
}

// New starts a proxy on a loopback port in front of a server ("host:port");
// Close ends it.
func New(target string) (*Proxy, error) {
	ln, err := loopback.Listen(context.Background())
	if err != nil {
		return nil, fmt.Errorf("fault proxy: %w", err)
	}
	p := &Proxy{
		addr:    ln.Addr().String(),
		target:  target,
		ln:      ln,
		conns:   map[*conn]struct{}{},
		changed: make(chan struct{}),
	}
	p.goroutines.Go(func() { p.accept(ln) })
	return p, nil
}

// TB is what Start needs of a test or benchmark: *testing.T, *testing.B and
// *testing.F have it.
type TB interface {
	Helper()
	Cleanup(end func())
	Fatal(args ...any)
}

// Start is New for a test, which closes the proxy at its end.
func Start(tb TB, target string) *Proxy {
	tb.Helper()
	p, err := New(target)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

// Addr is the host and port that clients connect to.
func (p *Proxy) Addr() string { return p.addr }

// URL is the address with the scheme mqtt.
func (p *Proxy) URL() string { return "mqtt://" + p.addr }

// ParsedURL is URL, for clients that want it parsed.
func (p *Proxy) ParsedURL() *url.URL { return &url.URL{Scheme: "mqtt", Host: p.addr} }

// SetTarget changes the server, for later connections.
func (p *Proxy) SetTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Accepted is how many connections clients have made so far.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

// Open is how many connections there are now, those in a black hole included.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

// Close cuts all connections (RST), refuses further ones, and returns when no
// goroutine of the proxy is left. It is idempotent.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.stopListening()
	p.mu.Unlock()
	p.CutAll(RST)
	p.goroutines.Wait()
}

// stopListening closes the listener; p.mu is held.
func (p *Proxy) stopListening() {
	if p.ln != nil {
		_ = p.ln.Close()
		p.ln = nil
	}
}

// Refuse makes the proxy's port refuse connections, or take them again. Open
// connections stay. The error is that of listening again.
func (p *Proxy) Refuse(refuse bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return errors.New("fault proxy: closed")
	case refuse:
		p.stopListening()
		return nil
	case p.ln != nil:
		return nil
	}
	ln, err := loopback.ListenOn(context.Background(), p.addr)
	if err != nil {
		return fmt.Errorf("fault proxy: %w", err)
	}
	p.ln = ln
	p.goroutines.Go(func() { p.accept(ln) })
	return nil
}

// CutAll cuts all open connections. Clients can connect again at once.
func (p *Proxy) CutAll(how How) {
	for _, c := range p.all() {
		c.cut(how)
	}
}

// CutNewest cuts the connection that was made last, if there is one.
func (p *Proxy) CutNewest(how How) {
	var newest *conn
	for _, c := range p.all() {
		if newest == nil || c.index > newest.index {
			newest = c
		}
	}
	if newest != nil {
		newest.cut(how)
	}
}

// CutAfter cuts the first connection that passes n bytes, 0 or more, in a direction:
// these bytes are delivered, later ones not. It then has done its work. Each
// connection counts from this call, or from its start if that is later. A new
// call for the direction replaces the one before.
func (p *Proxy) CutAfter(d Direction, n int64, how How) {
	p.change(func(f *faults) {
		f.stream[d].cut = &cutPlan{after: max(n, 0), how: how}
		for c := range p.conns {
			c.passed[d] = 0
		}
	})
}

// BlackHole makes the other side vanish without a word. Connections that are
// open, and those that are made while it is on, are dead for good: what either
// side sends, its end included, is thrown away, and neither is told. It ends
// for connections made after BlackHole(false).
func (p *Proxy) BlackHole(on bool) {
	p.change(func(f *faults) {
		f.hole = on
		for c := range p.conns {
			if on {
				c.swallow.Store(true)
			}
		}
	})
}

// StopReading stops reading in a direction, so that the sender's writes block
// once the buffers between are full; false goes on where it stopped.
func (p *Proxy) StopReading(d Direction, stop bool) {
	p.change(func(f *faults) { f.stream[d].stopped = stop })
}

// Latency delays everything in a direction by so much.
func (p *Proxy) Latency(d Direction, delay time.Duration) {
	p.change(func(f *faults) { f.stream[d].latency = delay })
}

// Bandwidth limits each connection, in a direction, to so many bytes a second;
// 0 means no limit.
func (p *Proxy) Bandwidth(d Direction, bytesPerSecond int) {
	p.change(func(f *faults) { f.stream[d].bandwidth = bytesPerSecond })
}

// Slice passes on at most n bytes in one write, so that packets arrive in
// pieces; 0 means no limit.
func (p *Proxy) Slice(d Direction, n int) {
	p.change(func(f *faults) { f.stream[d].slice = n })
}

// segment is how many bytes of a stream are lost at once, under [Proxy.Loss].
const segment = 1460

// Loss has a share of the segments of each connection lost in a direction, 0 to
// under 1, by random numbers that start from the seed; 0 means none. Nothing is
// missing in a TCP stream for that: what is lost comes again after timeout, after
// twice that if it is lost again, and so on (RFC 6298), and all that was sent later
// waits behind it. Linux waits 200 ms at least for the first time. That is the worst
// case, of a sender with nothing more to send: it learns of a loss by time alone.
func (p *Proxy) Loss(d Direction, share float64, timeout time.Duration, seed uint64) {
	p.change(func(f *faults) {
		s := &f.stream[d]
		s.loss, s.timeout = min(max(share, 0), 0.99), timeout
		s.rng = rand.New(rand.NewPCG(seed, uint64(d))) //nolint:gosec // faults that can be repeated.
	})
}

// lostFor is how long the next segment takes longer because it is lost, however
// often.
func (p *Proxy) lostFor(d Direction) (stall time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := &p.faults.stream[d]
	const most = 10 // times in a row
	for wait, n := s.timeout, 0; n < most && s.loss > 0 && s.rng.Float64() < s.loss; n++ {
		stall += wait
		wait *= 2
	}
	return stall
}

// Lifetime cuts each later connection (RST) after a time drawn from the range,
// by random numbers that start from the seed; most is at least least. Zero for both
// ends it.
func (p *Proxy) Lifetime(least, most time.Duration, seed uint64) {
	p.change(func(f *faults) {
		f.lifetime.least, f.lifetime.most = max(least, 0), max(least, most, 0)
		f.rng = rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // faults that can be repeated.
	})
}

// Clear ends all faults, other than Refuse. Connections that are dead stay
// dead.
func (p *Proxy) Clear() {
	p.change(func(f *faults) { *f = faults{} })
}

func (p *Proxy) change(set func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	set(&p.faults)
	close(p.changed)
	p.changed = make(chan struct{})
}

// stream returns the faults of a direction, and what is closed when they
// change.
func (p *Proxy) stream(d Direction) (streamFaults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults.stream[d], p.changed
}

func (p *Proxy) all() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		conns = append(conns, c)
	}
	return conns
}

func (p *Proxy) accept(ln *net.TCPListener) {
	for {
		client, err := ln.AcceptTCP()
		if err != nil {
			return
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			_ = client.Close()
			return
		}
		p.accepted++
		c := newConn(p, client, p.accepted)
		c.swallow.Store(p.faults.hole)
		c.inspector = p.inspector
		p.conns[c] = struct{}{}
		var life time.Duration
		if l := p.faults.lifetime; l.most > 0 {
			life = l.least + time.Duration(p.faults.rng.Int64N(int64(l.most-l.least)+1))
		}
		p.goroutines.Go(func() { c.run(life) })
		p.mu.Unlock()
	}
}

func (p *Proxy) remove(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// pass counts n bytes that are about to be forwarded. It returns how many of
// them may be, and the cut that follows, if one does.
func (p *Proxy) pass(c *conn, d Direction, n int) (int, *cutPlan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	plan := p.faults.stream[d].cut
	if plan != nil && c.passed[d]+int64(n) >= plan.after {
		n = int(plan.after - c.passed[d])
		p.faults.stream[d].cut = nil
	} else {
		plan = nil
	}
	c.passed[d] += int64(n)
	return n, plan
}
