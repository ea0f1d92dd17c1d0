package postgres

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// ids are the message IDs in the outbox.
func ids(t *testing.T, s *Store) map[string]bool {
	t.Helper()
	entries, err := s.ListOutbox(t.Context(), persist.ListRequest{Limit: 100_000})
	require.NoError(t, err)
	found := make(map[string]bool)
	for i := range entries {
		require.False(t, found[entries[i].Message.ID], "stored twice: %s", entries[i].Message.ID)
		found[entries[i].Message.ID] = true
	}
	return found
}

// Connections are terminated while messages come in. An error tells the truth: what
// was confirmed is there, what was refused is not, and an unknown outcome is
// resolved by enqueuing again under the same ID.
func TestBackendsTerminated(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	s, looking := openStore(t, pg.URL(), Options{}), pg
	stop := make(chan struct{})
	killed := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				killed <- nil
				return
			case <-time.After(15 * time.Millisecond):
			}
			_, err := looking.TryExec(context.Background(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"+
				" WHERE datname = current_database() AND application_name = 'oncemq'")
			if err != nil {
				killed <- err
				return
			}
		}
	}()
	want := make(map[string]bool)
	unknown, down := 0, 0
	for i := range 400 {
		m := plainMessage(fmt.Sprint(i))
		m.Idempotent = true
		for attempt := 0; ; attempt++ {
			_, err := s.Enqueue(t.Context(), []persist.Message{m})
			if err == nil {
				break
			}
			switch {
			case errors.Is(err, persist.ErrUnknownOutcome):
				unknown++
			case errors.Is(err, persist.ErrUnavailable):
				down++
			default:
				require.NoError(t, err)
			}
			require.Less(t, attempt, 50)
		}
		want[m.ID] = true
	}
	close(stop)
	require.NoError(t, <-killed)
	require.Eventually(t, func() bool { _, err := s.Time(t.Context()); return err == nil }, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, want, ids(t, s))
	t.Logf("%d unknown outcomes, %d refusals", unknown, down)
}

// The connection is cut after n bytes, in either direction, for n up to all that an
// Enqueue takes. If the error says that nothing happened, nothing has.
func TestCutWhileEnqueuing(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	direct := openStore(t, pg.URL(), Options{})
	proxy := fault.Start(t, pg.Addr())
	s := openStore(t, withOptions(pg.URLAt(proxy.Addr()), "max_conns", "1"), Options{NoListen: true})
	confirmed, refusedIDs, unknown := make(map[string]bool), make(map[string]bool), 0
	try := func(id string) {
		_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage(id)})
		switch {
		case err == nil:
			confirmed[id] = true
		case errors.Is(err, persist.ErrUnknownOutcome):
			unknown++
		default:
			require.ErrorIs(t, err, persist.ErrUnavailable)
			refusedIDs[id] = true
		}
	}
	for _, direction := range []fault.Direction{fault.ToServer, fault.ToClient} {
		for n := int64(1); n < 700; n += 23 {
			try(fmt.Sprint("before ", direction, n)) // a connection that works, and has its statements
			proxy.CutAfter(direction, n, fault.RST)
			try(fmt.Sprint("cut ", direction, n))
			proxy.CutAll(fault.RST)
			proxy.Clear()
		}
	}
	require.NotZero(t, unknown)
	require.NotEmpty(t, confirmed)
	there := ids(t, direct)
	for id := range confirmed {
		require.True(t, there[id], "confirmed and lost: %s", id)
	}
	for id := range refusedIDs {
		require.False(t, there[id], "refused and stored: %s", id)
	}
}

