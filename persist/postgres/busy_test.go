package postgres

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// A call that finds no free connection says so.
func TestAllConnectionsInUse(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.SharedPostgres(t).URL(), Options{NoListen: true, MaxConns: 1})
	c, err := s.pool.Acquire(t.Context())
	require.NoError(t, err)
	defer c.Release()
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = s.Time(short)
	require.ErrorIs(t, err, persist.ErrBusy)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// lasting takes so long in a transaction.
type lasting struct {
	dedup.Node
	takes   time.Duration
	runs    atomic.Int32
	settled chan dedup.Outcome
}

func (d *lasting) Process(ctx context.Context, _ pgx.Tx, _ dedup.Grant) error {
	d.runs.Add(1)
	timer := time.NewTimer(d.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *lasting) Failed(err error, _ int) dedup.Verdict {
	return dedup.Verdict{Dead: &persist.DeadLetter{Message: persist.Message{ID: "m", Topic: "t"}, Reason: err.Error()}}
}

func (d *lasting) Settled(o dedup.Outcome) { d.settled <- o }

// Handlers have all connections of the pool: nobody can ask whether the store answers,
// and that is no silence of the store for which a transaction is to be done again.
func TestFullPoolIsNoSilence(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.SharedPostgres(t).URL(), Options{NoListen: true, MaxConns: 2})
	submit := func(group, key string, takes time.Duration) *lasting {
		c, err := dedup.NewTx(dedup.TxConfig[pgx.Tx]{Store: s, Group: group})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.Close(context.Background())) })
		d := &lasting{takes: takes, settled: make(chan dedup.Outcome, 1)}
		require.NoError(t, c.Submit(d, key, time.Time{}))
		return d
	}
	long := submit("a", "k", 5*time.Second)
	short := submit("b", "k", 3*time.Second)
	require.Equal(t, dedup.OutcomeProcessed, <-short.settled)
	require.Equal(t, dedup.OutcomeProcessed, <-long.settled)
	require.EqualValues(t, 1, long.runs.Load())
}
