package sqlite

import (
	"context"
	"database/sql"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// harness tells the suite what a store in a file can do: everything.
func harness(sync Synchronous) persisttest.Harness {
	return persisttest.Harness{
		New: func(t persisttest.T, opts persisttest.Options) persisttest.Backend {
			b := &backend{t: t, path: filepath.Join(t.TempDir(), "store.db"), opts: opts, sync: sync, clock: newClock()}
			b.Handle = b.open
			t.Cleanup(b.recount)
			return b
		},
		Durable: true, Shared: true, FrozenClock: true, Notifies: true, Transacts: true, Corrupts: true,
	}
}

func TestStore(t *testing.T) {
	t.Parallel()
	persisttest.Run(t, harness(SynchronousFull))
}

func TestModel(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		require.NoError(t, flag.Set("rapid.checks", "8"))
	}
	// Thousands of commits, none of which a loss of power threatens here.
	persisttest.RunModel(t, harness(SynchronousNormal))
}

// clock stands still but for advance.
type clock struct {
	mu sync.Mutex // guards at
	at time.Time
}

func newClock() *clock { return &clock{at: time.Unix(1_700_000_000, 123_456_789)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// backend opens the handles of one file.
type backend struct {
	t     persisttest.T
	path  string
	opts  persisttest.Options
	sync  Synchronous
	clock *clock

	persisttest.SQLTxs

	once sync.Once
	db   *sql.DB // the caller's
}

func (b *backend) Open(ctx context.Context) (persist.Store, error) {
	return Open(ctx, b.path, Options{Lanes: b.opts.Lanes, MaxMessages: b.opts.Limits.Messages, MaxBytes: b.opts.Limits.Bytes, MaxAge: b.opts.Limits.Age, Synchronous: b.sync, Clock: b.clock.now})
}

// recount looks, after each test, whether the counters of processed keys are right.
func (b *backend) recount() {
	if _, err := os.Stat(b.path); err != nil {
		return // it was never opened
	}
	db, err := sql.Open("sqlite", "file:"+b.path)
	require.NoError(b.t, err)
	defer func() { require.NoError(b.t, db.Close()) }()
	var completed, inWork, wantCompleted, wantInWork int
	require.NoError(b.t, db.QueryRowContext(context.Background(), `SELECT completed, in_work,
		(SELECT count(*) FROM oncemq_processed WHERE state IN (1, 3)), (SELECT count(*) FROM oncemq_processed WHERE state = 0)
		FROM oncemq_totals`).Scan(&completed, &inWork, &wantCompleted, &wantInWork))
	require.Equal(b.t, []int{wantCompleted, wantInWork}, []int{completed, inWork}, "counters of processed keys, completed and in work")
}

func (b *backend) Advance(d time.Duration) { b.clock.advance(d) }

func (b *backend) open() *sql.DB {
	b.once.Do(func() {
		db, err := sql.Open("sqlite", "file:"+b.path+"?_pragma=busy_timeout(5000)")
		require.NoError(b.t, err)
		b.t.Cleanup(func() { require.NoError(b.t, db.Close()) })
		b.db = db
	})
	return b.db
}

func (b *backend) CorruptMessage(ctx context.Context, ref persist.Ref) error {
	_, err := b.DB().ExecContext(ctx, "UPDATE oncemq_outbox SET body = substr(body, 1, length(body) - 1) WHERE position = ?", ref.Position)
	return err
}

func (b *backend) CorruptDeadLetter(ctx context.Context, number int64) error {
	_, err := b.DB().ExecContext(ctx, "UPDATE oncemq_dead_letters SET body = x'01' WHERE number = ?", number)
	return err
}

func (b *backend) CorruptSession(ctx context.Context, clientID string) error {
	_, err := b.DB().ExecContext(ctx, "UPDATE oncemq_sessions SET states = substr(states, 1, length(states) - 1) WHERE client_id = ?", clientID)
	return err
}

// beginKey begins one key of a group.
func beginKey(ctx context.Context, p persist.Process, group, key string, window time.Duration) (persist.Claim, error) {
	claims, err := p.Begin(ctx, group, []string{key}, window)
	if err != nil {
		return persist.Claim{}, err
	}
	return claims[0], nil
}
