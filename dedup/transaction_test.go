package dedup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

func submitTx(t *testing.T, c *TxConsumer[*sql.Tx], d *txInbound) *txInbound {
	t.Helper()
	require.NoError(t, c.Submit(d, d.key, time.Time{}))
	return d
}

func TestTxEffectOncePerKey(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	c := startTx(t, txConfig(store))
	var all []*txInbound
	for i := range 200 {
		all = append(all, submitTx(t, c, newTxInbound(key(i%100))))
	}
	for i, d := range all {
		want := OutcomeProcessed
		if i >= 100 {
			want = OutcomeDuplicate
		}
		require.Equal(t, want, d.outcome(t))
	}
	effects := store.effects(t)
	require.Len(t, effects, 100)
	for k, n := range effects {
		require.Equal(t, 1, n, k)
	}
	_, commits := store.counts()
	require.Less(t, commits, 100, "handlers share transactions")
	require.Equal(t, Stats{Received: 200, Processed: 100, Duplicates: 100}, c.Stats())
}

// Whatever happens to the commit, each effect is there once, and nothing is
// acknowledged that is not durable (C2).
func TestTxCommitFails(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]fault{"fail": faultFail, "applied": faultApplied, "unknown": faultUnknown} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newTxStore(t)
			var calls atomic.Int64
			store.setDecide(func() fault {
				if calls.Add(1)%2 == 1 {
					return mode
				}
				return faultNone
			})
			var down, back atomic.Int64
			cfg := txConfig(store)
			cfg.MaxBatch = 20
			cfg.OnStoreError = func(error) { down.Add(1) }
			cfg.OnStoreBack = func() { back.Add(1) }
			c := startTx(t, cfg)
			var all []*txInbound
			for i := range 50 {
				all = append(all, submitTx(t, c, newTxInbound(key(i))))
			}
			for _, d := range all {
				require.True(t, d.outcome(t).Acknowledge())
				require.Positive(t, store.effects(t)[d.key])
			}
			for i := range 50 {
				require.Equal(t, 1, store.effects(t)[key(i)])
			}
			require.Positive(t, down.Load())
			require.Eventually(t, func() bool { return back.Load() > 0 }, patience, time.Millisecond)
		})
	}
}

// A handler that fails or panics undoes its own writes and its own mark, and
// nobody else's.
func TestTxHandlerFails(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	c := startTx(t, txConfig(store))
	fails, panics := newTxInbound("fails"), newTxInbound("panics")
	boom := errors.New("boom")
	var seen []int
	fails.process = func(context.Context, *sql.Tx, Grant) error {
		if len(seen) < 2 {
			return boom
		}
		return nil
	}
	fails.failed = func(err error, attempts int) Verdict {
		require.ErrorIs(t, err, boom)
		seen = append(seen, attempts)
		return Verdict{After: time.Millisecond}
	}
	panics.process = func(context.Context, *sql.Tx, Grant) error { panic(boom) }
	panics.failed = func(err error, attempts int) Verdict {
		var p *PanicError
		require.ErrorAs(t, err, &p)
		require.ErrorIs(t, err, boom)
		require.Contains(t, string(p.Stack), "transaction_test.go")
		if attempts < 3 {
			return Verdict{}
		}
		return Verdict{Dead: letterFor(err.Error())}
	}
	releases := newTxInbound("releases")
	releases.process = func(context.Context, *sql.Tx, Grant) error { return boom }
	releases.failed = func(error, int) Verdict { return Verdict{Release: true} }

	good := submitTx(t, c, newTxInbound("good"))
	submitTx(t, c, fails)
	submitTx(t, c, panics)
	submitTx(t, c, releases)
	last := submitTx(t, c, newTxInbound("last"))
	require.Equal(t, OutcomeProcessed, good.outcome(t))
	require.Equal(t, OutcomeProcessed, last.outcome(t))
	require.Equal(t, OutcomeProcessed, fails.outcome(t))
	require.Equal(t, OutcomeDead, panics.outcome(t))
	require.Equal(t, OutcomeReleased, releases.outcome(t))
	require.Equal(t, []int{1, 2}, seen)
	require.Equal(t, map[string]int{"good": 1, "fails": 1, "last": 1}, store.effects(t))
	require.Equal(t, map[string]int{"panics": 1}, store.letters(t))

	// The dead letter's key is done with; the released one is not.
	require.Equal(t, OutcomeDuplicate, submitTx(t, c, newTxInbound("panics")).outcome(t))
	require.Equal(t, OutcomeProcessed, submitTx(t, c, newTxInbound("releases")).outcome(t))
}

