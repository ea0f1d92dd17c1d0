package fault_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/loopback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const limit = 10 * time.Second // only a failing test waits so long

// setUp gives a client and the server's end of the same connection.
func setUp(t *testing.T, set func(*fault.Proxy)) (p *fault.Proxy, client, server *net.TCPConn) {
	t.Helper()
	ln, err := loopback.Listen(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	p = fault.Start(t, ln.Addr().String())
	if set != nil {
		set(p)
	}
	client = dial(t, p)
	require.NoError(t, ln.SetDeadline(time.Now().Add(limit)))
	server, err = ln.AcceptTCP()
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Close() })
	require.NoError(t, server.SetDeadline(time.Now().Add(limit)))
	return p, client, server
}

func dial(t *testing.T, p *fault.Proxy) *net.TCPConn {
	t.Helper()
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	require.NoError(t, nc.SetDeadline(time.Now().Add(limit)))
	return nc.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, s string) {
	t.Helper()
	_, err := c.Write([]byte(s))
	require.NoError(t, err)
}

func receive(t *testing.T, c net.Conn, s string) {
	t.Helper()
	buf := make([]byte, len(s))
	_, err := io.ReadFull(c, buf)
	require.NoError(t, err)
	require.Equal(t, s, string(buf))
}

// silent fails the test if anything comes within a moment.
func silent(t *testing.T, c *net.TCPConn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	n, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "%d bytes", n)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(limit)))
}

func ended(t *testing.T, c net.Conn, want error) {
	t.Helper()
	n, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, want, "%d bytes", n)
}

func TestForwardsBothWaysAndTheEndOfEach(t *testing.T) {
	t.Parallel()
	_, client, server := setUp(t, nil)
	send(t, client, "ping")
	receive(t, server, "ping")
	require.NoError(t, client.CloseWrite())
	ended(t, server, io.EOF)
	send(t, server, "after the client's end")
	receive(t, client, "after the client's end")
	require.NoError(t, server.Close())
	ended(t, client, io.EOF)
}

func TestForwardsAReset(t *testing.T) {
	t.Parallel()
	_, client, server := setUp(t, func(p *fault.Proxy) {
		p.Latency(fault.ToClient, 30*time.Millisecond)
	})
	send(t, client, "x") // a reset before the proxy has the connection has no last words
	receive(t, server, "x")
	send(t, server, "last words")
	require.NoError(t, server.SetLinger(0))
	require.NoError(t, server.Close())
	receive(t, client, "last words")
	ended(t, client, syscall.ECONNRESET)
}

// A server that says its last and closes makes itself known by a reset once
// the client goes on sending; the last words arrive first.
func TestTellsTheSenderThatTheReceiverHasGone(t *testing.T) {
	t.Parallel()
	_, client, server := setUp(t, nil)
	send(t, server, "last words")
	require.NoError(t, server.Close())
	receive(t, client, "last words")
	ended(t, client, io.EOF)
	for {
		if _, err := client.Write([]byte("more")); err != nil {
			require.True(t, errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE), "%v", err)
			return
		}
	}
}

func TestCutAll(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		how  fault.How
		want error
	}{"RST": {fault.RST, syscall.ECONNRESET}, "FIN": {fault.FIN, io.EOF}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, client, server := setUp(t, nil)
			send(t, client, "x")
			receive(t, server, "x")
			p.CutAll(c.how)
			ended(t, client, c.want)
			ended(t, server, c.want)
			_ = client.Close()
			_ = server.Close()
			require.Eventually(t, func() bool { return p.Open() == 0 }, limit, time.Millisecond)
		})
	}
}

func TestCutNewest(t *testing.T) {
	t.Parallel()
	p, client, server := setUp(t, nil)
	send(t, client, "x") // makes sure that it is the older one
	receive(t, server, "x")
	second := dial(t, p)
	require.Eventually(t, func() bool { return p.Open() == 2 }, limit, time.Millisecond)
	p.CutNewest(fault.RST)
	ended(t, second, syscall.ECONNRESET)
	send(t, client, "y")
	receive(t, server, "y")
	require.Equal(t, 2, p.Accepted())
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	p, client, server := setUp(t, nil)
	require.NoError(t, p.Refuse(true))
	_, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.Addr())
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	send(t, client, "x")
	receive(t, server, "x")
	require.NoError(t, p.Refuse(false))
	dial(t, p)
	p.Close()
	require.Error(t, p.Refuse(false))
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	p, _, _ := setUp(t, nil)
	port, err := loopback.FreePort(t.Context())
	require.NoError(t, err)
	p.SetTarget((&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String())
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.Addr())
	if err == nil { // else the reset came within the dial
		defer func() { _ = nc.Close() }()
		require.NoError(t, nc.SetDeadline(time.Now().Add(limit)))
		_, err = nc.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestCutAfter(t *testing.T) {
	t.Parallel()
	for n := range int64(6) {
		p, client, server := setUp(t, func(p *fault.Proxy) { p.CutAfter(fault.ToServer, n, fault.RST) })
		send(t, client, "hello")
		receive(t, server, "hello"[:n])
		ended(t, server, syscall.ECONNRESET)
		ended(t, client, syscall.ECONNRESET)
		// Its work is done: the next connection lives.
		client = dial(t, p)
		send(t, client, "hello again")
		silent(t, client)
	}
}

func TestCutAfterCountsFromTheCall(t *testing.T) {
	t.Parallel()
	p, client, server := setUp(t, nil)
	send(t, server, "before")
	receive(t, client, "before")
	p.CutAfter(fault.ToClient, 3, fault.FIN)
	send(t, client, "the other direction")
	receive(t, server, "the other direction")
	send(t, server, "hello")
	receive(t, client, "hel")
	ended(t, client, io.EOF)
	ended(t, server, io.EOF)
}

func TestBlackHole(t *testing.T) {
	t.Parallel()
	p, client, server := setUp(t, nil)
	ln, err := loopback.Listen(t.Context())
	require.NoError(t, err)
	defer func() { _ = ln.Close() }()
	p.SetTarget(ln.Addr().String())
	p.BlackHole(true)
	send(t, client, "x")
	send(t, server, "x")
	silent(t, client)
	silent(t, server)
	late := dial(t, p)
	send(t, late, "x")
	silent(t, late)
	require.NoError(t, ln.SetDeadline(time.Now().Add(10*time.Millisecond)))
	_, err = ln.Accept()
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "the server saw the connection")
	require.NoError(t, client.Close())
	silent(t, server)
	p.BlackHole(false)
	silent(t, server)
	silent(t, late)
	require.Equal(t, 2, p.Open())
}

