package session

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// authority is a certificate authority made for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool()}
	der, key := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	var err error
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.key = key
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(template *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	return der, key
}

// issue makes a certificate for a host, or a client if host is empty.
func (a *authority) issue(host string, notAfter time.Time) tls.Certificate {
	template := &x509.Certificate{NotAfter: notAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if host != "" {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = []net.IP{ip}
		} else {
			template.DNSNames = []string{host}
		}
	}
	der, key := a.sign(template)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Cases 08-ssl-connect-*: a certificate that is good for the host, from an
// authority that we know, and nothing else; with and without one of our own.
func Test08SSLConnect(t *testing.T) {
	t.Parallel()
	known, unknown := newAuthority(t), newAuthority(t)
	server := known.issue("127.0.0.1", time.Time{})
	mutual := &tls.Config{
		Certificates: []tls.Certificate{server}, ClientCAs: known.pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	for name, test := range map[string]struct {
		server *tls.Config
		client *tls.Config
		fails  string // in the error, or nothing
	}{
		"no-auth": {&tls.Config{Certificates: []tls.Certificate{server}}, &tls.Config{RootCAs: known.pool}, ""},
		"cert-auth": {mutual, &tls.Config{
			RootCAs: known.pool, Certificates: []tls.Certificate{known.issue("", time.Time{})},
		}, ""},
		"cert-auth without one": {mutual, &tls.Config{RootCAs: known.pool}, "certificate required"},
		"cert-auth with a fake one": {mutual, &tls.Config{
			RootCAs: known.pool, Certificates: []tls.Certificate{unknown.issue("", time.Time{})},
		}, "unknown certificate authority"},
		"bad-cacert":                {&tls.Config{Certificates: []tls.Certificate{server}}, &tls.Config{RootCAs: unknown.pool}, "unknown authority"},
		"fake-cacert, the system's": {&tls.Config{Certificates: []tls.Certificate{server}}, nil, "certificate"},
		"wrong host": {
			&tls.Config{Certificates: []tls.Certificate{known.issue("broker.example", time.Time{})}},
			&tls.Config{RootCAs: known.pool}, "127.0.0.1",
		},
		"expired": {
			&tls.Config{Certificates: []tls.Certificate{known.issue("127.0.0.1", time.Now().Add(-time.Minute))}},
			&tls.Config{RootCAs: known.pool}, "expired",
		},
		"TLS 1.1": {
			&tls.Config{Certificates: []tls.Certificate{server}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
			&tls.Config{RootCAs: known.pool}, "protocol version",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := brokertest.ListenTLS(t, test.server)
			if test.fails != "" {
				wait := l.Script(func(c *brokertest.Conn) {
					_, err := c.ReadPacket(context.WithoutCancel(t.Context()))
					c.Close()
					if err == nil {
						t.Error("the handshake went well")
					}
				})
				p := start(t, l.URL(), func(c *Config) { c.TLS, c.Password = test.client, []byte("secret") })
				require.ErrorContains(t, p.failure(0), test.fails)
				wait()
				return
			}
			p := start(t, l.URL(), func(c *Config) { c.TLS = test.client })
			c := l.Accept(t.Context())
			c.Handshake()
			o := p.send(message("t", 1, "m"))[0]
			c.SendPuback(c.ExpectPublish().PacketID, 0)
			p.end(o)
			// The end is as clean as it is without TLS.
			c.SendPublish(publish(1, 1, "m"))
			p.delivery(0).Ack(0)
			closed := make(chan error, 1)
			go func() { closed <- p.link.Close(context.WithoutCancel(t.Context())) }()
			c.ExpectPuback(brokertest.HasID(1))
			c.ExpectDisconnect()
			c.Close()
			require.NoError(t, <-closed)
		})
	}
}

// webSocketBroker passes what comes over WebSockets to a broker. What the broker
// sends goes out in frames whose boundaries are not those of packets.
func webSocketBroker(t *testing.T, addr string) http.Handler {
	t.Helper()
	var upgrader websocket.Upgrader
	upgrader.Subprotocols = []string{"mqtt"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Token") != "let me in" {
			http.Error(w, "no token", http.StatusForbidden)
			return
		}
		ws, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = ws.Close() }()
		if ws.Subprotocol() != "mqtt" {
			t.Error("the client did not offer the subprotocol mqtt")
		}
		broker, err := new(net.Dialer).DialContext(r.Context(), "tcp", addr)
		if err != nil {
			t.Error(err)
			return
		}
		var pipes sync.WaitGroup
		defer pipes.Wait()
		pipes.Go(func() {
			defer func() { _ = ws.Close() }()
			buf := make([]byte, 7)
			for {
				n, err := broker.Read(buf)
				if err != nil || ws.WriteMessage(websocket.BinaryMessage, buf[:n]) != nil {
					return
				}
			}
		})
		for {
			kind, b, err := ws.ReadMessage()
			if err != nil || kind != websocket.BinaryMessage {
				break
			}
			if _, err := broker.Write(b); err != nil {
				break
			}
		}
		_ = broker.Close()
	})
}

