package sqlite

import (
	"context"
	"database/sql"
	"log/slog"
	"sync"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Store keeps everything in one SQLite file; see the package documentation. It
// is made by [Open] or [New].
type Store struct {
	db    *sql.DB
	owned bool // the pool is ours to close
	opts  Options
	q     *queries
	log   *slog.Logger
	// name is the file, for errors; empty with a pool of the caller.
	name     string
	identity string
	lanes    int

	groups    sync.Map // name to number, only committed ones
	gate      gate
	writer    *writer
	reader    reader
	processor processor
	notifier  notifier
	answers   sync.Pool // of chan struct{}, empty ones: call.done

	mu      sync.Mutex // guards calls and closing
	calls   int
	closing bool
	// drained is closed once the store is closing and no call is under way.
	drained chan struct{}
	close   sync.Once
	closed  error // how closing went; set once
}

var (
	_ persist.Store                = (*Store)(nil)
	_ persist.Notifier             = (*Store)(nil)
	_ persist.TxJoiner[*sql.Tx]    = (*Store)(nil)
	_ persist.TxProcessor[*sql.Tx] = (*Store)(nil)
)

// now is the store's time in milliseconds since 1970.
func (s *Store) now() int64 { return s.opts.Clock().UnixMilli() }

// Identity is what tells this store from others.
func (s *Store) Identity() string { return s.identity }

// Time is the store's clock.
func (s *Store) Time(ctx context.Context) (time.Time, error) {
	const op = "time"
	if err := s.enter(op); err != nil {
		return time.Time{}, err
	}
	defer s.leave()
	if err := ctx.Err(); err != nil {
		return time.Time{}, translate(op, s.name, err)
	}
	return time.UnixMilli(s.now()), nil
}

// Durability says what the store survives.
func (s *Store) Durability() string {
	if s.opts.Synchronous == SynchronousNormal {
		return "SQLite, synchronous=NORMAL: what was stored survives a crash of the process; " +
			"the loss of power may take the last commits with it."
	}
	return "SQLite, synchronous=FULL: what was stored survives the loss of power, " +
		"leases and claims a crash of the process."
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

// submit gives a task to the writer and waits for its answer. A context that
// ends while the task is queued withdraws it; once it has begun, what became of
// it is awaited, which the busy time-out bounds, so that the answer is true.
func (s *Store) submit(ctx context.Context, t task) error {
	c := t.base()
	if err := ctx.Err(); err != nil {
		return translate(c.op, c.object, err)
	}
	if err := s.enter(c.op); err != nil {
		return err
	}
	defer s.leave()
	c.done, _ = s.answers.Get().(chan struct{})
	if c.done == nil {
		c.done = make(chan struct{}, 1)
	}
	s.writer.push(t)
	select {
	case <-c.done:
	case <-ctx.Done():
		if c.state.CompareAndSwap(callQueued, callWithdrawn) {
			return translate(c.op, c.object, ctx.Err())
		}
		<-c.done
	}
	s.answers.Put(c.done)
	return c.err
}

// read runs short statements on the connection that the lanes are read from.
func (s *Store) read(ctx context.Context, op, object string, fn func(ctx context.Context, r runner) error) error {
	if err := s.enter(op); err != nil {
		return err
	}
	defer s.leave()
	return translate(op, object, s.reader.do(ctx, fn))
}

// browse runs statements that may take long on a connection of the pool.
func (s *Store) browse(ctx context.Context, op, object string, fn func(ctx context.Context, r runner) error) error {
	if err := s.enter(op); err != nil {
		return err
	}
	defer s.leave()
	return translate(op, object, fn(ctx, sqlRunner{s.db}))
}

// Close ends the store after the calls that are under way; see [persist.Store].
// If ctx ends before they do, its error is returned, later calls are refused
// all the same, and Close may be called again to wait for the rest.
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
		return translate("close", s.name, ctx.Err())
	}
	s.close.Do(func() { s.closed = translate("close", s.name, s.shutdown()) })
	return s.closed
}

// shutdown gives up what the store holds, in the order: the goroutine that
// writes, the connections, the pool.
func (s *Store) shutdown() error {
	if s.writer != nil {
		s.writer.stop()
	}
	s.reader.held.discard()
	s.processor.held.discard()
	s.notifier.close()
	if !s.owned {
		return nil
	}
	return s.db.Close()
}

// reader is the connection that lanes are read from. Its statements are short:
// a page at most, never an open cursor.
type reader struct {
	mu   sync.Mutex // guards held, while statements run as well
	held *heldConn
}

// do runs fn, with a context that has no end: a page is read in less time than
// the driver needs to watch a context, and readers do not wait for writers.
func (r *reader) do(ctx context.Context, fn func(ctx context.Context, r runner) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held.use(func(c *conn) error { return fn(ctx, c) })
}
