package sqlite

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/oncemq/oncemq/persist"
)

// What one transaction takes in at most, unless a single call is larger. It
// bounds how long the first of the calls waits for the others.
const (
	maxBatchRows  = 2000
	maxBatchBytes = 4 << 20
)

// task is a call that changes the store. It embeds call.
type task interface {
	base() *call
	// run does the work in an open transaction. An error means that the
	// transaction must be undone. A refusal changes nothing, so it is not an
	// error here: it is put into call.err, and others' work stays. A task that
	// was undone is run again, so that run starts from scratch.
	run(ctx context.Context, tx *txn) error
}

// The states of a call.
const (
	callQueued int32 = iota
	callRunning
	callWithdrawn
)

// call is what the writer must know of a task, and how it answers.
type call struct {
	op, object string
	// rows and bytes are the size of the task, as far as a batch is concerned.
	rows, bytes int
	// leaseOnly tells that nothing but leases changes; see writer.setSync.
	leaseOnly bool
	// wakes tells that messages may be due once this is committed.
	wakes bool

	state atomic.Int32
	// err is the answer, nil if the task is done; it and the results in the
	// task may be read after done received.
	err  error
	done chan struct{}
}

func (c *call) base() *call { return c }

// refuse is how run refuses a call: the transaction goes on.
func (c *call) refuse(kind error) error {
	c.err = refuse(c.op, c.object, kind)
	return nil
}

func newCall(op, object string, rows int) call {
	return call{op: op, object: object, rows: rows}
}

// writer owns the connection that all changes go through, but for those in
// transactions of others.
type writer struct {
	s    *Store
	held *heldConn

	mu       sync.Mutex // guards queue, closed and expected
	queue    []task
	closed   bool
	expected persist.Ref // a watch that the goroutine has not taken over yet
	// wake holds one token if something was queued since the goroutine looked.
	wake    chan struct{}
	stopped chan struct{}

	// The rest belongs to the goroutine.
	backlog []task
	batch   []task
	adds    []*enqueueTask
	enq     enqueuer
	relaxed bool // PRAGMA synchronous is NORMAL at the moment
	open    bool // a transaction could not be rolled back
	watch   watch
}

// startWriter starts the goroutine that writes on a connection.
func startWriter(s *Store, held *heldConn) *writer {
	w := &writer{s: s, held: held, wake: make(chan struct{}, 1), stopped: make(chan struct{})}
	go w.work()
	return w
}

// work is the goroutine.
func (w *writer) work() {
	defer close(w.stopped)
	for w.wait() {
		answered := 0
		err := w.held.use(func(c *conn) error {
			answered = w.round(c)
			return nil
		})
		if err != nil { // the connection is gone, and nothing was run
			batch := w.claim(len(w.backlog))
			answered = len(batch)
			w.answer(batch, err)
		}
		w.yield(answered)
	}
	w.held.discard()
}

// yield lets those who were answered run before the next batch is taken, as long
// as more of them come back with what they do next. Without it every other batch
// is nearly empty. It waits for nobody: when no goroutine is ready it returns at
// once.
func (w *writer) yield(answered int) {
	for queued := -1; ; {
		w.mu.Lock()
		n := len(w.queue)
		w.mu.Unlock()
		if n == queued || n >= answered {
			return
		}
		queued = n
		runtime.Gosched()
	}
}

// push queues a task. The caller holds the store open, see Store.enter.
func (w *writer) push(t task) {
	w.mu.Lock()
	w.queue = append(w.queue, t)
	w.mu.Unlock()
	w.poke()
}

// poke makes the goroutine look at the queue.
func (w *writer) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// stop ends the goroutine once the queue is empty, and waits for it.
func (w *writer) stop() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.poke()
	<-w.stopped
}

// wait waits for tasks; false once the writer was stopped and none is left.
func (w *writer) wait() bool {
	for {
		closed := w.fetch()
		if len(w.backlog) > 0 {
			return true
		}
		if closed {
			return false
		}
		w.sleep()
	}
}

// fetch takes over what others have left for the goroutine.
func (w *writer) fetch() (closed bool) {
	w.mu.Lock()
	w.backlog = append(w.backlog, w.queue...)
	clear(w.queue)
	w.queue = w.queue[:0]
	closed = w.closed
	expected := w.expected
	w.expected = persist.Ref{}
	w.mu.Unlock()
	w.adopt(expected)
	return closed
}

// round answers a batch of tasks, and tells how many. The batch is made up once
// the write lock is there: who has come meanwhile takes part, and who has given
// up waiting does not.
func (w *writer) round(c *conn) int {
	ctx := context.Background()
	waiting := len(w.backlog)
	relaxed := leaseOnly(w.backlog)
	if err := w.begin(ctx, c, relaxed); err != nil {
		batch := w.claim(waiting)
		w.answer(batch, err)
		return len(batch)
	}
	w.seen() // nobody else's transaction is open now
	w.fetch()
	batch := w.claim(w.fits(relaxed))
	err, again := w.finish(ctx, c, batch)
	if err == nil || !again || len(batch) == 1 {
		w.answer(batch, err)
		return len(batch)
	}
	// One by one, so that the failure of one is not another's.
	for i := range batch {
		one := batch[i : i+1]
		err := w.begin(ctx, c, leaseOnly(one))
		if err == nil {
			err, _ = w.finish(ctx, c, one)
		}
		w.answer(one, err)
	}
	return len(batch)
}

// fits tells how many tasks at the front of the backlog go into one transaction.
// One that does not wait for the disk has room for tasks of its kind only.
func (w *writer) fits(relaxed bool) int {
	rows, bytes := 0, 0
	for i, t := range w.backlog {
		c := t.base()
		rows, bytes = rows+c.rows, bytes+c.bytes
		if relaxed && !c.leaseOnly || i > 0 && (rows > maxBatchRows || bytes > maxBatchBytes) {
			return i
		}
	}
	return len(w.backlog)
}

