package postgres

import (
	"context"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
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
	// A call that begins late on a busy machine does not wait for long enough to tell.
	for calls := 1; ; calls++ {
		require.LessOrEqual(t, calls, 5, "they are found one by one")
		short, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		_, err := s.Time(short)
		cancel()
		require.Error(t, err)
		// pgx does not close at once what a call was made on.
		if open := len(slices.DeleteFunc(slices.Clone(sockets), isClosed)); open <= calls {
			break
		}
	}
	proxy.BlackHole(false)
	_, err := s.Time(t.Context())
	require.NoError(t, err)
	proxy.CutAll(fault.RST) // pgx asks on a connection of its own for the end of the call
}

// isClosed tells whether a connection was closed here.
func isClosed(nc net.Conn) bool {
	raw, err := nc.(syscall.Conn).SyscallConn()
	return err != nil || raw.Control(func(uintptr) {}) != nil
}

// A call waits in vain for what a transaction has locked, and nothing else is asked
// meanwhile: the transaction goes on, though its connection was idle.
func TestTransactionOutlivesWhoWaitsForIt(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.SharedPostgres(t).URL(), Options{NoListen: true})
	claim := func(ctx context.Context, key string) error {
		_, err := s.Claim(ctx, persist.ClaimRequest{Group: "g", Owner: "o", TTL: time.Hour, Keys: []string{key}})
		return err
	}
	require.NoError(t, claim(t.Context(), "warm"))
	err := s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error {
		if _, err := p.Begin(ctx, "g", []string{"k"}, time.Hour); err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		require.ErrorIs(t, claim(short, "k"), context.DeadlineExceeded, "the key is in work")
		_, err := p.Tx().Exec(ctx, "SELECT 1")
		return err
	})
	require.NoError(t, err)
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