// A failure of a handler while the store is down is not held against it.
func TestTxFailureCountsOnlyOnceCommitted(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	var calls atomic.Int64
	store.setDecide(func() fault {
		if calls.Add(1) <= 4 {
			return faultUnknown
		}
		return faultNone
	})
	c := startTx(t, txConfig(store))
	d := newTxInbound("a")
	d.process = func(context.Context, *sql.Tx, Grant) error { return errors.New("boom") }
	var last int
	d.failed = func(_ error, attempts int) Verdict {
		last = attempts
		if attempts < 3 {
			return Verdict{}
		}
		return Verdict{Dead: letterFor("dead")}
	}
	submitTx(t, c, d)
	require.Equal(t, OutcomeDead, d.outcome(t))
	require.Equal(t, 3, last)
	starts, _ := store.counts()
	require.GreaterOrEqual(t, starts, 6)
}

// Handlers run in the order of the submissions, also after transactions that
// failed.
func TestTxKeepsOrder(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	var calls atomic.Int64
	store.setDecide(func() fault {
		return [...]fault{faultNone, faultUnknown, faultFail}[calls.Add(1)%3]
	})
	cfg := txConfig(store)
	cfg.MaxBatch = 7
	c := startTx(t, cfg)
	var all []*txInbound
	for i := range 60 {
		all = append(all, submitTx(t, c, newTxInbound(key(i))))
	}
	for _, d := range all {
		require.Equal(t, OutcomeProcessed, d.outcome(t))
	}
	rows, err := store.db.QueryContext(t.Context(), "SELECT key FROM effects ORDER BY rowid")
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for i := range 60 {
		require.True(t, rows.Next())
		var k string
		require.NoError(t, rows.Scan(&k))
		require.Equal(t, key(i), k)
	}
	require.NoError(t, rows.Err())
}

func TestTxBusyElsewhereIsHeld(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	store.busy["a"] = time.Hour
	c := startTx(t, txConfig(store))
	a := submitTx(t, c, newTxInbound("a"))
	b := submitTx(t, c, newTxInbound("b"))
	require.Equal(t, OutcomeProcessed, b.outcome(t))
	require.Eventually(t, func() bool { return c.Stats().Held == 1 }, patience, time.Millisecond)
	require.Empty(t, a.settled)
	store.mu.Lock()
	delete(store.busy, "a")
	store.mu.Unlock()
	require.Equal(t, OutcomeProcessed, a.outcome(t))
	require.Equal(t, map[string]int{"a": 1, "b": 1}, store.effects(t))
}

func TestTxUnkeyedAndLetters(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	c := startTx(t, txConfig(store))
	for range 2 {
		require.Equal(t, OutcomeProcessed, submitTx(t, c, newTxInbound("")).outcome(t))
	}
	bad := newTxInbound("")
	bad.process = func(context.Context, *sql.Tx, Grant) error { return errors.New("boom") }
	bad.failed = func(error, int) Verdict { return Verdict{Dead: letterFor("dead")} }
	require.Equal(t, OutcomeDead, submitTx(t, c, bad).outcome(t))
	require.Equal(t, map[string]int{"": 2}, store.effects(t))
	require.Equal(t, int64(3), c.Stats().Unkeyed)
}

// A dead letter that the store refuses keeps its message un-acked, and stops no
// other.
func TestTxRefusedLetterIsHeldAlone(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	c := startTx(t, txConfig(store))
	bad := newTxInbound("bad")
	bad.process = func(context.Context, *sql.Tx, Grant) error { return errors.New("boom") }
	bad.failed = func(error, int) Verdict { return Verdict{Dead: letterFor("")} }
	submitTx(t, c, bad)
	for i := range 10 {
		require.Equal(t, OutcomeProcessed, submitTx(t, c, newTxInbound(key(i))).outcome(t))
	}
	require.Eventually(t, func() bool { return c.Stats().Held == 1 }, patience, time.Millisecond)
	require.Empty(t, bad.settled)
	c.mu.Lock()
	require.Greater(t, c.held.nodes[0].retryAt-c.now(), refusedPause/2, "the store is hammered")
	c.mu.Unlock()
	c.Release(bad)
	require.Equal(t, OutcomeReleased, bad.outcome(t))
}

