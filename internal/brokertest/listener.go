package brokertest

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"
)

// DefaultTimeout is how long a helper waits for a packet, a connection or room
// in the socket before it fails the test. It is long, because it is only
// spent by a test that fails.
const DefaultTimeout = 10 * time.Second

// Listener accepts the connections of the client under test on a loopback
// port.
type Listener struct {
	t        TB
	ln       *net.TCPListener
	tls      *tls.Config
	recorder recorder
	timeout  time.Duration

	mu    sync.Mutex
	conns []*Conn

	scripts sync.WaitGroup
}

// Listen starts a listener. When the test ends it and all its connections are
// closed, and its scripts are waited for.
func Listen(tb TB) *Listener {
	tb.Helper()
	return ListenTLS(tb, nil)
}

// ListenTLS is Listen with TLS; a failed handshake shows as the error of the
// first read. A nil config means plain TCP.
func ListenTLS(tb TB, config *tls.Config) *Listener {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("brokertest: listen: %v", err)
	}
	l := &Listener{t: tb, ln: ln.(*net.TCPListener), tls: config, timeout: DefaultTimeout}
	tb.Cleanup(func() {
		l.Close()
		for _, c := range l.all() {
			c.Close()
		}
		l.scripts.Wait()
		if tb.Failed() {
			tb.Logf("brokertest: packets of %s\n%s", l.Addr(), l.Log())
		}
	})
	return l
}

// Addr is the host and port that the listener has.
func (l *Listener) Addr() string { return l.ln.Addr().String() }

// URL is the listener's address with the scheme mqtt, or mqtts under TLS.
func (l *Listener) URL() string {
	if l.tls != nil {
		return "mqtts://" + l.Addr()
	}
	return "mqtt://" + l.Addr()
}

// ParsedURL is URL, for clients that want it parsed.
func (l *Listener) ParsedURL() *url.URL {
	u, err := url.Parse(l.URL())
	if err != nil {
		l.t.Fatalf("brokertest: %v", err)
	}
	return u
}

// SetTimeout changes how long the helpers wait (DefaultTimeout), for
// connections that are accepted later.
func (l *Listener) SetTimeout(d time.Duration) { l.timeout = d }

// Accept waits for the next connection of a client. It fails the test if none
// comes before ctx ends or the timeout has passed.
func (l *Listener) Accept(ctx context.Context) *Conn {
	l.t.Helper()
	c, err := l.accept(ctx)
	if err != nil {
		l.t.Fatalf("brokertest: no client connected: %v", err)
	}
	return c
}

// ExpectNoConnection fails the test if a client connects within d.
func (l *Listener) ExpectNoConnection(d time.Duration) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), d)
	defer cancel()
	if c, err := l.accept(ctx); err == nil {
		l.t.Fatalf("brokertest: a client connected (connection %d)", c.index)
	}
}

func (l *Listener) accept(ctx context.Context) (*Conn, error) {
	deadline := time.Now().Add(l.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := l.ln.SetDeadline(deadline); err != nil {
		return nil, err
	}
	defer wakeAt(ctx, l.ln.SetDeadline)()
	nc, err := l.ln.AcceptTCP()
	if err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := newConn(l.t, nc, &l.recorder, len(l.conns)+1, l.timeout)
	if l.tls != nil {
		c.setConn(tls.Server(nc, l.tls))
	}
	l.conns = append(l.conns, c)
	return c, nil
}

// Script runs fn with the next connection, in a goroutine of its own, for
// clients whose Connect blocks. The function that it returns waits for fn; the
// end of the test does so too. A helper that fails within fn fails the test,
// ends fn and closes the connection, so that the client notices.
func (l *Listener) Script(fn func(*Conn)) (wait func()) {
	done := make(chan struct{})
	l.scripts.Go(func() {
		defer close(done)
		c, err := l.accept(context.Background())
		if err != nil {
			l.t.Errorf("brokertest: script: no client connected: %v", err)
			return
		}
		fn(c)
	})
	return func() { <-done }
}

// Close stops listening: further connections are refused, the open ones stay.
func (l *Listener) Close() { _ = l.ln.Close() }

// Connections is how many connections were accepted so far.
func (l *Listener) Connections() int { return len(l.all()) }

// Log is what was sent and received so far, on all connections.
func (l *Listener) Log() Log { return l.recorder.log(0) }

func (l *Listener) all() []*Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Conn(nil), l.conns...)
}
