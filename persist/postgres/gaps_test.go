package postgres

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

func openStore(t *testing.T, url string, opts Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), url, opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

func openPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func plainMessage(id string) persist.Message {
	return persist.Message{ID: id, Topic: "t", Payload: []byte("payload of " + id), QoS: 1}
}

func acquire(t *testing.T, s *Store) *lane {
	t.Helper()
	l, err := s.AcquireLane(t.Context(), 0, "owner", time.Hour)
	require.NoError(t, err)
	return l.(*lane)
}

// freeze stops the clock of the store in the usual schema, and returns what moves
// it.
func freeze(t *testing.T, pool *pgxpool.Pool) (advance func(d time.Duration)) {
	t.Helper()
	_, err := pool.Exec(t.Context(), `CREATE TABLE oncemq.clock AS SELECT oncemq.now_ms() AS ms;
		CREATE OR REPLACE FUNCTION oncemq.now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT ms FROM oncemq.clock'`,
		pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	return func(d time.Duration) {
		t.Helper()
		_, err := pool.Exec(t.Context(), "UPDATE oncemq.clock SET ms = ms + $1", d.Milliseconds())
		require.NoError(t, err)
	}
}

// next are the IDs of all that is due.
func next(t *testing.T, l *lane) []string {
	t.Helper()
	entries, err := l.Next(t.Context(), 1000, 1<<30)
	require.NoError(t, err)
	ids := make([]string, len(entries))
	for i := range entries {
		ids[i] = entries[i].Message.ID
	}
	return ids
}

func enqueue(t *testing.T, s *Store, ids ...string) {
	t.Helper()
	msgs := make([]persist.Message, len(ids))
	for i, id := range ids {
		msgs[i] = plainMessage(id)
	}
	_, err := s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
}

// A transaction stays open while others commit, for as many calls of Next as it
// likes; then it commits. It is handed out, once, as is its delayed message when
// that is due.
func TestTransactionThatCommitsLate(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{}), openPool(t, url)
	advance := freeze(t, pool)
	l := acquire(t, s)
	enqueue(t, s, "first")
	require.Equal(t, []string{"first"}, next(t, l))
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	late := []persist.Message{plainMessage("a"), plainMessage("b"), plainMessage("soon"), plainMessage("later")}
	late[2].Delay = time.Millisecond
	late[3].Delay = time.Hour
	_, err = s.WithTx(tx).Enqueue(t.Context(), late)
	require.NoError(t, err)
	for i := range 10 {
		id := fmt.Sprint("quick", i)
		enqueue(t, s, id)
		require.Equal(t, []string{id}, next(t, l))
		require.Empty(t, next(t, l))
	}
	require.NotEmpty(t, l.gaps.list)
	advance(time.Second)
	require.Empty(t, next(t, l))
	require.NoError(t, tx.Commit(t.Context()))
	enqueue(t, s, "after")
	require.Equal(t, []string{"a", "b", "soon", "after"}, next(t, l))
	// Other tests have transactions under way in the same server.
	require.Eventually(t, func() bool { return len(next(t, l)) == 0 && len(l.gaps.list) == 0 }, 30*time.Second, 10*time.Millisecond)
	advance(time.Hour)
	require.Equal(t, []string{"later"}, next(t, l))
	require.Empty(t, next(t, l))
}

// What became visible late goes before what its caller has enqueued since, however
// full the pages are.
func TestLateCommitKeepsOrder(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{}), openPool(t, url)
	l := acquire(t, s)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = s.WithTx(tx).Enqueue(t.Context(), []persist.Message{plainMessage("first")})
	require.NoError(t, err)
	enqueue(t, s, "0", "1", "2", "3", "4", "5")
	entries, err := l.Next(t.Context(), 2, 1<<20)
	require.NoError(t, err)
	require.Equal(t, "0", entries[0].Message.ID)
	require.NoError(t, tx.Commit(t.Context()))
	enqueue(t, s, "second")
	entries, err = l.Next(t.Context(), 2, 1<<20)
	require.NoError(t, err)
	require.Equal(t, "first", entries[0].Message.ID)
	require.Equal(t, []string{"3", "4", "5", "second"}, next(t, l))
}

// Two transactions commit in the reverse order of their positions.
func TestReverseCommits(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{}), openPool(t, url)
	l := acquire(t, s)
	a, err := pool.Begin(t.Context())
	require.NoError(t, err)
	b, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = s.WithTx(a).Enqueue(t.Context(), []persist.Message{plainMessage("a")})
	require.NoError(t, err)
	_, err = s.WithTx(b).Enqueue(t.Context(), []persist.Message{plainMessage("b")})
	require.NoError(t, err)
	require.NoError(t, b.Commit(t.Context()))
	require.Equal(t, []string{"b"}, next(t, l))
	require.NoError(t, a.Commit(t.Context()))
	require.Equal(t, []string{"a"}, next(t, l))
	require.Empty(t, next(t, l))
}

