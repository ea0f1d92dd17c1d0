package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sqlitedriver "modernc.org/sqlite"

	"github.com/oncemq/oncemq/persist"
)

func plainMessage(id string) persist.Message {
	return persist.Message{ID: id, Topic: "t", Payload: []byte(id), QoS: 1}
}

// do is a task of a test.
type do struct {
	call
	fn func(ctx context.Context, tx *txn) error
}

func (d *do) run(ctx context.Context, tx *txn) error { return d.fn(ctx, tx) }

func doing(rows int, fn func(ctx context.Context, tx *txn) error) *do {
	return &do{call: newCall("test", "", rows), fn: fn}
}

// hold keeps the writer busy until the returned function is called.
func hold(t *testing.T, s *Store) (release func()) {
	t.Helper()
	held, free := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		err := s.submit(context.Background(), doing(1, func(context.Context, *txn) error {
			close(held)
			<-free
			return nil
		}))
		if err != nil {
			t.Error(err)
		}
	})
	<-held
	return func() {
		close(free)
		all.Wait()
	}
}

// awaitQueued waits until n tasks are queued.
func awaitQueued(t *testing.T, s *Store, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		s.writer.mu.Lock()
		defer s.writer.mu.Unlock()
		return len(s.writer.queue) >= n
	}, 10*time.Second, time.Millisecond)
}

// synchronous is the pragma in force in a transaction: 1 NORMAL, 2 FULL.
func synchronous(ctx context.Context, tx *txn) (int64, error) {
	var dest [1]driver.Value
	_, err := queryRow(ctx, tx, dest[:], &statement{text: "PRAGMA synchronous"})
	return asInt(dest[0]), err
}

// Calls that wait while a transaction runs go into the next one, all of them.
func TestCallsShareACommit(t *testing.T) {
	t.Parallel()
	var reads atomic.Int64 // of the clock, each a millisecond later
	s := open(t, file(t), Options{Clock: func() time.Time { return time.UnixMilli(reads.Add(1)) }})
	release := hold(t, s)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if _, err := s.Enqueue(context.Background(), []persist.Message{plainMessage(fmt.Sprint(i))}); err != nil {
				t.Error(err)
			}
		})
	}
	awaitQueued(t, s, 50)
	release()
	all.Wait()
	entries, err := s.ListOutbox(t.Context(), persist.ListRequest{Limit: 100})
	require.NoError(t, err)
	require.Len(t, entries, 50)
	for i := range entries {
		require.Equal(t, int64(i+1), entries[i].Position)
		require.Equal(t, entries[0].EnqueuedAt, entries[i].EnqueuedAt, "one transaction has one time")
	}
}

// One task of a shared transaction fails: the others are stored, and it is not.
func TestAFailureIsNotAnothers(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	broken := errors.New("broken")
	var runs int
	release := hold(t, s)
	var all sync.WaitGroup
	results := make([]error, 3)
	all.Go(func() {
		results[0] = s.submit(context.Background(), doing(1, func(ctx context.Context, tx *txn) error {
			runs++
			_, err := tx.exec(ctx, tx.q.groupAdd, "half of it")
			return errors.Join(err, broken)
		}))
	})
	for i := 1; i < 3; i++ {
		all.Go(func() {
			_, results[i] = s.Enqueue(context.Background(), []persist.Message{plainMessage(fmt.Sprint(i))})
		})
	}
	awaitQueued(t, s, 3)
	release()
	all.Wait()
	require.ErrorIs(t, results[0], broken)
	require.NoError(t, results[1])
	require.NoError(t, results[2])
	require.Equal(t, 2, runs, "together, and then alone")
	entries, err := s.ListOutbox(t.Context(), persist.ListRequest{Limit: 100})
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, int64(1), entries[0].Position, "what was undone took no position")
	require.NoError(t, s.browse(t.Context(), "test", "", func(ctx context.Context, r runner) error {
		var dest [1]driver.Value
		found, err := queryRow(ctx, r, dest[:], s.q.groupGet, "half of it")
		require.False(t, found)
		return err
	}))
}

