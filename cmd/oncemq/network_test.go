package main

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// socksProxy is a SOCKS5 proxy (RFC 1928, RFC 1929) that takes connections to names,
// and leads all of them to one address. It tells the names.
func socksProxy(t *testing.T, user, password, target string) (address string, names <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	asked := make(chan string, 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer func() { _ = c.Close() }()
				if name, err := serveSOCKS(c, user, password); err == nil {
					asked <- name
					pipe(c, target)
				}
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return l.Addr().String(), asked
}

func serveSOCKS(c net.Conn, user, password string) (name string, err error) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if err == nil {
			_, err = io.ReadFull(c, b)
		}
		return b
	}
	methods := read(int(read(2)[1]))
	if user != "" {
		if !strings.Contains(string(methods), "\x02") {
			return "", errors.New("no password is offered")
		}
		_, _ = c.Write([]byte{5, 2})
		u := read(int(read(2)[1]))
		p := read(int(read(1)[0]))
		if string(u) != user || string(p) != password {
			_, _ = c.Write([]byte{1, 1})
			return "", errors.New("wrong password")
		}
		_, _ = c.Write([]byte{1, 0})
	} else {
		_, _ = c.Write([]byte{5, 0})
	}
	head := read(4)
	if err == nil && head[3] != 3 {
		return "", errors.New("the name is resolved already")
	}
	host := read(int(read(1)[0]))
	port := binary.BigEndian.Uint16(read(2))
	_, _ = c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	return net.JoinHostPort(string(host), strconv.Itoa(int(port))), err
}

func pipe(c net.Conn, target string) {
	s, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer func() { _ = s.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(s, c)
		_ = s.Close()
	}()
	_, _ = io.Copy(c, s)
	_ = c.Close()
	<-done
}

func TestProxy(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	for name, user := range map[string]string{"open": "", "with a password": "me:p%40ss@"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var u, p string
			if user != "" {
				u, p = "me", "p@ss"
			}
			address, names := socksProxy(t, u, p, b.Addr())
			got := runOnce(t, command("sub", "-h", "broker.example", "-p", "1234", "--proxy", "socks5h://"+user+address, "-t", "a", "-E", "-W", "20"))
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Equal(t, "broker.example:1234", <-names)
		})
	}
	for proxy, want := range map[string]string{
		"http://u:sesame@h:1":      `--proxy: scheme "http" is not a choice; it looks like socks5h://host:1080`,
		"socks5h://":               "--proxy: is not a proxy; ",
		"socks5h://u:sesame@h:%zz": "--proxy: cannot be parsed; ",
	} {
		got := runOnce(t, command("sub", "-t", "a", "--proxy", proxy))
		require.Equal(t, exitUsage, got.code)
		require.Contains(t, got.stderr, want)
		require.NotContains(t, got.stderr, "sesame")
	}
}

// TestBindAddress: the connection comes from the address that was asked for; all of
// 127/8 is this machine.
func TestBindAddress(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	from := make(chan string, 1)
	go func() {
		defer close(from)
		c, err := l.Accept()
		if err != nil {
			return
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
		from <- host
		pipe(c, b.Addr())
	}()
	got := runOnce(t, command("sub", "-L", "mqtt://"+l.Addr().String(), "-A", "127.0.0.7", "-t", "a", "-E", "-W", "20"))
	require.NoError(t, l.Close())
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "127.0.0.7", <-from)
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	dir, err := os.MkdirTemp("", "s") //nolint:usetesting // a socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go pipe(c, b.Addr())
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	got := runOnce(t, command("sub", "--unix", path, "-t", "a", "-E", "-W", "20"))
	require.Equal(t, exitDone, got.code, got.stderr)
	got = runOnce(t, command("sub", "--unix", path, "-h", "x", "-t", "a"))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, "--unix: cannot stand beside --url, --host and --port")
}

// TestService: the targets of SRV records are tried in their order.
func TestService(t *testing.T) {
	t.Parallel()
	lookup := func(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
		require.Equal(t, "secure-mqtt tcp example.org", service+" "+proto+" "+name)
		return "", []*net.SRV{{Target: "down.example.", Port: 1}, {Target: "up.example.", Port: 2}, {Target: "never.example.", Port: 3}}, nil
	}
	var asked []string
	way := func(_ context.Context, _, address string) (net.Conn, error) {
		asked = append(asked, address)
		if address != "up.example:2" {
			return nil, errors.New("down")
		}
		c, _ := net.Pipe()
		return c, nil
	}
	c, err := dialService(t.Context(), lookup, way, "secure-mqtt", "example.org")
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.Equal(t, []string{"down.example:1", "up.example:2"}, asked)
	require.Equal(t, map[string]string{"a:1883": "mqtt", "b:8883": "secure-mqtt", "c:9": "mqtt"},
		services([]string{"mqtt://a", "mqtts://b", "mqtt://c:9", "mqtt://127.0.0.1", "wss://d", "unix:///e"}))
	none := func(context.Context, string, string, string) (string, []*net.SRV, error) {
		return "", []*net.SRV{{Target: "."}}, nil
	}
	_, err = dialService(t.Context(), none, way, "mqtt", "example.org")
	require.EqualError(t, err, "_mqtt._tcp.example.org leads nowhere")
	got := runOnce(t, command("sub", "-L", "ws://h/mqtt", "-S", "-t", "a"))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, "--srv: needs a host name of a broker")
}

// TestWSHeader: headers go with the handshake, and a bad one is not shown.
func TestWSHeader(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var seen atomic.Value
	server := &http.Server{ReadHeaderTimeout: 20 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.Header.Get("Authorization") + "|" + r.Header.Get("X-A"))
		w.WriteHeader(http.StatusForbidden)
	})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	got := runOnce(t, command("sub", "-L", "ws://"+l.Addr().String()+"/mqtt", "--ws-header", "Authorization: Bearer x", "-wh", "X-A:b", "-t", "a", "-W", "4"))
	require.Equal(t, exitTimeout, got.code, got.stderr)
	require.Equal(t, "Bearer x|b", seen.Load())
	got = runOnce(t, command("sub", "-t", "a", "--ws-header", "sesame"))
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, "--ws-header: is not a header; write NAME:VALUE")
	require.NotContains(t, got.stderr, "sesame")
}