// claim takes the first n tasks out of the backlog, and returns those of them
// that were not withdrawn. From then on their callers wait for the answer.
func (w *writer) claim(n int) []task {
	clear(w.batch)
	w.batch = w.batch[:0]
	for _, t := range w.backlog[:n] {
		if t.base().state.CompareAndSwap(callQueued, callRunning) {
			w.batch = append(w.batch, t)
		}
	}
	rest := copy(w.backlog, w.backlog[n:])
	clear(w.backlog[rest:])
	w.backlog = w.backlog[:rest]
	return w.batch
}

func leaseOnly(tasks []task) bool {
	for _, t := range tasks {
		if !t.base().leaseOnly {
			return false
		}
	}
	return true
}

// answer wakes those who wait for messages, and tells the callers.
func (w *writer) answer(batch []task, err error) {
	wakes := false
	for _, t := range batch {
		b := t.base()
		if err != nil {
			b.err = translate(b.op, b.object, err)
		}
		wakes = wakes || b.wakes && b.err == nil
	}
	if wakes {
		w.s.notifier.wake()
	}
	for _, t := range batch {
		t.base().done <- struct{}{} // from here on the task is the caller's
	}
}

// begin starts a transaction, which finish ends.
func (w *writer) begin(ctx context.Context, c *conn, relaxed bool) error {
	// A transaction of ProcessTx in this process is waited for here and not in
	// SQLite, which would poll.
	if err := w.s.gate.enter(ctx, w.s.opts.BusyTimeout); err != nil {
		return err
	}
	err := w.beginLocked(ctx, c, relaxed)
	if err != nil {
		w.s.gate.leave()
	}
	return err
}

func (w *writer) beginLocked(ctx context.Context, c *conn, relaxed bool) error {
	if w.open {
		if err := w.rollback(ctx, c); err != nil {
			return err
		}
	}
	if err := w.setSync(ctx, c, relaxed); err != nil {
		return err
	}
	_, err := c.exec(ctx, w.s.q.begin)
	return err
}

// finish runs tasks in the transaction and commits it. If that fails, again
// tells whether the tasks may be tried one by one: nothing was changed, and the
// fault may lie in one of them.
func (w *writer) finish(ctx context.Context, c *conn, batch []task) (err error, again bool) {
	defer w.s.gate.leave()
	for _, t := range batch {
		t.base().err = nil
	}
	tx := &txn{runner: c, q: w.s.q, now: w.s.now()}
	err = w.run(ctx, tx, batch)
	if err == nil {
		err = tx.keys.write(ctx, tx)
	}
	if err != nil {
		return both(err, w.rollback(ctx, c)), true
	}
	if _, err := c.exec(ctx, w.s.q.commit); err != nil {
		err = &commitError{err}
		known := !errors.Is(kindOf(err), persist.ErrUnknownOutcome)
		return both(err, w.rollback(ctx, c)), known
	}
	return nil, false
}

// run runs the tasks. Enqueues come last, together: others may make room, and
// one multi-row statement serves many of them.
func (w *writer) run(ctx context.Context, tx *txn, batch []task) error {
	clear(w.adds)
	w.adds = w.adds[:0]
	for _, t := range batch {
		if add, ok := t.(*enqueueTask); ok {
			w.adds = append(w.adds, add)
			continue
		}
		if err := t.run(ctx, tx); err != nil {
			return err
		}
	}
	if len(w.adds) == 0 {
		return nil
	}
	return w.enq.enqueue(ctx, tx, w.s, w.adds)
}

// rollback undoes the open transaction. Some errors have made SQLite do that
// already; then there is none, which SQLite calls an error. After any other the
// transaction is still there, and is undone before the next one begins.
func (w *writer) rollback(ctx context.Context, c *conn) error {
	_, err := c.exec(ctx, w.s.q.rollback)
	if code, ok := resultCode(err); ok && code == sqlite3.SQLITE_ERROR {
		err = nil
	}
	w.open = err != nil
	return err
}

// setSync chooses whether the next commit waits for the disk.
//
// A commit that changes nothing but leases does not. In WAL mode a commit with
// synchronous=NORMAL is written to the log and not synced: it survives the
// death of this process, and only the loss of power can take it away. That
// would also end whoever held the lease, since all who use the file run on the
// one machine, so that nobody is left who could act on it. Nor can anything
// durable refer to a lost lease: the log is one sequence, and the next commit
// with FULL syncs everything before it. So an epoch that went into a settlement,
// a mark or a session is as durable as that. The epochs after a loss of power
// may repeat some that were given out before it, to nobody who still lives.
func (w *writer) setSync(ctx context.Context, c *conn, relaxed bool) error {
	if w.s.opts.Synchronous == SynchronousNormal || relaxed == w.relaxed {
		return nil
	}
	text := "PRAGMA synchronous = FULL"
	if relaxed {
		text = "PRAGMA synchronous = NORMAL"
	}
	if err := c.pragma(ctx, text); err != nil {
		return err
	}
	w.relaxed = relaxed
	return nil
}

// gate lets one writer of this process at SQLite's write lock.
type gate chan struct{}

// enter waits for the gate; if timeout is not zero, not for longer than that.
func (g gate) enter(ctx context.Context, timeout time.Duration) error {
	select {
	case g <- struct{}{}:
		return nil
	default:
	}
	var over <-chan time.Time
	if timeout > 0 {
		timer := time.NewTimer(timeout)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-over:
		return errGateBusy
	}
}

func (g gate) leave() { <-g }
