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

// tlsStream is one with TLS, over tcp.
type tlsStream struct {
	*tls.Conn
	tcp *net.TCPConn
}

func (s tlsStream) reset() {
	_ = s.tcp.SetLinger(0)
	_ = s.tcp.Close()
}

// UseTLS has later connections to the server use TLS; clients connect to the proxy
// without, so that an [Inspector] can read their packets. With an empty ServerName
// that is the host of the target. Nil ends it.
func (p *Proxy) UseTLS(config *tls.Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tls = config
}

// dial connects to the server.
func (p *Proxy) dial(ctx context.Context) (stream, error) {
	p.mu.Lock()
	target, config := p.target, p.tls
	p.mu.Unlock()
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", target)
	if err != nil {
		return nil, err
	}
	tcp := nc.(*net.TCPConn)
	if config == nil {
		return tcpStream{tcp}, nil
	}
	if config.ServerName == "" {
		config = config.Clone()
		if config.ServerName, _, err = net.SplitHostPort(target); err != nil {
			_ = tcp.Close()
			return nil, err
		}
	}
	secure := tls.Client(tcp, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return tlsStream{secure, tcp}, nil
}