// A slow handler ends the batch, so that it holds the write lock for itself only.
func TestTxMaxHoldCutsTheBatch(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	cfg := txConfig(store)
	cfg.MaxHold = time.Nanosecond
	c := startTx(t, cfg)
	var all []*txInbound
	for i := range 10 {
		all = append(all, submitTx(t, c, newTxInbound(key(i))))
	}
	for _, d := range all {
		require.Equal(t, OutcomeProcessed, d.outcome(t))
	}
	_, commits := store.counts()
	require.Equal(t, 10, commits)
}

func TestTxClose(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	c, err := NewTx(txConfig(store))
	require.NoError(t, err)
	running, finish := make(chan struct{}), make(chan struct{})
	first := newTxInbound("first")
	first.process = func(context.Context, *sql.Tx, Grant) error {
		close(running)
		<-finish
		return nil
	}
	submitTx(t, c, first)
	<-running
	waiting := submitTx(t, c, newTxInbound("waiting"))
	closed := make(chan error, 1)
	go func() { closed <- c.Close(context.Background()) }()
	require.Equal(t, OutcomeReleased, waiting.outcome(t))
	require.ErrorIs(t, c.Submit(newTxInbound("x"), "x", time.Time{}), ErrClosed)
	require.Empty(t, closed)
	close(finish)
	require.NoError(t, <-closed)
	require.Equal(t, OutcomeProcessed, <-first.settled)
	require.NoError(t, c.Close(context.Background()))
	require.Zero(t, c.Stats().Open)
}

func TestTxCloseGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	c, err := NewTx(txConfig(store))
	require.NoError(t, err)
	running := make(chan struct{})
	d := newTxInbound("a")
	d.process = func(ctx context.Context, _ *sql.Tx, _ Grant) error {
		close(running)
		<-ctx.Done()
		return ctx.Err()
	}
	submitTx(t, c, d)
	<-running
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.ErrorIs(t, c.Close(ctx), context.Canceled)
	require.Equal(t, OutcomeReleased, <-d.settled)
	require.Empty(t, store.effects(t))
}

// Two replicas with one file: no effect is doubled or lost, whoever gets what.
func TestTxReplicas(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	one, two := startTx(t, txConfig(store)), startTx(t, txConfig(store))
	var all []*txInbound
	for i := range 300 {
		all = append(all, submitTx(t, one, newTxInbound(key(i))), submitTx(t, two, newTxInbound(key(i))))
	}
	for _, d := range all {
		require.True(t, d.outcome(t).Acknowledge())
	}
	effects := store.effects(t)
	require.Len(t, effects, 300)
	for k, n := range effects {
		require.Equal(t, 1, n, k)
	}
	require.Equal(t, int64(300), one.Stats().Duplicates+two.Stats().Duplicates)
}

func TestTxConfigTellsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := NewTx(TxConfig[*sql.Tx]{Window: 1, ClockSkew: -1, MaxWait: -1, MaxBatch: -1, PollInterval: -1, SweepInterval: -1, StoreTimeout: -1, HandlerTimeout: -1, MaxHold: 2 * time.Second, Timeout: time.Second})
	require.ErrorIs(t, err, persist.ErrInvalid)
	for _, field := range []string{"Store", "Group", "Window", "ClockSkew", "MaxWait", "MaxBatch", "PollInterval", "SweepInterval", "StoreTimeout", "HandlerTimeout", "Timeout"} {
		require.ErrorContains(t, err, field)
	}
	require.ErrorContains(t, fmt.Errorf("x: %w", &PanicError{Value: 3}), "handler panicked: 3")
	require.NoError(t, errors.Unwrap(&PanicError{Value: 3}))
}