// The server is killed and comes back, and work goes on within two seconds, with
// wake-ups. The lease ends, since the server may have lost what its holder saw, and
// can be had again at once.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{})
	s, other := openStore(t, pg.URL(), Options{}), openStore(t, pg.URL(), Options{})
	wake, stop := s.Notify()
	defer stop()
	l := acquire(t, s)
	enqueue(t, s, "a")
	require.Equal(t, []string{"a"}, next(t, l))
	restart := func() time.Duration {
		pg.Kill()
		_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage("lost")})
		require.Error(t, err)
		_, err = s.Stats(t.Context())
		require.ErrorIs(t, err, persist.ErrUnavailable)
		pg.Start()
		started := time.Now()
		require.Eventually(t, func() bool {
			_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage("b")})
			return err == nil
		}, testenv.DefaultTimeout, 5*time.Millisecond)
		_, err = l.Next(t.Context(), 100, 1<<20)
		require.ErrorIs(t, err, persist.ErrLeaseLost)
		l = acquire(t, s)
		require.Equal(t, "a", next(t, l)[0])
		return time.Since(started)
	}
	const most = 2 * time.Second
	if took := restart(); took >= most { // the machine may have been busy; not again
		require.Less(t, min(restart(), restart()), most, "and the first took %v", took)
	}
	// The listening connection comes back by itself, and what another process
	// commits wakes this one again.
	require.Eventually(t, func() bool {
		for len(wake) > 0 {
			<-wake
		}
		_, err := other.Enqueue(t.Context(), []persist.Message{plainMessage("c")})
		if err != nil {
			return false
		}
		select {
		case <-wake:
			return true
		case <-time.After(100 * time.Millisecond):
			return false
		}
	}, 10*time.Second, time.Millisecond)
}

// Another process's message wakes this one soon, also one of a transaction of the
// caller.
func TestWakeAcrossProcesses(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, other, pool := openStore(t, url, Options{}), openStore(t, url, Options{}), openPool(t, url)
	wake, stop := s.Notify()
	defer stop()
	awaitWake(t, wake) // the connection listens
	enqueue(t, other, "a")
	awaitWake(t, wake)
	require.NoError(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		_, err := s.WithTx(tx).Enqueue(t.Context(), []persist.Message{plainMessage("b")})
		return err
	}))
	awaitWake(t, wake)
}

func awaitWake(t *testing.T, wake <-chan struct{}) {
	t.Helper()
	select {
	case <-wake:
	case <-time.After(5 * time.Second):
		require.Fail(t, "no wake-up came")
	}
}

// A call whose context ends while its commit waits for another's transaction says
// that it does not know; one that was not begun is withdrawn.
func TestContextEndsInCommit(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{}), openPool(t, url)
	once := plainMessage("once")
	once.Idempotent = true
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{once})
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = s.Enqueue(short, []persist.Message{once})
	require.ErrorIs(t, err, persist.ErrUnknownOutcome)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	enqueue(t, s, "others do not wait")
	require.NoError(t, tx.Commit(t.Context()))
	places, err := s.Enqueue(t.Context(), []persist.Message{once})
	require.NoError(t, err)
	require.True(t, places[0].Duplicate)
	require.Len(t, ids(t, s), 2)
}

// A server that accepts and does not answer keeps a call for as long as its context
// lasts, and Close for as long as its own.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	proxy := fault.Start(t, pg.Addr())
	s, err := Open(t.Context(), pg.URLAt(proxy.Addr()), Options{NoListen: true})
	require.NoError(t, err)
	enqueue(t, s, "a")
	proxy.BlackHole(true)
	short, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = s.Claim(short, persist.ClaimRequest{Group: "g", Keys: []string{"k"}, TTL: time.Minute})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	hanging := make(chan error, 1)
	go func() {
		_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage("b")})
		hanging <- err
	}()
	require.Eventually(t, func() bool {
		s.plain.mu.Lock()
		defer s.plain.mu.Unlock()
		return s.plain.running > 0 && len(s.plain.queue) == 0
	}, 5*time.Second, time.Millisecond)
	short, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Close(short), context.DeadlineExceeded)
	require.Error(t, <-hanging)
	proxy.CutAll(fault.RST)
	require.NoError(t, s.Close(t.Context()))
}