// A snapshot's xmax is one more than the highest transaction that has ended, not
// than the highest that has begun: here the transaction with the lower number
// takes the later position and ends first, so that the other's number is not below
// xmax, and not known to be under way.
func TestNumberBeyondSnapshot(t *testing.T) {
	t.Parallel()
	// A server of its own: other tests' transactions would raise xmax.
	url := testenv.Postgres(t, testenv.PostgresOptions{NoFsync: true, Extra: []string{"autovacuum = off"}}).URL()
	s, pool := openStore(t, url, Options{}), openPool(t, url)
	l := acquire(t, s)
	lower, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = lower.Exec(t.Context(), "SELECT pg_current_xact_id()")
	require.NoError(t, err)
	higher, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = s.WithTx(higher).Enqueue(t.Context(), []persist.Message{plainMessage("first place")})
	require.NoError(t, err)
	_, err = s.WithTx(lower).Enqueue(t.Context(), []persist.Message{plainMessage("second place")})
	require.NoError(t, err)
	require.NoError(t, lower.Commit(t.Context()))
	require.Equal(t, []string{"second place"}, next(t, l))
	for range 5 {
		require.Empty(t, next(t, l))
	}
	require.NoError(t, higher.Commit(t.Context()))
	require.Equal(t, []string{"first place"}, next(t, l))
}

// Many transactions, some of which roll back, and a lane that drains meanwhile:
// what was committed is handed out, each once, and no gap stays.
func TestRollbacksWhileDraining(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{}), openPool(t, withOptions(url, "pool_max_conns", "8"))
	l := acquire(t, s)
	const callers, each = 8, 40
	var mu sync.Mutex // guards committed
	committed := make(map[string]bool)
	var all sync.WaitGroup
	errs := make([]error, callers)
	for c := range callers {
		all.Go(func() {
			for i := range each {
				keep := rand.IntN(3) > 0
				id := fmt.Sprintf("%d.%d", c, i)
				errs[c] = errors.Join(errs[c], inCallerTx(t.Context(), s, pool, id, keep))
				if keep {
					mu.Lock()
					committed[id] = true
					mu.Unlock()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	seen := make(map[string]int)
	drain := func(limit int) {
		for {
			entries, err := l.Next(t.Context(), limit, 1<<20)
			require.NoError(t, err)
			if len(entries) == 0 {
				return
			}
			settlements := make([]persist.Settlement, len(entries))
			for i := range entries {
				seen[entries[i].Message.ID]++
				settlements[i].Position = entries[i].Position
			}
			require.NoError(t, l.Settle(t.Context(), settlements))
		}
	}
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		drain(1 + rand.IntN(10))
	}
	require.NoError(t, errors.Join(errs...))
	drain(10)
	require.Len(t, seen, len(committed))
	for id, n := range seen {
		require.Equal(t, 1, n, id)
		require.True(t, committed[id], id)
	}
	require.Eventually(t, func() bool { return len(next(t, l)) == 0 && len(l.gaps.list) == 0 }, 10*time.Second, 10*time.Millisecond)
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Zero(t, stats.Pending)
}

func inCallerTx(ctx context.Context, s *Store, pool *pgxpool.Pool, id string, keep bool) error {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // after Commit it does nothing
	if _, err := s.WithTx(tx).Enqueue(ctx, []persist.Message{plainMessage(id)}); err != nil || !keep {
		return err
	}
	return tx.Commit(ctx)
}

// What a reader of gaps sees is compared with a set of positions.
func TestGapsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var g gaps
		in := make(map[int64]bool)
		cursor := int64(0)
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				to := cursor + rapid.Int64Range(1, 6).Draw(t, "to")
				g.add(cursor, to)
				for p := cursor + 1; p < to; p++ {
					if p > g.final {
						in[p] = true
					}
				}
				cursor = to
			},
			"take": func(t *rapid.T) {
				p := rapid.Int64Range(0, cursor+2).Draw(t, "position")
				if g.take(p) != in[p] {
					t.Fatalf("take %d", p)
				}
				delete(in, p)
			},
			"settle": func(t *rapid.T) {
				g.final = max(g.final, rapid.Int64Range(0, cursor).Draw(t, "final"))
				g.settle()
				for p := range in {
					if p <= g.final {
						delete(in, p)
					}
				}
			},
			"": func(t *rapid.T) {
				n, last := 0, int64(0)
				for _, gap := range g.list {
					if gap.first > gap.last || gap.first <= last {
						t.Fatalf("%v", g.list)
					}
					last = gap.last
					for p := gap.first; p <= gap.last; p++ {
						n++
						if !in[p] {
							t.Fatalf("%d is in %v", p, g.list)
						}
					}
				}
				if n != len(in) {
					t.Fatalf("%v is not %v", g.list, in)
				}
			},
		})
	})
}
