package sqlite

import (
	"context"
	"errors"
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

func newCall(op, object string, rows int) call {
	return call{op: op, object: object, rows: rows, done: make(chan struct{}, 1)}
}

// writer owns the connection that all changes go through, but for those in
// transactions of others.
type writer struct {
	s    *Store
	held *heldConn

	mu     sync.Mutex // guards queue and closed
	queue  []task
	closed bool
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
	for {
		batch := w.take()
		if len(batch) == 0 {
			break
		}
		err := w.held.use(func(c *conn) error {
			w.do(c, batch)
			return nil
		})
		if err != nil { // the connection is gone, and nothing was run
			w.answer(batch, err)
		}
	}
	w.held.discard()
}

// push queues a task. The caller holds the store open, see Store.enter.
func (w *writer) push(t task) {
	w.mu.Lock()
	w.queue = append(w.queue, t)
	w.mu.Unlock()
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
	select {
	case w.wake <- struct{}{}:
	default:
	}
	<-w.stopped
}

// take waits for tasks and returns those for the next transaction; none once
// the writer was stopped.
func (w *writer) take() []task {
	for {
		w.mu.Lock()
		w.backlog = append(w.backlog, w.queue...)
		clear(w.queue)
		w.queue = w.queue[:0]
		closed := w.closed
		w.mu.Unlock()

		if batch := w.cut(); len(batch) > 0 || closed {
			return batch
		}
		<-w.wake
	}
}

// cut takes tasks from the front of the backlog until a batch is full.
func (w *writer) cut() []task {
	clear(w.batch)
	w.batch = w.batch[:0]
	rows, bytes, n := 0, 0, 0
	for _, t := range w.backlog {
		c := t.base()
		if len(w.batch) > 0 && (rows+c.rows > maxBatchRows || bytes+c.bytes > maxBatchBytes) {
			break
		}
		n++
		if !c.state.CompareAndSwap(callQueued, callRunning) {
			continue // withdrawn
		}
		rows, bytes = rows+c.rows, bytes+c.bytes
		w.batch = append(w.batch, t)
	}
	rest := copy(w.backlog, w.backlog[n:])
	clear(w.backlog[rest:])
	w.backlog = w.backlog[:rest]
	return w.batch
}

// do runs a batch in one transaction, and if that cannot be, each task in its
// own, so that the failure of one is not another's.
func (w *writer) do(c *conn, batch []task) {
	err, again := w.transact(c, batch)
	if err == nil || !again || len(batch) == 1 {
		w.answer(batch, err)
		return
	}
	for i := range batch {
		err, _ := w.transact(c, batch[i:i+1])
		w.answer(batch[i:i+1], err)
	}
}

// answer tells the callers, and wakes those who wait for messages.
func (w *writer) answer(batch []task, err error) {
	wakes := false
	for _, t := range batch {
		b := t.base()
		if err != nil {
			b.err = translate(b.op, b.object, err)
		}
		wakes = wakes || b.wakes && b.err == nil
		// From here on the task is the caller's.
		b.done <- struct{}{}
	}
	if wakes {
		w.s.notifier.wake()
	}
}

// transact runs tasks in one transaction. If it fails, again tells whether the
// tasks may be tried one by one: nothing was changed, and the fault may lie in
// one of them.
func (w *writer) transact(c *conn, batch []task) (err error, again bool) {
	ctx := context.Background()
	leaseOnly := true
	for _, t := range batch {
		t.base().err = nil
		leaseOnly = leaseOnly && t.base().leaseOnly
	}
	// A transaction of ProcessTx in this process is waited for here and not in
	// SQLite, which would poll.
	if err := w.s.gate.enter(ctx, w.s.opts.BusyTimeout); err != nil {
		return err, false
	}
	defer w.s.gate.leave()
	if w.open {
		if err := w.rollback(ctx, c); err != nil {
			return err, false
		}
	}
	if err := w.setSync(ctx, c, leaseOnly); err != nil {
		return err, false
	}
	if _, err := c.exec(ctx, w.s.q.begin); err != nil {
		return err, false
	}
	tx := &txn{runner: c, q: w.s.q, now: w.s.now()}
	if err := w.run(ctx, tx, batch); err != nil {
		return errors.Join(err, w.rollback(ctx, c)), true
	}
	if _, err := c.exec(ctx, w.s.q.commit); err != nil {
		err = &commitError{err}
		known := !errors.Is(kindOf(err), persist.ErrUnknownOutcome)
		return errors.Join(err, w.rollback(ctx, c)), known
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
func (w *writer) setSync(ctx context.Context, c *conn, leaseOnly bool) error {
	if w.s.opts.Synchronous == SynchronousNormal || leaseOnly == w.relaxed {
		return nil
	}
	text := "PRAGMA synchronous = FULL"
	if leaseOnly {
		text = "PRAGMA synchronous = NORMAL"
	}
	if err := c.pragma(ctx, text); err != nil {
		return err
	}
	w.relaxed = leaseOnly
	return nil
}

// gate lets one writer of this process at SQLite's write lock.
type gate chan struct{}

// enter waits for the gate, at most for the busy time-out.
func (g gate) enter(ctx context.Context, timeout time.Duration) error {
	select {
	case g <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return errGateBusy
	}
}

func (g gate) leave() { <-g }
