package postgres

import (
	"context"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
)

// All connections of a pool have died without a word, and one call finds it out: the
// next does not wait for any other of them.
func TestSilenceIsFoundOnce(t *testing.T) {
	t.Parallel()
	const conns = 20
	pg := testenv.SharedPostgres(t)
	proxy := fault.Start(t, pg.Addr())
	s := openStore(t, pg.URLAt(proxy.Addr()), Options{MaxConns: conns})
	idle, sockets := make([]*pgxpool.Conn, conns), make([]net.Conn, conns)
	for i := range idle {
		var err error
		idle[i], err = s.pool.Acquire(t.Context())
		require.NoError(t, err)
		sockets[i] = idle[i].Conn().PgConn().Conn()
	}
	for _, c := range idle {
		c.Release()
	}
	proxy.BlackHole(true)
	// One by one they would take longer than this waits.
	require.Eventually(t, func() bool {
		short, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		_, err := s.Time(short)
		return err != nil && !slices.ContainsFunc(sockets, isOpen)
	}, testenv.DefaultTimeout, time.Millisecond)
	proxy.BlackHole(false)
	_, err := s.Time(t.Context())
	require.NoError(t, err)
	proxy.CutAll(fault.RST) // pgx asks on a connection of its own for the end of the call
}

// isOpen tells whether a connection was not closed here.
func isOpen(nc net.Conn) bool {
	raw, err := nc.(syscall.Conn).SyscallConn()
	return err == nil && raw.Control(func(uintptr) {}) == nil
}
