package loopback_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/loopback"
)

func TestAPortCanBeTakenAgain(t *testing.T) {
	t.Parallel()
	ln, err := loopback.Listen(t.Context())
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.Less(t, ln.Addr().(*net.TCPAddr).Port, 32768)
	_, err = loopback.ListenOn(t.Context(), addr)
	require.Error(t, err)
	require.NoError(t, ln.Close())
	ln, err = loopback.ListenOn(t.Context(), addr)
	require.NoError(t, err)
	require.NoError(t, ln.Close())
}

func TestFreePortIsFree(t *testing.T) {
	t.Parallel()
	port, err := loopback.FreePort(t.Context())
	require.NoError(t, err)
	ln, err := loopback.ListenOn(t.Context(), net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	require.NoError(t, err)
	require.NoError(t, ln.Close())
}
