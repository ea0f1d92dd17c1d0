package dedup

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite" // the driver

	"github.com/oncemq/oncemq/persist"
)

// txStore keeps marks and dead letters in a SQLite file, as plainly as can be: a
// second implementation of the contract, which the tests can break where they
// want.
type txStore struct {
	db *sql.DB
	// Guarded by mu: what happens to the next transactions.
	mu      sync.Mutex
	decide  func() fault
	busy    map[string]time.Duration // keys with a live claim elsewhere
	commits int
	starts  int
}

func newTxStore(t *testing.T) *txStore {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "db")+
		"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)&_pragma=foreign_keys(1)")
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), `
		CREATE TABLE marks (grp TEXT, key TEXT, until INTEGER, PRIMARY KEY (grp, key));
		CREATE TABLE letters (key TEXT, reason TEXT);
		CREATE TABLE effects (key TEXT, n INTEGER);
		CREATE TABLE parent (id INTEGER PRIMARY KEY);
		CREATE TABLE child (id INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED);`)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return &txStore{db: db, busy: map[string]time.Duration{}}
}

func (s *txStore) next() fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.starts++
	if s.decide == nil {
		return faultNone
	}
	return s.decide()
}

func (s *txStore) setDecide(decide func() fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decide = decide
}

func (s *txStore) counts() (starts, commits int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.starts, s.commits
}

func (s *txStore) Time(context.Context) (time.Time, error) { return time.Now(), nil }

func (s *txStore) ExpireProcessed(context.Context, int) (int, error) { return 0, nil }

