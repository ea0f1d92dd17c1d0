package fault

import (
	"context"
	"crypto/tls"
	"io"
	"net"
)

// stream is one side of a connection.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	// reset closes it by RST.
	reset()
}

// tcpStream is a connection without TLS.
type tcpStream struct{ *net.TCPConn }

func (s tcpStream) reset() {
	_ = s.SetLinger(0)
	_ = s.Close()
}

// serverStream is a connection to the server, whatever carries it.
type serverStream struct{ net.Conn }

// CloseWrite closes all of one that has no half.
func (s serverStream) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return s.Close()
}

// reset goes down to what the connection is made on: those above would take leave.
func (s serverStream) reset() {
	nc := s.Conn
	for {
		above, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		nc = above.NetConn()
	}
	if tcp, ok := nc.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = nc.Close()
}

// UseTLS has later connections to the server use TLS; clients connect to the proxy
// without, so that an [Inspector] can read their packets. With an empty ServerName
// that is the host of the target. Nil ends it.
func (p *Proxy) UseTLS(config *tls.Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tls = config
}

// UseDial has later connections to the server made by dial, in place of the target and
// of UseTLS: for a broker behind a WebSocket, on a Unix domain socket, or beyond a proxy
// of the network's. What dial returns carries the bytes of the MQTT connection; nil ends
// it. Where that has no CloseWrite, a client's FIN closes all of it.
func (p *Proxy) UseDial(dial func(ctx context.Context) (net.Conn, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.own = dial
}

// dial connects to the server.
func (p *Proxy) dial(ctx context.Context) (stream, error) {
	p.mu.Lock()
	target, config, own := p.target, p.tls, p.own
	p.mu.Unlock()
	var nc net.Conn
	var err error
	switch {
	case own != nil:
		nc, err = own(ctx)
	case config != nil:
		nc, err = (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", target)
	default:
		nc, err = new(net.Dialer).DialContext(ctx, "tcp", target)
	}
	if err != nil {
		return nil, err
	}
	return serverStream{nc}, nil
}
