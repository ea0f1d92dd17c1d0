package session

import (
	"context"
	"errors"
	"time"
)

const (
	// pingFresh is for how long a sign of life of the server counts as an answer.
	pingFresh = 250 * time.Millisecond
	// pingLook is how often an answer is looked for.
	pingLook = 10 * time.Millisecond
)

// ErrNoAnswer is the error of [Link.Ping] for a server that is silent.
var ErrNoAnswer = errors.New("no answer to PINGREQ")

// Ping finds out whether the server is there, sooner than the keep alive does: a
// PINGREQ may be sent at any time (section 3.12). It returns nil once the server
// has sent anything since a quarter of a second before, or if the reader has more
// to read than it has time for. The error is [ErrConnectionLost] without a
// connection, and [ErrNoAnswer] if nothing comes before the context ends; the
// connection stays as it is.
//
// It is the engine's writer that writes: one that is held up, since the server does
// not read, sends no PINGREQ, and then there is an answer only if the server sends
// something all the same.
func (l *Link) Ping(ctx context.Context) error {
	c := l.engine.current()
	if c == nil {
		return ErrConnectionLost
	}
	since := int64(time.Since(c.born) - pingFresh)
	if c.lastRead.Load() > since {
		return nil
	}
	l.engine.ask(c)
	t := time.NewTicker(pingLook)
	defer t.Stop()
	for {
		switch {
		case c.lastRead.Load() > since:
			return nil
		case c.waits.Load() == 0 && !c.leaving.Load():
			return nil
		}
		select {
		case <-ctx.Done():
			return ErrNoAnswer
		case <-t.C:
		}
		if l.engine.current() != c {
			return ErrConnectionLost
		}
	}
}

// current is the connection; nil while there is none.
func (e *Engine) current() *conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.conn
}

// ask has the writer send a PINGREQ, unless the connection has ended.
func (e *Engine) ask(c *conn) {
	e.mu.Lock()
	e.asked = e.asked || e.conn == c
	e.mu.Unlock()
	e.Wake()
}