func (s *txStore) ProcessTx(ctx context.Context, fn func(context.Context, persist.TxProcess[*sql.Tx]) error) error {
	what := s.next()
	switch what {
	case faultFail:
		return &persist.Error{Op: "process", Kind: persist.ErrUnavailable}
	case faultHang:
		<-ctx.Done()
		return ctx.Err()
	case faultNone, faultApplied, faultUnknown, faultRefuse:
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return &persist.Error{Op: "process", Kind: persist.ErrUnavailable, Err: err}
	}
	if err := fn(ctx, &txProcess{store: s, tx: tx}); err != nil {
		return errors.Join(err, ignoreDone(tx.Rollback()))
	}
	if what == faultUnknown {
		return errors.Join(&persist.Error{Op: "process", Kind: persist.ErrUnknownOutcome}, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return errors.Join(&persist.Error{Op: "process", Kind: persist.ErrInvalid, Err: err}, ignoreDone(tx.Rollback()))
	}
	s.mu.Lock()
	s.commits++
	s.mu.Unlock()
	if what == faultApplied {
		return &persist.Error{Op: "process", Kind: persist.ErrUnknownOutcome}
	}
	return nil
}

// ignoreDone is for a rollback after the context has rolled back already.
func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

type txProcess struct {
	store *txStore
	tx    *sql.Tx
}

func (p *txProcess) Tx() *sql.Tx { return p.tx }

func (p *txProcess) Begin(ctx context.Context, group string, keys []string, window time.Duration) ([]persist.Claim, error) {
	claims := make([]persist.Claim, len(keys))
	for i, key := range keys {
		var err error
		if claims[i], err = p.begin(ctx, group, key, window); err != nil {
			return nil, err
		}
	}
	return claims, nil
}

func (p *txProcess) begin(ctx context.Context, group, key string, window time.Duration) (persist.Claim, error) {
	p.store.mu.Lock()
	busy, ok := p.store.busy[key]
	p.store.mu.Unlock()
	if ok {
		return persist.Claim{Key: key, State: persist.ClaimBusy, Remaining: busy}, nil
	}
	now := time.Now()
	res, err := p.tx.ExecContext(ctx, `
		INSERT INTO marks VALUES (?1, ?2, ?3)
		ON CONFLICT DO UPDATE SET until = excluded.until WHERE until <= ?4`,
		group, key, now.Add(window).UnixMilli(), now.UnixMilli())
	if err != nil {
		return persist.Claim{}, &persist.Error{Op: "begin", Kind: persist.ErrUnavailable, Err: err}
	}
	if n, _ := res.RowsAffected(); n == 0 {
		return persist.Claim{Key: key, State: persist.ClaimCompleted}, nil
	}
	return persist.Claim{Key: key, State: persist.ClaimGranted, Epoch: 1, Attempts: 1}, nil
}

func (p *txProcess) Step(ctx context.Context, fn func() error) error {
	if _, err := p.tx.ExecContext(ctx, "SAVEPOINT step"); err != nil {
		return &persist.Error{Op: "step", Kind: persist.ErrUnavailable, Err: err}
	}
	if err := fn(); err != nil {
		if _, undo := p.tx.ExecContext(ctx, "ROLLBACK TO step; RELEASE step"); undo != nil {
			return &persist.Error{Op: "undo step", Kind: persist.ErrUnavailable, Err: undo}
		}
		return err
	}
	if _, err := p.tx.ExecContext(ctx, "RELEASE step"); err != nil {
		return &persist.Error{Op: "step", Kind: persist.ErrUnavailable, Err: err}
	}
	return nil
}

func (p *txProcess) AddDeadLetter(ctx context.Context, letter persist.DeadLetter) error {
	if letter.Reason == "" {
		return &persist.Error{Op: "add dead letter", Kind: persist.ErrInvalid}
	}
	_, err := p.tx.ExecContext(ctx, "INSERT INTO letters VALUES (?, ?)", letter.Key, letter.Reason)
	return err
}

// txInbound writes one effect.
type txInbound struct {
	Node
	key     string
	settled chan Outcome
	// process, if set, runs before the effect.
	process func(ctx context.Context, tx *sql.Tx, g Grant) error
	// failed, if set, judges; else each failure is tried again.
	failed func(err error, attempts int) Verdict
}

func newTxInbound(key string) *txInbound {
	return &txInbound{key: key, settled: make(chan Outcome, 1)}
}

func (d *txInbound) Process(ctx context.Context, tx *sql.Tx, g Grant) error {
	if _, err := tx.ExecContext(ctx, "INSERT INTO effects VALUES (?, 1)", d.key); err != nil {
		return err
	}
	if d.process == nil {
		return nil
	}
	return d.process(ctx, tx, g)
}

func (d *txInbound) Failed(err error, attempts int) Verdict {
	if d.failed == nil {
		return Verdict{}
	}
	return d.failed(err, attempts)
}

func (d *txInbound) Settled(o Outcome) { d.settled <- o }

func (d *txInbound) outcome(t *testing.T) Outcome {
	t.Helper()
	select {
	case o := <-d.settled:
		return o
	case <-time.After(patience):
		require.FailNow(t, "not settled", d.key)
	}
	return 0
}

func startTx(t *testing.T, cfg TxConfig[*sql.Tx]) *TxConsumer[*sql.Tx] {
	t.Helper()
	c, err := NewTx(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, c.Close(ctx))
	})
	return c
}

func txConfig(store TxStore[*sql.Tx]) TxConfig[*sql.Tx] {
	return TxConfig[*sql.Tx]{Store: store, Group: "workers", PollInterval: 5 * time.Millisecond}
}

func (s *txStore) effects(t *testing.T) map[string]int {
	t.Helper()
	return countByKey(t, s.db, "SELECT key, count(*) FROM effects GROUP BY key")
}

func (s *txStore) letters(t *testing.T) map[string]int {
	t.Helper()
	return countByKey(t, s.db, "SELECT key, count(*) FROM letters GROUP BY key")
}

func countByKey(t *testing.T, db *sql.DB, query string) map[string]int {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	counts := map[string]int{}
	for rows.Next() {
		var key string
		var n int
		require.NoError(t, rows.Scan(&key, &n))
		counts[key] = n
	}
	require.NoError(t, rows.Err())
	return counts
}

// Claim and Release are for attempts, which this store does not count.
func (s *txStore) Claim(context.Context, persist.ClaimRequest) ([]persist.Claim, error) {
	return nil, &persist.Error{Op: "claim", Kind: persist.ErrInvalid}
}

func (s *txStore) Release(context.Context, string, []persist.Claim) error { return nil }