// A batch takes no more rows than it should, but a large call goes alone.
func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	w := &writer{s: s}
	add := func(rows, bytes int, lease bool) {
		d := doing(rows, nil)
		d.bytes, d.leaseOnly = bytes, lease
		w.backlog = append(w.backlog, d)
	}
	require.Zero(t, w.fits(false))
	add(5000, 0, false)
	add(1, 0, false)
	require.Equal(t, 1, w.fits(false))
	w.backlog = nil
	add(1, 100<<20, false)
	add(1, 0, false)
	require.Equal(t, 1, w.fits(false))
	w.backlog = nil
	add(1500, 0, true)
	add(500, 0, true)
	add(1, 0, true)
	require.Equal(t, 2, w.fits(false))
	w.backlog = nil
	add(1, 0, true)
	add(1, 0, false)
	require.Equal(t, 1, w.fits(true), "what must be synced does not go with what is not")
	require.Equal(t, 2, w.fits(false))
	w.backlog[0].base().state.Store(callWithdrawn)
	batch := w.claim(2)
	require.Len(t, batch, 1)
	require.Empty(t, w.backlog)
}

// Only transactions that change nothing but leases are committed without a sync.
func TestWhatIsSynced(t *testing.T) {
	t.Parallel()
	for _, setting := range []Synchronous{SynchronousFull, SynchronousNormal} {
		s := open(t, file(t), Options{Synchronous: setting})
		for _, lease := range []bool{false, true, true, false, true, false} {
			var got int64
			d := doing(1, func(ctx context.Context, tx *txn) (err error) {
				got, err = synchronous(ctx, tx)
				return err
			})
			d.leaseOnly = lease
			require.NoError(t, s.submit(t.Context(), d))
			want := int64(2)
			if lease || setting == SynchronousNormal {
				want = 1
			}
			require.Equal(t, want, got)
		}
	}
}

// A context that ends before the transaction begins withdraws the call, at once.
func TestWithdrawn(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		_, err := s.Enqueue(ctx, []persist.Message{plainMessage("ghost")})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("not the context's error: %v", err)
		}
	})
	awaitQueued(t, s, 1)
	cancel()
	all.Wait() // though the writer is still held
	release()
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Zero(t, stats.Pending)
	_, err = s.Enqueue(ctx, []persist.Message{plainMessage("ghost")})
	require.ErrorIs(t, err, context.Canceled)
}

// A context that ends while the transaction runs does not hide how it went.
func TestNotWithdrawn(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, s.submit(ctx, doing(1, func(context.Context, *txn) error {
		cancel()
		return nil
	})))
}

// Another process holds the write lock for longer than the busy time-out.
func TestBusy(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{BusyTimeout: 50 * time.Millisecond})
	db := database(t, path, "_txlock=immediate")
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = s.Enqueue(t.Context(), []persist.Message{plainMessage("a")})
	refused(t, err, persist.ErrUnavailable)
	var cause *sqlitedriver.Error
	require.ErrorAs(t, err, &cause)
	require.Error(t, s.ProcessTx(t.Context(), func(context.Context, persist.TxProcess[*sql.Tx]) error { return nil }))
	require.NoError(t, tx.Rollback())
	_, err = s.Enqueue(t.Context(), []persist.Message{plainMessage("b")})
	require.NoError(t, err)
	require.NoError(t, s.ProcessTx(t.Context(), func(context.Context, persist.TxProcess[*sql.Tx]) error { return nil }))
}

// A transaction that could not be rolled back is rolled back before the next.
func TestTransactionLeftOpen(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	require.NoError(t, s.submit(t.Context(), doing(1, func(context.Context, *txn) error {
		s.writer.open = true // as rollback leaves it after an error of its own
		return nil
	})))
	require.NoError(t, s.writer.held.use(func(c *conn) error {
		_, err := c.exec(context.Background(), s.q.begin)
		return err
	}))
	_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage("a")})
	require.NoError(t, err)
	require.False(t, s.writer.open)
}

// Close waits for calls that are under way and refuses those after it.
func TestCloseWaits(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	release := hold(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, s.Close(ctx), context.DeadlineExceeded)
	_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage("a")})
	refused(t, err, persist.ErrClosed)
	_, err = s.Stats(t.Context())
	refused(t, err, persist.ErrClosed)
	release()
	require.NoError(t, s.Close(t.Context()))
}