// A large transfer passes unharmed under everything that only delays.
func TestDelaysHarmNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		size int
		set  func(*fault.Proxy)
	}{
		"plain":     {4 << 20, nil},
		"latency":   {4 << 20, func(p *fault.Proxy) { p.Latency(fault.ToServer, 20*time.Millisecond) }},
		"bandwidth": {64 << 10, func(p *fault.Proxy) { p.Bandwidth(fault.ToServer, 256<<10) }},
		"loss": {256 << 10, func(p *fault.Proxy) {
			p.Loss(fault.ToServer, 0.3, time.Millisecond, 1)
		}},
		"slice": {8 << 10, func(p *fault.Proxy) { p.Slice(fault.ToServer, 1) }},
		"change at run time": {4 << 20, func(p *fault.Proxy) {
			p.StopReading(fault.ToServer, true)
			time.AfterFunc(20*time.Millisecond, p.Clear)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, client, server := setUp(t, c.set)
			want := []byte(strings.Repeat("0123456789abcde\n", c.size/16))
			var sending sync.WaitGroup
			sending.Go(func() {
				if _, err := client.Write(want); err != nil {
					t.Error(err)
				}
				_ = client.CloseWrite()
			})
			got, err := io.ReadAll(server)
			sending.Wait()
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got))
			switch name {
			case "latency":
				require.GreaterOrEqual(t, time.Since(start), 20*time.Millisecond)
			case "bandwidth":
				require.GreaterOrEqual(t, time.Since(start), 200*time.Millisecond)
			}
		})
	}
}

func TestStopReadingBlocksTheSender(t *testing.T) {
	t.Parallel()
	p, client, server := setUp(t, nil)
	p.StopReading(fault.ToServer, true)
	require.NoError(t, client.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	block := make([]byte, 1<<20)
	for i := 0; ; i++ {
		if _, err := client.Write(block); err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
		require.Less(t, i, 64, "64 MiB were taken")
	}
	silent(t, server)
	send(t, server, "the other direction")
	receive(t, client, "the other direction")
}

// TestUpsideDown: what is out of range is as near as it gets; a proxy of a test must
// not be what ends it.
func TestUpsideDown(t *testing.T) {
	t.Parallel()
	_, client, _ := setUp(t, func(p *fault.Proxy) { p.Lifetime(20*time.Millisecond, -time.Second, 1) })
	ended(t, client, syscall.ECONNRESET)
	_, client, _ = setUp(t, func(p *fault.Proxy) { p.CutAfter(fault.ToServer, -1, fault.RST) })
	send(t, client, "hello")
	ended(t, client, syscall.ECONNRESET)
}

func TestLifetime(t *testing.T) {
	t.Parallel()
	_, client, _ := setUp(t, func(p *fault.Proxy) {
		p.Lifetime(10*time.Millisecond, 20*time.Millisecond, 1)
	})
	start := time.Now()
	ended(t, client, syscall.ECONNRESET)
	require.Less(t, time.Since(start), limit/2)
}

func TestSlicesArrivePieceByPiece(t *testing.T) {
	t.Parallel()
	_, client, server := setUp(t, func(p *fault.Proxy) {
		p.Slice(fault.ToServer, 2)
		p.Bandwidth(fault.ToServer, 200)
	})
	// A machine that stalls for as long as the next piece takes may find two
	// of them, so one read of several that gives a single piece is enough.
	buf := make([]byte, 6)
	for range 20 {
		send(t, client, "abcdef")
		n, err := io.ReadAtLeast(server, buf, 1)
		require.NoError(t, err)
		_, err = io.ReadFull(server, buf[n:])
		require.NoError(t, err)
		require.Equal(t, "abcdef", string(buf))
		if n == 2 {
			return
		}
	}
	t.Fatal("no piece arrived alone")
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	p, _, _ := setUp(t, nil)
	var users sync.WaitGroup
	for i := range 4 {
		users.Go(func() {
			for range 50 {
				c, err := new(net.Dialer).DialContext(t.Context(), "tcp", p.Addr())
				if err == nil {
					_, _ = c.Write([]byte("x"))
					_ = c.Close()
				}
				switch i {
				case 0:
					p.CutAll(fault.RST)
				case 1:
					p.CutAll(fault.FIN)
				case 2:
					p.Clear()
				case 3:
					p.BlackHole(true)
				}
			}
		})
	}
	users.Wait()
	p.Close()
	p.Close()
	require.Zero(t, p.Open())
}
