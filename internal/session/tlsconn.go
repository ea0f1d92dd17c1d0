package session

import (
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// alertWait is how long a server's alert may take that comes after a failed write.
const alertWait = 200 * time.Millisecond

// tlsConn tells why a server takes no connection. In TLS 1.3 it looks at the client's
// certificate when the handshake is over for the client (RFC 8446, section 2), and if it
// closes before it has read CONNECT, the write of that fails with a reset that hides the
// server's alert.
type tlsConn struct {
	*tls.Conn
	heard atomic.Bool // the server has sent something
	over  atomic.Bool // nothing is read any more but an alert
}

func (c *tlsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	switch {
	case err != nil:
		return n, err
	case c.over.Load():
		return 0, net.ErrClosed
	}
	c.heard.Store(true)
	return n, nil
}

func (c *tlsConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err == nil || c.heard.Load() {
		return n, err
	}
	c.over.Store(true)
	_ = c.SetReadDeadline(time.Now().Add(alertWait)) // a connection that is gone has no need of it
	_, rerr := c.Conn.Read(make([]byte, 1))
	var op *net.OpError
	if errors.As(rerr, &op) && op.Op == "remote error" { // an alert, to crypto/tls
		err = rerr
	}
	return n, err
}
