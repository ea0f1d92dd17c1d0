// Package loopback finds TCP ports for test servers that are stopped and
// started again on the same port.
package loopback

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The ports are taken from below 32768, where Linux begins to give out source
// ports to outgoing connections: a port from there could be gone when its
// server comes back.
const (
	first = 15_000
	count = 17_000
)

// Listen listens on a free port of 127.0.0.1 that no outgoing connection gets
// by itself.
func Listen(ctx context.Context) (*net.TCPListener, error) {
	const attempts = 100
	var last error
	for range attempts {
		port := first + rand.IntN(count) //nolint:gosec // nothing depends on its being secret.
		ln, err := ListenOn(ctx, net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return ln, nil
		}
		last = err
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
// Nothing keeps the port until that server has taken it.
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
