package mochi

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

// listener is the broker's listener. It knows its connections, so that they can
// be closed the way the kernel closes those of a killed process: without
// DISCONNECT, and whatever the broker still had in its buffers is gone.
type listener struct {
	ln     net.Listener
	served chan struct{} // closed when Serve has returned
	conns  sync.WaitGroup

	mu   sync.Mutex // guards the following
	open map[*conn]struct{}
	dead bool
}

var _ listeners.Listener = (*listener)(nil)

func newListener(ln net.Listener) *listener {
	return &listener{ln: ln, served: make(chan struct{}), open: make(map[*conn]struct{})}
}

// conn is a connection that tells when it was closed on our side.
type conn struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (c *conn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// Init, ID, Address, Protocol and Close are asked for by the server; it never
// closes the connections before kill has.
func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return "oncemq" }
func (l *listener) Address() string         { return l.ln.Addr().String() }
func (l *listener) Protocol() string        { return "tcp" }
func (l *listener) Close(closeClients listeners.CloseFn) {
	closeClients(l.ID())
	_ = l.ln.Close() // kill has closed it
}

// Serve accepts connections until the listener is closed.
func (l *listener) Serve(establish listeners.EstablishFn) {
	defer close(l.served)
	for {
		nc, err := l.ln.Accept()
		if err != nil {
			return
		}
		c := &conn{Conn: nc, closed: make(chan struct{})}
		l.mu.Lock()
		if l.dead {
			l.mu.Unlock()
			_ = c.Close()
			return
		}
		l.open[c] = struct{}{}
		l.mu.Unlock()
		l.conns.Go(func() {
			_ = establish(l.ID(), c) // says why the connection ended
			_ = c.Close()
			l.mu.Lock()
			delete(l.open, c)
			l.mu.Unlock()
		})
	}
}

// kill closes the port and every connection, and returns once nothing is served
// any more.
func (l *listener) kill() error {
	l.mu.Lock()
	l.dead = true
	conns := make([]*conn, 0, len(l.open))
	for c := range l.open {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	_ = l.ln.Close()
	for _, c := range conns {
		_ = c.Close()
	}
	<-l.served
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.conns.Wait()
	}()
	select {
	case <-ended:
		return nil
	case <-time.After(closeTimeout):
		return errors.New("its connections do not end")
	}
}
