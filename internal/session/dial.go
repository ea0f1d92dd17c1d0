package session

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

// Schemes are the URL schemes that a broker may have.
func Schemes() []string { return []string{"mqtt", "mqtts", "ws", "wss", "unix"} }

// ParseServer reads a broker's URL. Without a port it is 1883, or 8883 for
// mqtts. tcp, ssl and tls are understood as mqtt and mqtts.
func ParseServer(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("broker URL cannot be parsed; it looks like mqtt://host:1883")
	}
	port := ""
	switch u.Scheme {
	case "mqtt", "tcp":
		u.Scheme, port = "mqtt", "1883"
	case "mqtts", "ssl", "tls":
		u.Scheme, port = "mqtts", "8883"
	case "ws", "wss":
	case "unix":
		if u.Path == "" {
			return nil, fmt.Errorf("broker URL %q has no path; it looks like unix:///run/broker.sock", u.Redacted())
		}
		return u, nil
	default:
		return nil, fmt.Errorf("broker scheme %q is unknown; it is one of %s", u.Scheme, strings.Join(Schemes(), ", "))
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("broker URL %q has no host", u.Redacted())
	}
	if u.Port() == "" && port != "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	return u, nil
}

// Dial makes a network connection as net.Dialer.DialContext does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// DialServer makes a connection that carries MQTT's packets, as a Link does before its
// CONNECT: over what the scheme of u names, with the TLS, TLSFiles, Header and Dial of cfg.
func DialServer(ctx context.Context, u *url.URL, cfg *Config) (net.Conn, error) {
	tlsConfig, err := cfg.TLSFiles.Apply(cfg.TLS)
	if err != nil {
		return nil, err
	}
	return dial(ctx, u, tlsConfig, cfg.Header, cfg.Dial)
}

// dial makes the connection to a server, by own if that is not nil; ctx bounds all of
// it, handshakes included.
func dial(ctx context.Context, u *url.URL, tlsConfig *tls.Config, header http.Header, own Dial) (net.Conn, error) {
	network := own
	if network == nil {
		network = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext
	}
	switch u.Scheme {
	case "unix":
		return network(ctx, "unix", u.Path)
	case "mqtt":
		return network(ctx, "tcp", u.Host)
	case "mqtts":
		return dialTLS(ctx, network, u.Host, tlsConfig)
	}
	wd := websocket.Dialer{
		NetDialContext: network, TLSClientConfig: tlsConfig,
		Subprotocols: []string{"mqtt"}, // [MQTT-6.0.0-3]
	}
	if own == nil { // one that goes its own way goes by no proxy of the environment's
		wd.Proxy = http.ProxyFromEnvironment
	}
	bare := *u
	bare.User = nil // credentials go into CONNECT
	ws, resp, err := wd.DialContext(ctx, bare.String(), header)
	if err != nil {
		return nil, fmt.Errorf("websocket: %w", err)
	}
	_ = resp.Body.Close() // empty after a successful handshake
	return &wsConn{Conn: ws}, nil
}

// dialTLS is what tls.Dialer does, over a connection of anybody's.
func dialTLS(ctx context.Context, network Dial, address string, cfg *tls.Config) (net.Conn, error) {
	nc, err := network(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(address) // which dialling has found good
	}
	tc := tls.Client(nc, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = nc.Close() // the handshake's error says why
		return nil, err
	}
	return &tlsConn{Conn: tc}, nil
}

// wsConn makes a stream of a WebSocket's binary messages: packet boundaries and
// frame boundaries need not agree [MQTT-6.0.0-2].
type wsConn struct {
	*websocket.Conn
	r io.Reader // the rest of the current message
}

func (c *wsConn) Read(p []byte) (int, error) {
	for {
		if c.r == nil {
			kind, r, err := c.NextReader()
			if err != nil {
				return 0, err
			}
			if kind != websocket.BinaryMessage { // [MQTT-6.0.0-1]
				return 0, malformed("WebSocket message that is not binary")
			}
			c.r = r
		}
		n, err := c.r.Read(p)
		if err == io.EOF {
			c.r, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *wsConn) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *wsConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}
