package session

import (
	"context"
	"crypto/tls"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/loopback"
)

// A server that refuses the client's certificate says why, also if it resets the
// connection before it has read anything.
func TestAlertBeforeReset(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	ln, err := loopback.Listen(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = ln.Close() })
	refused := make(chan struct{})
	go func() {
		defer close(refused)
		nc, err := ln.AcceptTCP()
		if err != nil {
			t.Error(err)
			return
		}
		server := tls.Server(nc, &tls.Config{
			Certificates: []tls.Certificate{a.issue("127.0.0.1", time.Time{})}, ClientCAs: a.pool, ClientAuth: tls.RequireAndVerifyClientCert,
		})
		if server.HandshakeContext(context.WithoutCancel(t.Context())) == nil {
			t.Error("it has no certificate")
		}
		if err := nc.SetLinger(0); err != nil {
			t.Error(err)
		}
		_ = nc.Close()
	}()
	nc, err := dial(t.Context(), &url.URL{Scheme: "mqtts", Host: ln.Addr().String()}, &tls.Config{RootCAs: a.pool}, nil, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	<-refused
	_, err = nc.Write([]byte("CONNECT"))
	require.ErrorContains(t, err, "certificate required")
	_, err = nc.Read(make([]byte, 1))
	require.Error(t, err)
	require.NotErrorIs(t, err, net.ErrClosed, "the alert as well")
}
