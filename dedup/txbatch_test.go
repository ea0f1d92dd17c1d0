package dedup

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A handler can spoil the transaction that it shares: by ending it, by a
// constraint that is checked at commit, or by running too long. It is found, and
// judged; the others have their effects.
func TestTxHandlerSpoilsTransaction(t *testing.T) {
	t.Parallel()
	spoilers := map[string]func(context.Context, *sql.Tx, Grant) error{
		"ends it": func(_ context.Context, tx *sql.Tx, _ Grant) error {
			return errors.Join(errors.New("ended"), tx.Rollback())
		},
		"ends it and says nothing": func(_ context.Context, tx *sql.Tx, _ Grant) error {
			return tx.Rollback()
		},
		"deferred constraint": func(ctx context.Context, tx *sql.Tx, _ Grant) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO child VALUES (1)")
			return err
		},
		"too long": func(ctx context.Context, _ *sql.Tx, _ Grant) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"too long and says nothing": func(ctx context.Context, _ *sql.Tx, _ Grant) error {
			<-ctx.Done()
			return nil
		},
	}
	for name, spoil := range spoilers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newTxStore(t)
			cfg := txConfig(store)
			cfg.MaxHold = 10 * time.Second
			if name == "too long" || name == "too long and says nothing" {
				cfg.MaxHold = 20 * time.Millisecond
				cfg.Timeout = 200 * time.Millisecond
			}
			c := startTx(t, cfg)
			// The first transaction waits until all of them are queued.
			queued := make(chan struct{})
			first := newTxInbound("first")
			first.process = func(context.Context, *sql.Tx, Grant) error { <-queued; return nil }
			submitTx(t, c, first)
			var attempts []int
			bad := newTxInbound("bad")
			bad.process = spoil
			bad.failed = func(_ error, n int) Verdict {
				attempts = append(attempts, n)
				if n < 2 {
					return Verdict{}
				}
				return Verdict{Dead: letterFor("spoils")}
			}
			var good []*txInbound
			for i := range 10 {
				if i == 5 {
					submitTx(t, c, bad)
				}
				good = append(good, submitTx(t, c, newTxInbound(key(i))))
			}
			close(queued)
			for _, d := range append(good, first) {
				require.Equal(t, OutcomeProcessed, d.outcome(t))
			}
			require.Equal(t, OutcomeDead, bad.outcome(t))
			require.Subset(t, attempts, []int{1, 2})
			require.Equal(t, map[string]int{"bad": 1}, store.letters(t))
			effects := store.effects(t)
			require.Zero(t, effects["bad"])
			require.Len(t, effects, 11)
			require.NoError(t, c.Stats().StoreError)
		})
	}
}

// One handler for many: its writes and their marks are one, and a delivery that
// fails it is found without the others having an effect twice.
func TestTxBatchHandler(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	cfg := txConfig(store)
	queued := make(chan struct{})
	var sizes []int
	cfg.Batch = func(ctx context.Context, tx *sql.Tx, batch []TxGrant[*sql.Tx]) error {
		<-queued
		sizes = append(sizes, len(batch))
		var bad error
		for _, d := range batch {
			in := d.Delivery.(*txInbound)
			if _, err := tx.ExecContext(ctx, "INSERT INTO effects VALUES (?, 1)", in.key); err != nil {
				return err
			}
			switch in.key {
			case key(3):
				bad = errors.New("bad")
			case key(4):
				panic("bad")
			}
		}
		return bad
	}
	c := startTx(t, cfg)
	var all []*txInbound
	for i := range 60 {
		d := newTxInbound(key(i % 30))
		d.failed = func(_ error, attempts int) Verdict {
			if attempts < 2 {
				return Verdict{}
			}
			return Verdict{Dead: letterFor("bad")}
		}
		all = append(all, submitTx(t, c, d))
	}
	close(queued)
	for _, d := range all {
		require.True(t, d.outcome(t).Acknowledge())
	}
	more := []*txInbound{submitTx(t, c, newTxInbound("x")), submitTx(t, c, newTxInbound(""))}
	for _, d := range more {
		require.Equal(t, OutcomeProcessed, d.outcome(t))
	}
	effects := store.effects(t)
	require.Len(t, effects, 30)
	for i := range 30 {
		want := 1
		if i == 3 || i == 4 {
			want = 0
		}
		require.Equal(t, want, effects[key(i)])
	}
	require.Equal(t, map[string]int{key(3): 1, key(4): 1}, store.letters(t))
	s := c.Stats()
	require.Equal(t, int64(2), s.Dead)
	require.Equal(t, int64(30), s.Processed)
	require.Equal(t, int64(30), s.Duplicates)
	require.Greater(t, slices.Max(sizes), 1)
}

// What has failed is tried again by itself, so that it fails no second batch.
func TestTxBatchTriesAgainAlone(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	cfg := txConfig(store)
	cfg.MaxBatch, cfg.MaxWait = 20, 10*time.Second
	var together int
	cfg.Batch = func(ctx context.Context, tx *sql.Tx, batch []TxGrant[*sql.Tx]) error {
		if err := insertAll(ctx, tx, batch); err != nil {
			return err
		}
		for _, g := range batch {
			d, _ := g.Delivery.(*txInbound)
			if d.key != "bad" {
				continue
			}
			if len(batch) > 1 {
				together++
			}
			return errors.New("bad")
		}
		return nil
	}
	c := startTx(t, cfg)
	bad := newTxInbound("bad")
	failed := make(chan int, 3)
	bad.failed = func(_ error, attempts int) Verdict {
		failed <- attempts
		if attempts < 3 {
			return Verdict{After: 20 * time.Millisecond}
		}
		return Verdict{Dead: letterFor("bad")}
	}
	var good []*txInbound
	submitTx(t, c, bad)
	for i := range 19 {
		good = append(good, submitTx(t, c, newTxInbound(key(i))))
	}
	for attempt := 1; attempt <= 2; attempt++ {
		require.Equal(t, attempt, <-failed)
		// One less than a batch: the one that is tried again would fill it.
		for i := range 19 {
			good = append(good, submitTx(t, c, newTxInbound(key(100*attempt+i))))
		}
	}
	require.Equal(t, 3, <-failed)
	require.Equal(t, OutcomeDead, bad.outcome(t))
	for _, d := range good {
		require.Equal(t, OutcomeProcessed, d.outcome(t))
	}
	require.Equal(t, 1, together)
	require.Len(t, store.effects(t), 57)
}

// At an end in good order nothing waits for another attempt, or for company; what
// was begun is finished.
func TestTxHasten(t *testing.T) {
	t.Parallel()
	store := newTxStore(t)
	c := startTx(t, txConfig(store))
	fails := func(name string) (*txInbound, chan struct{}) {
		d, judged := newTxInbound(name), make(chan struct{}, 1)
		d.process = func(context.Context, *sql.Tx, Grant) error { return errors.New("fails") }
		d.failed = func(error, int) Verdict {
			judged <- struct{}{}
			return Verdict{After: time.Hour}
		}
		return submitTx(t, c, d), judged
	}
	before, judged := fails("before")
	<-judged
	require.Eventually(t, func() bool { return c.Stats().Held == 1 }, patience, time.Millisecond)
	c.Hasten()
	require.Equal(t, OutcomeReleased, before.outcome(t))
	after, _ := fails("after")
	require.Equal(t, OutcomeReleased, after.outcome(t))
	require.Equal(t, OutcomeProcessed, submitTx(t, c, newTxInbound("good")).outcome(t))
	require.Equal(t, map[string]int{"good": 1}, store.effects(t))
}
