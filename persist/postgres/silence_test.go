package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// All connections of a pool have died without a word, and one call finds it out: the
// next does not wait for any other of them.
func TestSilenceIsFoundOnce(t *testing.T) {
	t.Parallel()
	const conns = 20
	pg := testenv.SharedPostgres(t)
	proxy := fault.Start(t, pg.Addr())
	s := openStore(t, pg.URLAt(proxy.Addr()), Options{MaxConns: conns})
	idle := make([]*pgxpool.Conn, conns)
	for i := range idle {
		var err error
		idle[i], err = s.pool.Acquire(t.Context())
		require.NoError(t, err)
	}
	for _, c := range idle {
		c.Release()
	}
	proxy.BlackHole(true)
	short, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	_, err := s.Time(short)
	require.Error(t, err)
	proxy.BlackHole(false)
	begun := time.Now()
	_, err = s.Time(t.Context())
	require.NoError(t, err)
	// Another of them would cost a ping's second at least.
	require.Less(t, time.Since(begun), pingTimeout)
	proxy.CutAll(fault.RST) // pgx asks on a connection of its own for the end of the call
}

// Close does not wait longer for a connection that died without a word than it may.
func TestCloseAfterASilence(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	proxy := fault.Start(t, pg.Addr())
	s := openStore(t, pg.URLAt(proxy.Addr()), Options{NoListen: true})
	_, err := s.Time(t.Context())
	require.NoError(t, err)
	proxy.BlackHole(true)
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = s.Time(short)
	require.Error(t, err)
	require.ErrorIs(t, s.Close(short), context.DeadlineExceeded)
	_, err = s.Time(t.Context())
	require.ErrorIs(t, err, persist.ErrClosed)
	proxy.BlackHole(false)
	proxy.CutAll(fault.RST) // the rest is soon over
	require.NoError(t, s.Close(t.Context()))
}
