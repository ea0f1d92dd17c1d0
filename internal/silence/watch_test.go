package silence_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/loopback"
	"github.com/oncemq/oncemq/internal/silence"
)

// echo is a server that sends everything back, and a way to it that can be lost.
func echo(t *testing.T) *fault.Proxy {
	t.Helper()
	ln, err := loopback.Listen(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(nc, nc)
				_ = nc.Close()
			}()
		}
	}()
	return fault.Start(t, ln.Addr().String())
}

// client makes watched connections to a server.
type client struct {
	t     *testing.T
	watch silence.Watch
	addr  string
}

func (c *client) dial() net.Conn {
	c.t.Helper()
	nc, err := c.watch.Dial(new(net.Dialer).DialContext)(c.t.Context(), "tcp", c.addr)
	require.NoError(c.t, err)
	c.t.Cleanup(func() { _ = nc.Close() })
	return nc
}

// ask sends something and waits so long for the answer.
func (c *client) ask(nc net.Conn, patience time.Duration) error {
	c.t.Helper()
	if _, err := nc.Write([]byte("?")); err != nil {
		return err
	}
	require.NoError(c.t, nc.SetReadDeadline(time.Now().Add(patience)))
	_, err := io.ReadFull(nc, make([]byte, 1))
	return err
}

// closed tells whether a connection was closed here, as a pool finds it out.
func (c *client) closed(nc net.Conn) bool {
	c.t.Helper()
	raw, err := nc.(syscall.Conn).SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool { return true })
	}
	if err != nil {
		require.ErrorIs(c.t, err, net.ErrClosed)
	}
	return err != nil
}

const long = 20 * time.Second

// All connections have died: who finds the first has the idle ones closed, and neither
// those on which somebody else waits nor those that are newer.
func TestIdleConnectionsEnd(t *testing.T) {
	t.Parallel()
	p := echo(t)
	c := &client{t: t, addr: p.Addr()}
	asking, idle, busy := c.dial(), c.dial(), c.dial()
	for _, nc := range []net.Conn{asking, idle, busy} {
		require.NoError(t, c.ask(nc, long))
	}
	p.BlackHole(true)
	for _, nc := range []net.Conn{asking, busy} {
		_, err := nc.Write([]byte("?"))
		require.NoError(t, err)
	}
	newer := c.dial()
	require.NoError(t, asking.SetReadDeadline(time.Now().Add(time.Second)))
	_, err := asking.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.True(t, c.closed(idle))
	require.False(t, c.closed(busy))
	require.False(t, c.closed(newer))
	require.ErrorIs(t, c.ask(idle, long), net.ErrClosed)
	p.BlackHole(false)

	fresh := c.dial()
	require.False(t, c.closed(fresh))
	require.NoError(t, c.ask(fresh, long))
}

// A question that is not answered says nothing if the server was heard meanwhile, if it
// was not waited for for long, or if there was none.
func TestIdleConnectionsStay(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(t *testing.T, p *fault.Proxy, c *client, asking net.Conn) error{
		"heard meanwhile": func(t *testing.T, p *fault.Proxy, c *client, asking net.Conn) error {
			t.Helper()
			p.BlackHole(true)
			_, err := asking.Write([]byte("?"))
			require.NoError(t, err)
			p.BlackHole(false)
			require.NoError(t, c.ask(c.dial(), long))
			require.NoError(t, asking.SetReadDeadline(time.Now().Add(time.Second)))
			_, err = asking.Read(make([]byte, 1))
			return err
		},
		"impatient": func(_ *testing.T, _ *fault.Proxy, c *client, asking net.Conn) error {
			return c.ask(asking, time.Nanosecond)
		},
		"no question": func(t *testing.T, _ *fault.Proxy, _ *client, asking net.Conn) error {
			t.Helper()
			require.NoError(t, asking.SetReadDeadline(time.Now().Add(time.Second)))
			_, err := asking.Read(make([]byte, 1))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := echo(t)
			c := &client{t: t, addr: p.Addr()}
			asking, idle := c.dial(), c.dial()
			for _, nc := range []net.Conn{asking, idle} {
				require.NoError(t, c.ask(nc, long))
			}
			require.ErrorIs(t, wait(t, p, c, asking), os.ErrDeadlineExceeded)
			require.False(t, c.closed(idle))
		})
	}
}

// Servers are told apart by their addresses.
func TestOtherServerStays(t *testing.T) {
	t.Parallel()
	away, there := echo(t), echo(t)
	c := &client{t: t, addr: away.Addr()}
	asking, dead := c.dial(), c.dial()
	c.addr = there.Addr()
	other := c.dial()
	for _, nc := range []net.Conn{asking, dead, other} {
		require.NoError(t, c.ask(nc, long))
	}
	away.BlackHole(true)
	require.Error(t, c.ask(asking, time.Second))
	require.True(t, c.closed(dead))
	require.False(t, c.closed(other))
}

// A connection into which nobody can look tells whether it was closed here.
func TestOpaqueConnection(t *testing.T) {
	t.Parallel()
	p := echo(t)
	var w silence.Watch
	nc, err := w.Dial(func(ctx context.Context, network, address string) (net.Conn, error) {
		inner, err := new(net.Dialer).DialContext(ctx, network, address)
		return struct{ net.Conn }{inner}, err
	})(t.Context(), "tcp", p.Addr())
	require.NoError(t, err)
	c := &client{t: t}
	require.False(t, c.closed(nc))
	require.NoError(t, nc.Close())
	require.True(t, c.closed(nc))
	_, err = w.Dial(func(context.Context, string, string) (net.Conn, error) { return nil, errDial })(t.Context(), "tcp", "")
	require.ErrorIs(t, err, errDial)
}

var errDial = errors.New("no connection")
