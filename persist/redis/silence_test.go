package redis

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
)

// All connections of a pool have died without a word, and one call finds it out: the
// next does not wait for any other of them.
func TestSilenceIsFoundOnce(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	t.Run("plain", func(t *testing.T) {
		t.Parallel()
		proxy := fault.Start(t, server.Addr())
		findSilence(t, proxy, server.URLAt(proxy.Addr())+"?prefix=plain")
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		proxy := fault.Start(t, server.Addr())
		findSilence(t, proxy, "rediss://"+encrypted(t, proxy.Addr())+"/0?prefix=tls&skip_verify=true")
	})
}

// encrypted is the address of a server that speaks TLS, and passes on to another what
// it decrypts.
func encrypted(t *testing.T, addr string) string {
	t.Helper()
	certificates := httptest.NewUnstartedServer(nil)
	certificates.StartTLS()
	config := certificates.TLS.Clone()
	config.NextProtos = nil
	certificates.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	require.NoError(t, err)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		_ = ln.Close()
		cancel()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { passOn(ctx, nc, addr) })
		}
	})
	return ln.Addr().String()
}

// passOn connects a connection with another, until either or ctx ends.
func passOn(ctx context.Context, nc net.Conn, addr string) {
	defer func() { _ = nc.Close() }()
	other, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer func() { _ = other.Close() }()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{nc, other}, {other, nc}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			ended <- struct{}{}
		}()
	}
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

func findSilence(t *testing.T, proxy *fault.Proxy, address string) {
	t.Helper()
	const conns = 20
	s := openStore(t, address+"&pool_size=20", Options{})
	client, ok := s.client.(*goredis.Client)
	require.True(t, ok)
	idle := make([]*goredis.Conn, conns)
	for i := range idle {
		idle[i] = client.Conn()
		require.NoError(t, idle[i].Ping(t.Context()).Err())
	}
	for _, c := range idle {
		require.NoError(t, c.Close())
	}
	require.EqualValues(t, conns, client.PoolStats().IdleConns)
	proxy.BlackHole(true)
	short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := s.Time(short)
	require.Error(t, err)
	proxy.BlackHole(false)
	next, cancel := context.WithTimeout(t.Context(), client.Options().ReadTimeout-500*time.Millisecond)
	defer cancel()
	_, err = s.Time(next) // another of them would take all of it
	require.NoError(t, err)
}
