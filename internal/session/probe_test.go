package session

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// TestProbeIsCancelled: who waits for a server that takes CONNECT and says nothing need
// not wait any longer than its context lasts.
func TestProbeIsCancelled(t *testing.T) {
	t.Parallel()
	for name, silent := range map[string]func(t *testing.T, asked func()) string{
		"mqtt": func(t *testing.T, asked func()) string {
			t.Helper()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			done := make(chan struct{})
			t.Cleanup(func() { _ = ln.Close(); <-done })
			go func() {
				defer close(done)
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				defer func() { _ = nc.Close() }()
				if _, err := nc.Read(make([]byte, 1)); err == nil {
					asked()
				}
				_, _ = io.Copy(io.Discard, nc) // until the client goes
			}()
			return "mqtt://" + ln.Addr().String()
		},
		"ws": func(t *testing.T, asked func()) string {
			t.Helper()
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				ws, err := (&websocket.Upgrader{Subprotocols: []string{"mqtt"}}).Upgrade(w, r, nil)
				if err != nil {
					return
				}
				defer func() { _ = ws.Close() }()
				for {
					if _, _, err := ws.ReadMessage(); err != nil {
						return
					}
					asked()
				}
			}))
			t.Cleanup(s.Close)
			return strings.Replace(s.URL, "http", "ws", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			u, err := url.Parse(silent(t, cancel))
			require.NoError(t, err)
			cfg := testConfig("mqtt://unused")
			cfg.ConnectTimeout = 40 * time.Second
			began := time.Now()
			_, err = OpenProbe(ctx, cfg, u)
			require.ErrorIs(t, err, context.Canceled)
			require.Less(t, time.Since(began), cfg.ConnectTimeout/2)
		})
	}
}

// TestProbeAfterCancel: a call that was cancelled takes nothing from the next one.
func TestProbeAfterCancel(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	cfg := testConfig(b.URL())
	cfg.ConnectTimeout = time.Minute
	p, err := OpenProbe(t.Context(), cfg, cfg.Servers[0])
	require.NoError(t, err)
	defer p.Drop()
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		go cancel()
		_, err = p.Receive(ctx)
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, p.Ping(within(t, time.Minute)))
		// The end of the context and the answer may come together.
		ctx, cancel = context.WithCancel(t.Context())
		go cancel()
		if err := p.Ping(ctx); err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
		require.NoError(t, p.Ping(within(t, time.Minute)))
	}
}
