package postgres

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/oncemq/oncemq/internal/silence"
	"github.com/oncemq/oncemq/persist"
)

// How many shared commits may be under way at once.
const (
	plainCommits       = 2
	conditionalCommits = 4
)

// How much goes into one commit.
const (
	maxCommitRows  = 4096
	maxCommitBytes = 4 << 20
)

// compactAfter is after how many commits of this process arrivals are compacted,
// in case that nobody holds the lanes and does it.
const compactAfter = 500

// A shared commit belongs to no call. Without an end one that hangs, on a connection
// that is dead without a word, would keep all that come after it.
const (
	// commitTimeout is how long one may take while somebody waits for it. Nobody
	// waits for a server that stands still longer than for one that is gone and
	// comes back.
	commitTimeout = 15 * time.Second
	// commitPatience is after how long one is late: another may be under way in its
	// place, perhaps on a connection that works.
	commitPatience = time.Second
)

// collector gathers calls while commits are under way: who comes alone is
// committed at once, and a hundred who come together wait for few commits, not for
// a hundred.
type collector struct {
	s     *Store
	limit int // of commits under way
	// timeout and patience are for tests; zero is commitTimeout and commitPatience.
	timeout, patience time.Duration

	mu      sync.Mutex // guards the rest
	queue   []*enqueueTask
	running int // goroutines in drain, without those that are late
	late    int // no more than limit
}

// sharedCommit is one that is under way.
type sharedCommit struct {
	tasks  []*enqueueTask
	ctx    context.Context //nolint:containedctx // that of no call
	cancel context.CancelFunc

	// Guarded by the collector's mu.
	waiting     int // of the tasks' callers
	late, ended bool
}

// submit queues a task and waits for its answer.
func (c *collector) submit(ctx context.Context, t *enqueueTask) error {
	c.mu.Lock()
	c.queue = append(c.queue, t)
	if c.running < c.limit {
		c.running++
		c.s.work.Go(c.drain)
	}
	c.mu.Unlock()
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
	}
	if c.withdraw(t) {
		return translate(opEnqueue, c.s.name, ctx.Err())
	}
	select {
	case <-t.done: // in the same moment
		return t.err
	default:
		c.abandon(t.commit)
		return unknown(opEnqueue, c.s.name, ctx.Err())
	}
}

// abandon notes that a caller has gone. With the last of them the commit is broken
// off.
func (c *collector) abandon(under *sharedCommit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	under.waiting--
	if under.waiting == 0 {
		under.cancel()
	}
}

// withdraw takes a task out of the queue, with all it holds. It tells whether the
// task was still there.
func (c *collector) withdraw(t *enqueueTask) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := slices.Index(c.queue, t)
	if at < 0 {
		return false
	}
	c.queue = slices.Delete(c.queue, at, at+1)
	return true
}

// drain commits until nothing is queued, or somebody else has its place.
func (c *collector) drain() {
	for {
		next := c.take()
		if next == nil {
			return
		}
		patience := time.AfterFunc(cmp.Or(c.patience, commitPatience), func() { c.passOn(next) })
		c.commit(next)
		patience.Stop()
		for _, t := range next.tasks {
			close(t.done)
		}
		if c.end(next) {
			return
		}
	}
}

// passOn gives the place of a commit that takes long to another. No more do so than
// there are places, so that the pool has connections for other calls.
func (c *collector) passOn(under *sharedCommit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if under.ended || c.late == c.limit {
		return
	}
	under.late = true
	c.late++
	if len(c.queue) > 0 {
		c.s.work.Go(c.drain)
	} else {
		c.running--
	}
}

// end notes that a commit has ended. It tells whether its place was passed on.
func (c *collector) end(under *sharedCommit) bool {
	under.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	under.ended = true
	if under.late {
		c.late--
	}
	return under.late
}

// take takes the next tasks that go into one commit; none ends the caller.
func (c *collector) take() *sharedCommit {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.running--
		return nil
	}
	rows, bytes, n := 0, 0, 0
	for _, t := range c.queue {
		if n > 0 && (rows+len(t.rows) > maxCommitRows || bytes+t.bytes > maxCommitBytes) {
			break
		}
		n++
		rows, bytes = rows+len(t.rows), bytes+t.bytes
	}
	next := &sharedCommit{tasks: slices.Clone(c.queue[:n]), waiting: n}
	next.ctx, next.cancel = context.WithTimeout(c.s.life, cmp.Or(c.timeout, commitTimeout))
	for _, t := range next.tasks {
		t.commit = next
	}
	c.queue = slices.Delete(c.queue, 0, n)
	return next
}

// commit stores the messages of tasks. That it took too long before anything was
// sent is not the fault of the callers' contexts, and must not look like it.
func (c *collector) commit(next *sharedCommit) {
	c.s.commit(next.ctx, next.tasks)
	for _, t := range next.tasks {
		if errors.Is(t.err, context.DeadlineExceeded) && !errors.Is(t.err, persist.ErrUnknownOutcome) {
			t.err = &persist.Error{Op: opEnqueue, Object: c.s.name, Kind: persist.ErrUnavailable, Err: errNoAnswer}
		}
	}
}

