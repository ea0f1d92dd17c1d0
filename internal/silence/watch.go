// Package silence ends connections that have died without a word.
//
// If the way to a server is lost, or the server is replaced by another, nothing tells
// the client: each connection of its pool is found dead by somebody who waits in vain
// for an answer, one after another, long after the server's return. But when one is
// found, and the server was not heard on any other meanwhile, the others are most likely
// dead as well. A pool finds at once that a connection was closed, and makes a new one.
package silence

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// quiet is for how long a server has to be silent before its connections are ended:
// less than what is waited for at least, be it a ping.
const quiet = 750 * time.Millisecond

// Dial makes a connection, as [net.Dialer.DialContext] does.
type Dial = func(ctx context.Context, network, address string) (net.Conn, error)

// Watch watches the connections to some servers. The zero value is ready.
//
// When an answer is waited for in vain for three quarters of a second or more, until the
// deadline of the read, and nothing has come from that server since the question was
// sent, on any connection, then those on which nothing is waited for are closed, if they
// were last used before the question. Whoever waits for an answer on one sees no
// difference; who has one in use without that, as between two statements of a
// transaction, says so by [Hold]: the server may be well, and the question waits for what
// this transaction has locked.
type Watch struct {
	mu      sync.Mutex // guards servers
	servers map[string]*server
}

// server is what is known of an address.
type server struct {
	known time.Time    // since when
	heard atomic.Int64 // when something came from it last, by now

	mu    sync.Mutex // guards conns
	conns map[*conn]struct{}
}

// Dial is a Dial by next whose connections are watched.
func (w *Watch) Dial(next Dial) Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		nc, err := next(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return w.server(network + " " + address).add(nc), nil
	}
}

func (w *Watch) server(name string) *server {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.servers[name]
	if s == nil {
		if w.servers == nil {
			w.servers = make(map[string]*server)
		}
		s = &server{known: time.Now(), conns: make(map[*conn]struct{})}
		w.servers[name] = s
	}
	return s
}

// now is in nanoseconds, never zero, and goes on evenly.
func (s *server) now() int64 { return int64(time.Since(s.known)) + 1 }

func (s *server) add(nc net.Conn) *conn {
	c := &conn{Conn: nc, server: s}
	c.used.Store(s.now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	return c
}

func (s *server) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// endIdle closes the connections that have not been used since then, and on which
// nothing is waited for.
func (s *server) endIdle(since int64) {
	s.mu.Lock()
	var idle []*conn
	for c := range s.conns {
		if c.asked.Load() == 0 && c.used.Load() < since && !c.held.Load() {
			idle = append(idle, c)
		}
	}
	s.mu.Unlock()
	for _, c := range idle {
		_ = c.Close() // it is most likely dead
	}
}

// conn is a connection that is watched. Times are by server.now.
type conn struct {
	net.Conn
	server *server
	used   atomic.Int64 // when something was last sent or came
	asked  atomic.Int64 // when that was sent on which nothing has come yet; zero: there is none
	closed atomic.Bool
	held   atomic.Bool
}

// Hold keeps a connection that a Watch has made, or one through which TLS is spoken,
// from being ended until release is called. Others it leaves alone.
func Hold(nc net.Conn) (release func()) {
	if over, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = over.NetConn()
	}
	c, ok := nc.(*conn)
	if !ok {
		return func() {}
	}
	c.held.Store(true)
	return func() { c.held.Store(false) }
}

func (c *conn) Write(p []byte) (int, error) {
	t := c.server.now()
	c.used.Store(t)
	c.asked.CompareAndSwap(0, t)
	return c.Conn.Write(p)
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		t := c.server.now()
		c.used.Store(t)
		c.server.heard.Store(t)
		c.asked.Store(0)
	}
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		asked := c.asked.Load() // zero is before anything was heard
		if c.server.now()-asked >= int64(quiet) && c.server.heard.Load() < asked {
			c.server.endIdle(asked)
		}
	}
	return n, err
}

func (c *conn) Close() error {
	c.closed.Store(true)
	c.server.remove(c)
	return c.Conn.Close()
}

// SyscallConn is for a pool that looks by it whether the server has closed an idle
// connection. Of one that is encrypted it learns only whether it was closed here.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	if c.closed.Load() {
		return nil, net.ErrClosed
	}
	if plain, ok := c.Conn.(syscall.Conn); ok {
		return plain.SyscallConn()
	}
	return opaque{}, nil
}

// opaque is a connection into which nobody can look.
type opaque struct{}

func (opaque) Control(func(fd uintptr)) error    { return nil }
func (opaque) Read(func(fd uintptr) bool) error  { return nil }
func (opaque) Write(func(fd uintptr) bool) error { return nil }
