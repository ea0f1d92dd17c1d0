package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// tlsFront speaks TLS before a broker that does not, with a configuration that can
// be replaced.
type tlsFront struct {
	ln     net.Listener
	config atomic.Pointer[tls.Config]
	tasks  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

func newTLSFront(t *testing.T, broker string, config *tls.Config) *tlsFront {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	f := &tlsFront{ln: ln, conns: make(map[net.Conn]struct{})}
	f.config.Store(config)
	f.tasks.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			f.tasks.Go(func() { f.serve(tls.Server(nc, f.config.Load()), broker) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		f.cut()
		f.tasks.Wait()
	})
	return f
}

func (f *tlsFront) url() string { return "mqtts://" + f.ln.Addr().String() }

func (f *tlsFront) serve(client *tls.Conn, broker string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", broker)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	if client.Handshake() != nil {
		return // the client knows why
	}
	f.mu.Lock()
	f.conns[client] = struct{}{}
	f.mu.Unlock()
	f.tasks.Go(func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
	})
	_, _ = io.Copy(server, client)
}

// cut ends all connections.
func (f *tlsFront) cut() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for nc := range f.conns {
		_ = nc.Close()
	}
	clear(f.conns)
}

// demands is the configuration of a server that one authority knows, and that takes
// the clients which it knows.
func (a *authority) demands() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{
		Certificates: []tls.Certificate{a.issue(x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})},
		ClientCAs:    pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}
}

func (a *authority) client(notAfter time.Time) tls.Certificate {
	return a.issue(x509.Certificate{NotAfter: notAfter, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// replace puts files in the place of others, each at once.
func replace(t *testing.T, by map[string]string) {
	t.Helper()
	for file, with := range by {
		data, err := os.ReadFile(with)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file+".new", data, 0o600))
		require.NoError(t, os.Rename(file+".new", file))
	}
}

// TestTLSFilesAreReplaced: the broker changes its authority and takes only clients
// that the new one knows; then the client's certificate runs out. Both times the
// process says what is wrong, and goes on when its files are replaced.
func TestTLSFilesAreReplaced(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	b := startBroker(t, brokertest.Options{})
	before, after := newAuthority(t), newAuthority(t)
	front := newTLSFront(t, b.Addr(), before.demands())
	ca := before.file
	cert, key := before.write(before.client(time.Time{}), 0o600)
	p := testenv.Start(t, oncemq(t, "sub", "-L", front.url(), "-t", "a", "-i", "s", "-c",
		"--cafile", ca, "--cert", cert, "--key", key))
	gets := func(payload string) {
		t.Helper()
		b.Publish(brokertest.Packet{Topic: "a", Payload: []byte(payload), QoS: 1})
		_, err := p.Stdout.WaitFor(ctx, func(line string) bool { return line == payload })
		require.NoError(t, err, p.Stderr.String())
	}
	says := func(text string) {
		t.Helper()
		_, err := p.Stderr.WaitFor(ctx, func(line string) bool { return strings.Contains(line, text) })
		require.NoError(t, err, p.Stderr.String())
	}
	require.NoError(t, b.Wait(ctx, func() bool { return b.Subscribers("a") == 1 }), p.Stderr.String())
	gets("with the old ones")

	front.config.Store(after.demands())
	front.cut()
	says("certificate signed by unknown authority")
	newCert, newKey := after.write(after.client(time.Time{}), 0o600)
	replace(t, map[string]string{ca: after.file, cert: newCert, key: newKey})
	gets("with the new ones")

	oldCert, oldKey := after.write(after.client(time.Now().Add(-time.Minute)), 0o600)
	replace(t, map[string]string{cert: oldCert, key: oldKey})
	front.cut()
	says("(the client certificate expired at 20")
	replace(t, map[string]string{cert: newCert, key: newKey})
	gets("with the last ones")
	p.Terminate()
	require.Equal(t, exitDone, p.Wait(10*time.Second), p.Stderr.String())
}

// TestTLSFilesThatAreWrong are refused before anything is done, with the option.
func TestTLSFilesThatAreWrong(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cert, key := a.write(a.client(time.Time{}), 0o600)
	_, other := a.write(a.client(time.Time{}), 0o600)
	for name, test := range map[string]struct {
		args   []string
		stderr string
	}{
		"no certificate":     {[]string{"--cafile", key}, "--cafile: \"" + key + "\" holds no certificate in PEM form"},
		"another's key":      {[]string{"--cert", cert, "--key", other}, "--cert: client certificate \"" + cert + "\": tls: private key does not match public key"},
		"key without a cert": {[]string{"--key", key}, "--key: needs --cert beside it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command(append([]string{"sub", "-t", "a", "--cafile", a.file}, test.args...)...))
			require.Equal(t, exitUsage, got.code)
			require.Equal(t, "oncemq sub: "+test.stderr+" (see oncemq sub --help)\n", got.stderr)
		})
	}
}
