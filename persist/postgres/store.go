package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oncemq/oncemq/persist"
)

// Store keeps everything in one schema; see the package documentation. It is made
// by [Open] or [New].
type Store struct {
	pool   *pgxpool.Pool
	owned  bool // the pool is ours to close
	pooled bool // a pooler stands between us and the server
	opts   Options
	q      *queries
	log    *slog.Logger
	// name is host, database and schema, for errors.
	name       string
	identity   string
	lanes      int
	sequences  []int64 // of the lanes, as object identifiers
	durability serverSettings

	// plain gathers calls of Enqueue whose commit waits for nobody; conditional
	// those that may have to wait for a transaction that has added the same ID.
	plain, conditional collector
	commits            atomic.Int64
	gaveWay            atomic.Bool // messages gave way by this handle
	notifier           notifier
	// undoTimeout is for how long something is undone; zero is defaultUndo.
	undoTimeout time.Duration

	// life ends when Close does not wait any longer for the calls under way.
	life context.Context //nolint:containedctx // that of shared commits and goroutines, which belong to no call
	end  context.CancelFunc
	work sync.WaitGroup // goroutines

	mu      sync.Mutex // guards calls and closing
	calls   int
	closing bool
	// drained is closed once the store is closing and no call is under way.
	drained chan struct{}
	close   sync.Once
	ended   chan struct{} // closed once the store has given up all that it holds
}

var (
	_ persist.Store               = (*Store)(nil)
	_ persist.Notifier            = (*Store)(nil)
	_ persist.TxJoiner[pgx.Tx]    = (*Store)(nil)
	_ persist.TxProcessor[pgx.Tx] = (*Store)(nil)
)

func newStore(pool *pgxpool.Pool, opts Options, name string) *Store {
	s := &Store{pool: pool, opts: opts, log: opts.Logger, name: name, drained: make(chan struct{}), ended: make(chan struct{})}
	s.life, s.end = context.WithCancel(context.Background())
	s.plain = collector{s: s, limit: plainCommits}
	s.conditional = collector{s: s, limit: conditionalCommits}
	s.notifier.s, s.notifier.hurry = s, make(chan struct{})
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	s.notifier.instance = hex.EncodeToString(id[:])
	return s
}

// Identity is what tells this store from others.
func (s *Store) Identity() string { return s.identity }

// Time is the server's clock; see [persist.Store].
func (s *Store) Time(ctx context.Context) (time.Time, error) {
	var now int64
	err := s.do(ctx, "time", s.name, reads, func() []step {
		return []step{{stmt: s.q.time, row: func(r row) error { return r.Scan(&now) }}}
	})
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMilli(now), nil
}

// Durability says what the store survives, by the server's settings at the time
// when the store was opened.
func (s *Store) Durability() string {
	d := &s.durability
	settings := fmt.Sprintf("PostgreSQL, fsync=%s, synchronous_commit=%s", d.fsync, d.synchronousCommit)
	switch {
	case d.fsync != "on" || d.fullPageWrites != "on":
		return settings + ", full_page_writes=" + d.fullPageWrites +
			": what was stored survives a crash of the server process; the loss of power may destroy the store."
	case d.synchronousCommit == "off":
		return settings + ": what was stored last may be lost in a crash of the server."
	case d.standbys == "" || d.synchronousCommit == "local":
		return settings + ", no synchronous standby: what was stored survives the loss of power; " +
			"a failover to a standby may lose the last commits."
	}
	return settings + ", synchronous_standby_names=" + d.standbys +
		": what was stored survives the loss of power and of the machine."
}

// enter begins a call; leave ends it. Between the two the store stays open.
func (s *Store) enter(op string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return refuse(op, s.name, persist.ErrClosed)
	}
	s.calls++
	return nil
}

func (s *Store) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls--
	if s.closing && s.calls == 0 {
		close(s.drained)
	}
}

// Close ends the store after the calls that are under way; see [persist.Store].
// If ctx ends before they do, its error is returned, later calls are refused all
// the same, shared commits are broken off, and Close may be called again to wait
// for the rest. So it is, two seconds later, if ctx ends before all connections are closed:
// one that died without a word takes up to 15 s.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closing {
		s.closing = true
		if s.calls == 0 {
			close(s.drained)
		}
	}
	s.mu.Unlock()
	select {
	case <-s.drained:
	case <-ctx.Done():
		select {
		case <-s.drained: // there was nothing to wait for
		default:
			s.end()
			return translate("close", s.name, ctx.Err())
		}
	}
	s.close.Do(func() {
		go func() {
			defer close(s.ended)
			s.shutdown()
		}()
	})
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
	}
	patience := time.NewTimer(closePatience)
	defer patience.Stop()
	select {
	case <-s.ended:
		return nil
	case <-patience.C:
		return translate("close", s.name, ctx.Err())
	}
}

// closePatience is how much longer than its context Close waits for what ends soon, as a
// rule: a context that has ended is no reason to leave it behind.
const closePatience = tellPatience + time.Second

// shutdown gives up what the store holds, in the order: goroutines, the pool.
func (s *Store) shutdown() {
	s.notifier.finish()
	s.end()
	s.work.Wait()
	s.notifier.close()
	if s.owned {
		s.pool.Close()
	}
}
