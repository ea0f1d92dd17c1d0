package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// A transaction takes positions and stays open, and the lane's cursor passes them.
// The server is killed before it has written down that they were taken, and gives
// them out again. What is confirmed at one of them is handed out: the crash has
// ended the lease, and the next one begins anew.
func TestCrashTakesPositionsBack(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{})
	s, pool := openStore(t, pg.URL(), Options{NoListen: true}), openPool(t, pg.URL())
	l := acquire(t, s)
	pg.Exec("CHECKPOINT")
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{plainMessage("1"), plainMessage("2"), plainMessage("3")})
	require.NoError(t, err)
	require.Empty(t, next(t, l))
	seen := l.cursor
	pg.Kill()
	pg.Start()
	_ = tx.Rollback(context.Background()) // it went with the server
	var places []persist.Enqueued
	require.Eventually(t, func() bool {
		places, err = s.Enqueue(t.Context(), []persist.Message{plainMessage("confirmed")})
		return err == nil
	}, 5*time.Second, 10*time.Millisecond)
	t.Logf("the positions were taken back: %t", places[0].Position <= seen)
	_, err = l.Next(t.Context(), 100, 1<<20)
	require.ErrorIs(t, err, persist.ErrLeaseLost)
	require.Equal(t, []string{"confirmed"}, next(t, acquire(t, s)))
}

// A holder hands out a message whose commit a failover takes back, as it may the
// lease itself. Its position goes to another message, and the next lease would have
// had the same epoch. The holder can neither settle the other message nor do
// anything else.
func TestFailoverTakesCommitsBack(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{NoListen: true}), openPool(t, url)
	for _, loss := range []string{"lease stays", "lease is lost"} {
		l := acquire(t, s)
		enqueue(t, s, "mine")
		entries, err := l.Next(t.Context(), 10, 1<<20)
		require.NoError(t, err)
		// What a promotion does to an unlogged table.
		_, err = pool.Exec(t.Context(), "TRUNCATE oncemq.life")
		require.NoError(t, err)
		require.Zero(t, remaining(t, s), "whoever looks for a free lane finds it")
		var successor *lane
		if loss == "lease is lost" {
			_, err = pool.Exec(t.Context(), "UPDATE oncemq.lanes SET epoch = epoch - 1, holder = 0")
			require.NoError(t, err)
			successor = acquire(t, s)
			require.Greater(t, successor.epoch, l.epoch)
		}
		settlements := []persist.Settlement{{Position: entries[0].Position, Outcome: persist.OutcomeDelivered}}
		require.ErrorIs(t, l.SaveSession(t.Context(), "c", nil), persist.ErrLeaseLost, loss)
		require.ErrorIs(t, l.Renew(t.Context(), time.Hour, true), persist.ErrLeaseLost, loss)
		_, err = l.Next(t.Context(), 10, 1<<20)
		require.ErrorIs(t, err, persist.ErrLeaseLost, loss)
		require.ErrorIs(t, l.Settle(t.Context(), settlements), persist.ErrLeaseLost, loss)
		_, err = l.Acknowledge(t.Context(), []persist.Receipt{{ID: "mine"}})
		require.ErrorIs(t, err, persist.ErrLeaseLost, loss)
		if successor == nil {
			successor = acquire(t, s) // at once, although the lease was long
		}
		require.Positive(t, remaining(t, s), loss)
		require.Equal(t, []string{"mine"}, next(t, successor), loss)
		require.NoError(t, successor.Settle(t.Context(), settlements))
		require.NoError(t, successor.Release(t.Context()))
	}
}

// remaining is what the list of lanes says of the lease.
func remaining(t *testing.T, s *Store) time.Duration {
	t.Helper()
	infos, err := s.Lanes(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 1)
	return infos[0].Remaining
}

// A renewal that says that its holder does not send comes late, after one that says
// that it does. It takes nothing back.
func TestLateRenewal(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{NoListen: true}), openPool(t, url)
	advance := freeze(t, pool)
	l := acquire(t, s)
	require.NoError(t, l.Renew(t.Context(), time.Minute, true))
	require.NoError(t, l.Renew(t.Context(), time.Minute, false))
	now, err := s.Time(t.Context())
	require.NoError(t, err)
	advance(2 * time.Minute)
	require.Equal(t, now.Add(time.Minute), acquire(t, s).SentUntil())
}

// Release has ended the lease and is about to wake whoever waits, when the store is
// closed. Close waits for it, and nothing begins after Close.
func TestCloseWaitsForRelease(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, err := Open(t.Context(), url, Options{NoListen: true})
	require.NoError(t, err)
	pool := openPool(t, url)
	l := acquire(t, s)
	s.notifier.mu.Lock()
	released := make(chan error, 1)
	go func() { released <- l.Release(context.WithoutCancel(t.Context())) }()
	require.Eventually(t, func() bool {
		var holder int64
		return pool.QueryRow(t.Context(), "SELECT holder FROM oncemq.lanes").Scan(&holder) == nil && holder == 0
	}, 5*time.Second, time.Millisecond)
	closing := make(chan error, 1)
	go func() { closing <- s.Close(context.WithoutCancel(t.Context())) }()
	select {
	case <-s.drained:
		s.notifier.mu.Unlock()
		require.Fail(t, "Close does not wait for Release")
	case <-time.After(100 * time.Millisecond):
	}
	s.notifier.mu.Unlock()
	require.NoError(t, <-released)
	require.NoError(t, <-closing)
}
