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

// dial makes the network connection; ctx bounds all of it, handshakes included.
func dial(ctx context.Context, u *url.URL, tlsConfig *tls.Config, header http.Header) (net.Conn, error) {
	d := net.Dialer{KeepAlive: 15 * time.Second}
	switch u.Scheme {
	case "unix":
		return d.DialContext(ctx, "unix", u.Path)
	case "mqtt":
		return d.DialContext(ctx, "tcp", u.Host)
	case "mqtts":
		// tls.Dialer fills in ServerName and bounds the handshake by ctx.
		return (&tls.Dialer{NetDialer: &d, Config: tlsConfig}).DialContext(ctx, "tcp", u.Host)
	}
	wd := websocket.Dialer{
		NetDialContext: d.DialContext, TLSClientConfig: tlsConfig,
		Subprotocols: []string{"mqtt"}, // [MQTT-6.0.0-3]
		Proxy:        http.ProxyFromEnvironment,
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