func TestWebSocket(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			server := httptest.NewUnstartedServer(webSocketBroker(t, b.Addr()))
			config := &tls.Config{}
			if scheme == "wss" {
				server.StartTLS()
				config = server.Client().Transport.(*http.Transport).TLSClientConfig
			} else {
				server.Start()
			}
			t.Cleanup(server.Close)
			p := start(t, scheme+"://"+server.Listener.Addr().String()+"/mqtt?x=1", func(c *Config) {
				c.TLS, c.Header = config, http.Header{"X-Token": {"let me in"}}
			})
			exchange(t, b, p)
		})
	}
}

func TestWebSocketHandshakeIsRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(webSocketBroker(t, ""))
	t.Cleanup(server.Close)
	p := start(t, "ws://"+server.Listener.Addr().String())
	require.ErrorContains(t, p.failure(0), "bad handshake")
}

// A message that is not binary is no MQTT [MQTT-6.0.0-1].
func TestWebSocketTextMessage(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = ws.Close() }()
		_ = ws.WriteMessage(websocket.TextMessage, []byte("\x20\x03\x00\x00\x00"))
		_, _, _ = ws.ReadMessage()
	}))
	t.Cleanup(server.Close)
	p := start(t, "ws://"+server.Listener.Addr().String())
	require.ErrorContains(t, p.failure(0), "not binary")
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	path := filepath.Join(t.TempDir(), "broker.sock")
	ln, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	require.NoError(t, err)
	var pipes sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); pipes.Wait() })
	pipes.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			broker, err := new(net.Dialer).Dial("tcp", b.Addr())
			if err != nil {
				_ = nc.Close()
				continue
			}
			pipes.Go(func() { _, _ = io.Copy(nc, broker); _ = nc.Close() })
			pipes.Go(func() { _, _ = io.Copy(broker, nc); _ = broker.Close() })
		}
	})
	exchange(t, b, start(t, "unix://"+path))
}

// exchange sends messages both ways, through a reconnect, and closes.
func exchange(t *testing.T, b *brokertest.Broker, p *peer) {
	t.Helper()
	require.NoError(t, p.link.Await(within(t, patience)))
	_, err := p.link.Subscribe(t.Context(), []Subscription{{Filter: "#", QoS: 2}}, 0)
	require.NoError(t, err)
	p.onReceive = func(d *Delivery) { d.Ack(0) }
	all := p.send(messages(2, 0, 50)...)
	p.delivery(10)
	p.link.Drop()
	p.allEnd(all)
	p.delivery(49)
	require.NoError(t, p.link.Engine().WaitIdle(within(t, patience)))
	require.NoError(t, p.link.Close(within(t, patience)))
	p.balance()
	require.Empty(t, b.Violations())
	require.Len(t, p.got, 50)
}

func TestParseServer(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"mqtt://h": "mqtt://h:1883", "tcp://h:1": "mqtt://h:1", "mqtts://h": "mqtts://h:8883", "ssl://h": "mqtts://h:8883",
		"tls://[::1]": "mqtts://[::1]:8883", "ws://h/mqtt": "ws://h/mqtt", "wss://h:1/?a=b": "wss://h:1/?a=b",
		"unix:///run/b.sock": "unix:///run/b.sock", "mqtt://u:p@h": "mqtt://u:p@h:1883",
	} {
		u, err := ParseServer(raw)
		require.NoError(t, err, raw)
		require.Equal(t, want, u.String())
	}
	for _, raw := range []string{"", "h:1883", "http://h", "mqtt://", "mqtt://:1883", "unix://", "mqtt://h:port", "mqtt://u:canary@h:x", "x://u:canary@h", "mqtts://u:canary@"} {
		_, err := ParseServer(raw)
		require.Error(t, err, raw)
		require.NotContains(t, err.Error(), "canary")
		var parse *url.Error
		require.NotErrorAs(t, err, &parse, "quotes the URL")
	}
}
