// Package loopback finds TCP ports for test servers that are stopped and
// started again on the same port.
package loopback

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// The ports are taken from below 32768, where Linux begins to give out source
// ports to outgoing connections: a port from there could be gone when its
// server comes back.
const (
	first = 15_000
	count = 17_000
	// size is how many ports a block has.
	size = 100
)

// given are the blocks of ports that are this process's alone, so that a server that
// is down finds its port again whoever else looks for one meanwhile. That a block is
// taken shows, to other processes, the UDP port with its first number, which is held
// until the process ends.
//
//nolint:gochecknoglobals // the ports of the process, which is one.
var given struct {
	sync.Mutex
	marks     []net.PacketConn
	next, end int // of the last block
}

// port is one that this process has not given out before; if all blocks are taken it
// is any.
func port(ctx context.Context) int {
	given.Lock()
	defer given.Unlock()
	if given.next == given.end {
		const blocks = count / size
		from := rand.IntN(blocks) //nolint:gosec // nothing depends on its being secret.
		for i := range blocks {
			start := first + (from+i)%blocks*size
			mark, err := new(net.ListenConfig).ListenPacket(ctx, "udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(start)))
			if err == nil {
				given.marks = append(given.marks, mark)
				given.next, given.end = start, start+size
				break
			}
		}
	}
	if given.next == given.end {
		return first + rand.IntN(count) //nolint:gosec // as above.
	}
	given.next++
	return given.next - 1
}

// Listen listens on a free port of 127.0.0.1 that no outgoing connection gets
// by itself, and that nobody else gets by Listen or FreePort while this process lives.
func Listen(ctx context.Context) (*net.TCPListener, error) {
	const attempts = 1000
	var last error
	for range attempts {
		ln, err := ListenOn(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(port(ctx))))
		if err == nil {
			return ln, nil
		}
		last = err
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("loopback: no free port in %d attempts: %w", attempts, last)
}

// ListenOn listens on an address.
func ListenOn(ctx context.Context, addr string) (*net.TCPListener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}

// FreePort finds a port as Listen does, for a server that is another process.
// Nothing keeps the port from those who do not ask this package until that server has
// taken it.
func FreePort(ctx context.Context) (int, error) {
	ln, err := Listen(ctx)
	if err != nil {
		return 0, err
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		return 0, fmt.Errorf("loopback: %w", err)
	}
	return port, nil
}
