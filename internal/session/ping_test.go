package session

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// TestPing: a server that answers, one that has gone silent on a connection that
// stands, and none.
func TestPing(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	proxy := fault.Start(t, b.Addr())
	p := start(t, proxy.URL())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, p.link.Await(ctx))
	require.NoError(t, p.link.Ping(ctx))

	// What comes within pingFresh after a sign of life counts as one.
	proxy.BlackHole(true)
	silent := func() error {
		short, cancel := context.WithTimeout(t.Context(), 2*pingFresh)
		defer cancel()
		return p.link.Ping(short)
	}
	require.Eventually(t, func() bool { return silent() != nil }, patience, time.Millisecond)
	require.ErrorIs(t, silent(), ErrNoAnswer)
	require.True(t, p.link.Engine().Snapshot().Connected, "asking ends no connection")

	proxy.BlackHole(false) // for new connections
	require.NoError(t, proxy.Refuse(true))
	p.link.Drop()
	require.Eventually(t, func() bool { return !p.link.Engine().Snapshot().Connected }, patience, time.Millisecond)
	require.ErrorIs(t, p.link.Ping(ctx), ErrConnectionLost)
	require.NoError(t, proxy.Refuse(false))
	require.Eventually(t, func() bool { return p.link.Engine().Snapshot().Connected }, patience, time.Millisecond)
	require.NoError(t, p.link.Ping(ctx))
	require.Empty(t, b.Violations())
}