// Errors of a server that refuses are told apart.
func TestKindOfCode(t *testing.T) {
	t.Parallel()
	for code, kind := range map[string]error{
		"53100": persist.ErrStoreFull, "53300": persist.ErrUnavailable, "57P01": persist.ErrUnavailable,
		"25006": persist.ErrReadOnly, "42P01": persist.ErrSchema, "42501": persist.ErrUnavailable,
		"40P01": persist.ErrUnavailable, "XX001": persist.ErrCorrupt, "22P02": persist.ErrCorrupt, "": persist.ErrUnavailable,
	} {
		require.Equal(t, kind, kindOfCode(code), code)
	}
}

// The core of the contract, behind a pooler that gives each transaction another
// connection and knows no prepared statements.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	bouncer := testenv.PgBouncer(t, pg, testenv.PgBouncerOptions{PoolSize: 3})
	s := openStore(t, bouncer.URL(), Options{})
	require.True(t, s.pooled)
	require.Equal(t, pgx.QueryExecModeCacheDescribe, s.pool.Config().ConnConfig.DefaultQueryExecMode)
	direct := openStore(t, pg.URL(), Options{})
	require.False(t, direct.pooled)
	l := acquire(t, s)
	for round := range 20 {
		msgs := make([]persist.Message, 20)
		for i := range msgs {
			msgs[i] = plainMessage(fmt.Sprint(round, ".", i))
			msgs[i].Idempotent, msgs[i].Receipt = round%2 == 0, i%5 == 0
		}
		_, err := s.Enqueue(t.Context(), msgs)
		require.NoError(t, err)
		entries, err := l.Next(t.Context(), 100, 1<<20)
		require.NoError(t, err)
		require.Len(t, entries, len(msgs))
		settlements := make([]persist.Settlement, len(entries))
		var receipts []persist.Receipt
		for i := range entries {
			settlements[i].Position = entries[i].Position
			if entries[i].Message.Receipt {
				receipts = append(receipts, persist.Receipt{ID: entries[i].Message.ID})
			}
		}
		require.NoError(t, l.Settle(t.Context(), settlements))
		_, err = l.Acknowledge(t.Context(), receipts)
		require.NoError(t, err)
		claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Keys: []string{fmt.Sprint(round)}, TTL: time.Minute})
		require.NoError(t, err)
		done, err := s.Complete(t.Context(), "g", []persist.Completion{{Claim: claims[0]}}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, []bool{true}, done)
		require.NoError(t, s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error {
			_, err := p.Begin(ctx, "g", []string{fmt.Sprint("tx", round)}, time.Hour)
			return err
		}))
	}
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Zero(t, stats.Pending+stats.Delivered)
	require.EqualValues(t, 40, stats.Completed)
}

// The server vanishes while a handler runs, which then fails. Undoing what it did
// does not take for ever, in a step nor at the end.
func TestServerVanishesUnderHandler(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	proxy := fault.Start(t, pg.Addr())
	s := openStore(t, pg.URLAt(proxy.Addr()), Options{NoListen: true})
	s.undoTimeout = 100 * time.Millisecond
	broken := errors.New("broken")
	for name, fail := range map[string]func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error{
		"in a step": func(ctx context.Context, p persist.TxProcess[pgx.Tx]) error {
			return p.Step(ctx, func() error {
				proxy.BlackHole(true)
				return broken
			})
		},
		"at the end": func(context.Context, persist.TxProcess[pgx.Tx]) error {
			proxy.BlackHole(true)
			return broken
		},
	} {
		done := make(chan error, 1)
		go func() { done <- s.ProcessTx(t.Context(), fail) }()
		select {
		case err := <-done:
			require.ErrorIs(t, err, broken, name)
		case <-time.After(20 * time.Second):
			proxy.CutAll(fault.RST)
			t.Errorf("%s: it hangs until the connection breaks: %v", name, <-done)
		}
		proxy.BlackHole(false)
		proxy.CutAll(fault.RST) // what the driver still waits for
	}
	enqueue(t, s, "the next goes on")
}
