package dedup

import (
	"context"
	"database/sql"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A handler that does not return kept Close waiting, whatever patience its context
// said. It is left behind, its message is given back, and what it does later changes
// nothing.
func TestTxCloseLeavesAStuckHandlerBehind(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	var stuck atomic.Int64
	cfg := txConfig(store)
	cfg.HandlerTimeout = time.Hour
	cfg.OnStuck = func(change int) { stuck.Add(int64(change)) }
	c := startTx(t, cfg)
	begun, leave, late := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	d := newTxInbound("stuck")
	d.process = func(_ context.Context, tx *sql.Tx, _ Grant) error {
		close(begun)
		<-leave
		_, err := tx.ExecContext(context.Background(), "INSERT INTO effects VALUES ('late', 1)")
		late <- err
		return nil
	}
	submitTx(t, c, d)
	<-begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, c.Close(ctx), context.Canceled)
	require.Equal(t, OutcomeReleased, d.outcome(t))
	require.EqualValues(t, 1, stuck.Load())
	close(leave)
	require.Error(t, <-late)
	require.Eventually(t, func() bool { return stuck.Load() == 0 }, patience, time.Millisecond)
	require.Empty(t, store.effects(t))
}

// Handlers that return in time, one of them within the grace, share a transaction as
// they do without a limit, and one that fails costs the others nothing.
func TestTxHandlersInTime(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	cfg := txConfig(store)
	cfg.HandlerTimeout = 3 * time.Second
	cfg.OnStuck = func(int) { t.Error("a handler was left behind") }
	c := startTx(t, cfg)
	var all []*txInbound
	for i := range 20 {
		d := newTxInbound(key(i))
		switch i {
		case 3:
			d.process = func(ctx context.Context, _ *sql.Tx, _ Grant) error {
				<-ctx.Done() // heeds it, and has done what it had to
				return nil
			}
		case 5:
			d.process = func(_ context.Context, _ *sql.Tx, g Grant) error {
				if g.Attempts == 1 {
					return context.DeadlineExceeded
				}
				return nil
			}
		}
		all = append(all, submitTx(t, c, d))
	}
	for _, d := range all {
		require.Equal(t, OutcomeProcessed, d.outcome(t))
		require.Equal(t, 1, store.effects(t)[d.key])
	}
}
