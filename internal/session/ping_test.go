package session

import (
	"context"
	"sync/atomic"
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
	var asked atomic.Int32
	b := startBroker(t, brokertest.Options{Intercept: func(_ string, _ brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if p.Type == brokertest.PINGREQ {
			asked.Add(1)
		}
		return brokertest.Pass
	}})
	proxy := fault.Start(t, b.Addr())
	p := start(t, proxy.URL())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, p.link.Await(ctx))

	// Once the last sign of life is older than pingFresh there must be another.
	require.Eventually(t, func() bool { return p.link.Ping(ctx) == nil && asked.Load() > 0 }, patience, 10*time.Millisecond)
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
