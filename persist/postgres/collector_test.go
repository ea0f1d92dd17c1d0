package postgres

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// lockArrivals has every commit of messages hang until the transaction is rolled back.
func lockArrivals(t *testing.T, pg *testenv.PostgresServer) pgx.Tx {
	t.Helper()
	tx, err := openPool(t, pg.URL()).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE oncemq.arrivals IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	return tx
}

// The store hangs while calls come in and time out. What was withdrawn is not kept.
func TestStoreHangsUnderLoad(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s := openStore(t, pg.URL(), Options{NoListen: true})
	tx := lockArrivals(t, pg)
	s.plain.timeout, s.plain.patience = time.Hour, time.Hour
	hanging := make(chan error, plainCommits)
	for i := range plainCommits {
		go func() {
			_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage(fmt.Sprint("hanging ", i))})
			hanging <- err
		}()
		awaitLock(t, pg, i+1)
	}
	for i := range 50 {
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		_, err := s.Enqueue(short, []persist.Message{plainMessage(fmt.Sprint(i))})
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, persist.ErrUnknownOutcome)
	}
	s.plain.mu.Lock()
	queued := len(s.plain.queue)
	s.plain.mu.Unlock()
	require.Zero(t, queued)
	require.NoError(t, tx.Rollback(t.Context()))
	for range plainCommits {
		require.NoError(t, <-hanging)
	}
	require.Len(t, ids(t, s), plainCommits)
}

// A commit takes longer than one may: its caller, who has no deadline, learns that the
// outcome is unknown, and the next commit goes through.
func TestCommitTakesTooLong(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s := openStore(t, pg.URL(), Options{NoListen: true})
	tx := lockArrivals(t, pg)
	s.plain.timeout = time.Second
	_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage("late")})
	require.ErrorIs(t, err, persist.ErrUnknownOutcome)
	require.NoError(t, tx.Rollback(t.Context()))
	enqueue(t, s, "next")
	require.True(t, ids(t, s)["next"])
}

// vanished is a store whose server has vanished without a word, while a commit was
// under way. No other may be at the same time. The call's answer comes from the channel.
func vanished(t *testing.T, ctx context.Context, patience time.Duration) (*Store, *fault.Proxy, <-chan error) {
	t.Helper()
	pg := testenv.SharedPostgres(t)
	proxy := fault.Start(t, pg.Addr())
	s := openStore(t, withOptions(pg.URLAt(proxy.Addr()), "connect_timeout", "3600", "pool_ping_timeout", "1h"), Options{NoListen: true})
	s.plain.limit, s.plain.timeout, s.plain.patience = 1, time.Hour, patience
	enqueue(t, s, "first")
	awaitCommits(t, s, func() bool { return s.plain.running+s.plain.late == 0 })
	proxy.BlackHole(true)
	answer := make(chan error, 1)
	go func() {
		_, err := s.Enqueue(ctx, []persist.Message{plainMessage("hanging")})
		answer <- err
	}()
	awaitCommits(t, s, func() bool { return s.plain.running+s.plain.late == 1 && len(s.plain.queue) == 0 })
	return s, proxy, answer
}

// awaitCommits waits until the commits are as they should be.
func awaitCommits(t *testing.T, s *Store, are func() bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		s.plain.mu.Lock()
		defer s.plain.mu.Unlock()
		return are()
	}, 20*time.Second, time.Millisecond)
}

// enqueueSoon is enqueue with an end.
func enqueueSoon(t *testing.T, s *Store, id string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := s.Enqueue(ctx, []persist.Message{plainMessage(id)})
	require.NoError(t, err)
}

// Nobody waits any longer for the commit that hangs: it makes way.
func TestAbandonedCommitEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, proxy, answer := vanished(t, ctx, time.Hour)
	cancel()
	err := <-answer
	require.ErrorIs(t, err, persist.ErrUnknownOutcome)
	require.ErrorIs(t, err, context.Canceled)
	awaitCommits(t, s, func() bool { return s.plain.running == 0 })
	proxy.BlackHole(false)
	enqueueSoon(t, s, "next")
	proxy.CutAll(fault.RST)
	require.True(t, ids(t, s)["next"])
}

// One of the callers of a commit has gone, and the other waits on.
func TestCommitGoesOnForOne(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s := openStore(t, pg.URL(), Options{NoListen: true})
	tx := lockArrivals(t, pg)
	s.plain.limit, s.plain.patience = 1, time.Hour
	s.plain.running = 1 // all that come are in one commit
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	gone, stayed := make(chan error, 1), make(chan error, 1)
	call := func(ctx context.Context, id string, answer chan<- error) {
		_, err := s.Enqueue(ctx, []persist.Message{plainMessage(id)})
		answer <- err
	}
	go call(ctx, "gone", gone)
	go call(t.Context(), "stayed", stayed)
	awaitCommits(t, s, func() bool { return len(s.plain.queue) == 2 })
	s.work.Go(s.plain.drain)
	awaitLock(t, pg, 1)
	cancel()
	require.ErrorIs(t, <-gone, persist.ErrUnknownOutcome)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, <-stayed)
}

// A commit hangs whose caller waits on. Another is made in its place.
func TestLateCommitMakesWay(t *testing.T) {
	t.Parallel()
	s, proxy, answer := vanished(t, t.Context(), 10*time.Millisecond)
	awaitCommits(t, s, func() bool { return s.plain.late == 1 && s.plain.running == 0 })
	proxy.BlackHole(false)
	enqueueSoon(t, s, "next")
	proxy.CutAll(fault.RST)
	t.Logf("the commit that hung: %v", <-answer)
	require.True(t, ids(t, s)["next"])
	awaitCommits(t, s, func() bool { return s.plain.running+s.plain.late == 0 })
}

// Behind a pooler the server commits, and its backend dies before it can answer.
// The pooler reports the crash in place of the answers, which is no proof that
// nothing happened.
func TestBackendDiesBehindPooler(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{})
	bouncer := testenv.PgBouncer(t, pg, testenv.PgBouncerOptions{})
	s, direct := openStore(t, bouncer.URL(), Options{NoListen: true}), openStore(t, pg.URL(), Options{NoListen: true})
	enqueue(t, s, "first")
	// A commit that waits for a standby which does not exist has been written.
	needStandby(t, pg)
	refused := make(chan error, 1)
	go func() {
		_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage("second")})
		refused <- err
	}()
	require.NoError(t, syscall.Kill(awaitsStandby(t, pg), syscall.SIGKILL))
	require.ErrorIs(t, <-refused, persist.ErrUnknownOutcome)
	require.Eventually(t, func() bool { // once the server has recovered
		entries, err := direct.ListOutbox(t.Context(), persist.ListRequest{Limit: 10})
		return err == nil && len(entries) == 2 && entries[1].Message.ID == "second"
	}, 20*time.Second, 10*time.Millisecond)
}

// A row of an answer is not understood. The batch has committed by then, so that
// for a call which changes something the outcome is unknown.
func TestRowNotUnderstood(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.SharedPostgres(t).URL(), Options{NoListen: true})
	steps := func() []step {
		return []step{{stmt: s.q.time, row: func(row) error { return persist.ErrCorrupt }}}
	}
	require.ErrorIs(t, s.do(t.Context(), "test", "x", writes, steps), persist.ErrUnknownOutcome)
	require.ErrorIs(t, s.do(t.Context(), "test", "x", reads, steps), persist.ErrCorrupt)
}