var errNoAnswer = errors.New("the server did not answer in time")

// commit stores the messages of several calls in one transaction. If that is
// refused for a reason that may be one call's own, each runs in one of its own.
func (s *Store) commit(ctx context.Context, tasks []*enqueueTask) {
	err := s.commitOnce(ctx, tasks)
	var refused *pgconn.PgError
	if err != nil && len(tasks) > 1 && errors.As(err, &refused) && !errors.Is(err, persist.ErrUnknownOutcome) {
		for _, t := range tasks {
			s.commit(ctx, []*enqueueTask{t})
		}
		return
	}
	for _, t := range tasks {
		if err != nil {
			t.err = err
		}
	}
	if err != nil {
		return
	}
	s.notifier.wake()
	s.notifier.tell()
	if s.commits.Add(1)%compactAfter == 0 {
		// What is left out now is done by the next.
		_, _ = s.attempt(ctx, []step{{stmt: s.q.steer}, {stmt: s.q.arrivalsCompact}})
		if s.gaveWay.Load() {
			_, _ = s.attempt(ctx, []step{{stmt: s.q.steer}, s.forgetGaveWay()})
		}
	}
}

func (s *Store) commitOnce(ctx context.Context, tasks []*enqueueTask) error {
	if s.opts.limits().CountsRoom() {
		return s.inTx(ctx, opEnqueue, s.name, func(ctx context.Context, tx pgx.Tx) error {
			r := pgxRunner{tx}
			if _, err := r.run(ctx, []step{{stmt: s.q.steer}}); err != nil {
				return err
			}
			return s.insertLimited(ctx, r, tasks)
		})
	}
	var in *insertion
	err := s.transact(ctx, opEnqueue, s.name, writes, func() (steps []step) {
		in, steps = s.insert(tasks)
		if in.waits {
			steps = append([]step{{stmt: s.q.steer}}, steps...)
		}
		return steps
	})
	if err == nil {
		in.finish()
	}
	return err
}

// forgetGaveWay forgets messages that gave way long ago [OUTBOX-15].
func (s *Store) forgetGaveWay() step {
	return step{stmt: s.q.gaveWayForget, args: []any{int64(persist.RememberedFates)}}
}

// inTx runs a transaction of several round trips.
func (s *Store) inTx(ctx context.Context, op, object string, fn func(ctx context.Context, tx pgx.Tx) error) error {
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return translate(op, object, err)
		}
		certain, err := s.attemptTx(ctx, fn)
		switch {
		case err == nil:
			return nil
		case !certain:
			return unknown(op, object, err)
		case n == maxAttempts || !worthAnotherTry(err, writes):
			return translate(op, object, err)
		}
	}
}

// attemptTx runs a transaction once. Until COMMIT is sent nothing can have
// happened.
func (s *Store) attemptTx(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx) error) (certain bool, err error) {
	c, err := s.acquire(ctx)
	if err != nil {
		return true, err
	}
	inUse := false
	defer func() {
		if !inUse {
			s.giveBack(c)
		}
	}()
	defer silence.Hold(c.Conn().PgConn().Conn())()
	tx, err := c.Begin(ctx)
	if err != nil {
		return true, err
	}
	defer func() {
		if inUse {
			cutOff(c)
			return
		}
		// Also after a panic of fn; after Commit it does nothing. If it fails the
		// connection is given up, and the server rolls back.
		ctx, cancel := s.undoing(ctx)
		defer cancel()
		_ = tx.Rollback(ctx)
	}()
	if err := fn(ctx, tx); err != nil {
		inUse = errors.Is(err, persist.ErrTxInUse)
		return true, err
	}
	if err := ctx.Err(); err != nil {
		return true, err
	}
	return commitTx(ctx, tx)
}

// cutOff ends a transaction that somebody may be using [CLAIM-12]. A connection of
// pgx cannot be used by two, not even to roll back: so it leaves the pool, and its
// socket is closed beneath whoever uses it. The server rolls back when it notices; a
// statement under way, which would keep it from noticing, is cancelled by pgx, which
// does so whenever it loses a connection in one.
func cutOff(c *pgxpool.Conn) {
	_ = c.Hijack().PgConn().Conn().Close() // the server notices if it had failed already
}

// commitTx commits. certain tells that with err nothing has happened: the server
// said so, and goes on living.
func commitTx(ctx context.Context, tx pgx.Tx) (certain bool, err error) {
	err = tx.Commit(ctx)
	var refused *pgconn.PgError
	switch {
	case err == nil, errors.Is(err, pgx.ErrTxCommitRollback), pgconn.SafeToRetry(err):
		return true, err
	case errors.As(err, &refused):
		return refused.SeverityUnlocalized == "ERROR", err
	}
	return false, err
}
