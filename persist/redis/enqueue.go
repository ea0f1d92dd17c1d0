package redis

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/oncemq/oncemq/persist"
)

// What one script takes in at most, unless a single call is larger. It bounds
// how long the first of the calls waits for the others.
const (
	maxBatchMessages = 2000
	maxBatchBytes    = 4 << 20
)

// addition is one call of Enqueue.
type addition struct {
	msgs    []persist.Message
	out     []persist.Enqueued
	one     [1]persist.Enqueued // out of a single message, to spare an allocation
	bytes   int
	checked bool // some are idempotent
	plain   bool // all are

	state atomic.Int32 // as of the call's states below
	err   error        // may be read after done received
	done  chan struct{}
}

// The states of an addition.
const (
	callQueued int32 = iota
	callRunning
	callWithdrawn
)

func newAddition(object string, limits persist.Limits, msgs []persist.Message) (*addition, error) {
	if err := checkMessages("enqueue", object, limits, msgs); err != nil {
		return nil, err
	}
	c := &addition{msgs: msgs, plain: true, done: make(chan struct{}, 1)}
	for i := range msgs {
		c.bytes += len(msgs[i].Payload)
		c.checked = c.checked || msgs[i].Idempotent
		c.plain = c.plain && isPlain(&msgs[i])
	}
	if len(msgs) == 1 {
		c.out = c.one[:]
	} else {
		c.out = make([]persist.Enqueued, len(msgs))
	}
	return c, nil
}

// adder adds messages. While one script is under way the next calls collect, and
// go into the next one together: so a hundred goroutines that enqueue one message
// each wait for few scripts, not for a hundred, and nobody waits for a timer. It
// has a goroutine as long as there is something to do.
type adder struct {
	mu      sync.Mutex // guards queue and working
	queue   []*addition
	working bool

	// encoding is held while calls are taken from the queue and their messages
	// encoded, which is work of memory alone.
	encoding sync.Mutex

	// The rest belongs to the goroutine.
	batch []*addition
	lines lines
}

// submit queues a call and waits for its answer. A context that ends while the
// call is queued withdraws it; once it is under way the outcome is unknown. Either
// way nobody looks at the messages any more once submit has returned.
func (a *adder) submit(ctx context.Context, s *Store, c *addition) error {
	const op = "enqueue"
	if err := s.enter(op); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		s.leave()
		return translate(op, s.name, false, err)
	}
	a.mu.Lock()
	a.queue = append(a.queue, c)
	start := !a.working
	a.working = true
	a.mu.Unlock()
	if start {
		go a.work(s)
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		if c.state.CompareAndSwap(callQueued, callWithdrawn) {
			return translate(op, s.name, false, ctx.Err())
		}
		// The messages are the caller's again when we return: not before they
		// were encoded. The goroutine holds this from before it took the call.
		a.encoding.Lock()
		a.encoding.Unlock()
		return &persist.Error{Op: op, Object: s.name, Kind: persist.ErrUnknownOutcome, Err: ctx.Err()}
	}
}

// work is the goroutine. Each call in the queue holds the store open; work lets
// go of it.
func (a *adder) work(s *Store) {
	for {
		taken, names := a.prepare(s)
		if taken == 0 {
			return
		}
		var err error
		if len(a.batch) > 0 {
			err = a.add(s, names)
		}
		a.lines.forget()
		for _, c := range a.batch {
			if err != nil {
				c.err = err
			}
			c.done <- struct{}{}
		}
		if err == nil && len(a.batch) > 0 {
			s.notifier.wake()
		}
		clear(a.batch)
		a.batch = a.batch[:0]
		for range taken {
			s.leave()
		}
		a.yield(taken)
	}
}

// prepare takes a batch and encodes it: all that needs the messages of callers. It
// returns how many calls left the queue, and the names of the script's keys.
func (a *adder) prepare(s *Store) (taken int, names []string) {
	a.encoding.Lock()
	defer a.encoding.Unlock()
	taken = a.take()
	// Once the queue is empty the rest may be another goroutine's.
	if taken > 0 && len(a.batch) > 0 {
		names = a.encode(s)
	}
	return taken, names
}

// take moves the calls at the front of the queue that fit into one script to the
// batch, but for those that were withdrawn, and tells how many left the queue. At
// the end of the queue the goroutine ends.
func (a *adder) take() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		a.working = false
		return 0
	}
	n, messages, bytes := 0, 0, 0
	for _, c := range a.queue {
		messages, bytes = messages+len(c.msgs), bytes+c.bytes
		if n > 0 && (messages > maxBatchMessages || bytes > maxBatchBytes) {
			break
		}
		n++
		if c.state.CompareAndSwap(callQueued, callRunning) {
			a.batch = append(a.batch, c)
		}
	}
	rest := copy(a.queue, a.queue[n:])
	clear(a.queue[rest:])
	a.queue = a.queue[:rest]
	return n
}

// yield lets those who were answered run before the next batch is taken, as long
// as more of them come back with what they do next. Without it every other batch
// is nearly empty. It waits for nobody.
func (a *adder) yield(answered int) {
	for queued := -1; ; {
		a.mu.Lock()
		n := len(a.queue)
		a.mu.Unlock()
		if n == queued || n >= answered {
			return
		}
		queued = n
		runtime.Gosched()
	}
}

// encode makes the arguments of the script, and returns the names of its keys.
func (a *adder) encode(s *Store) (names []string) {
	l := &a.lines
	for _, c := range a.batch {
		l.number(s, c.msgs)
	}
	names = []string{s.keys.totals, s.keys.ids}
	l.args = append(l.args, s.keys.wake, s.handle, s.opts.limitsText(), len(l.lanes))
	for _, lane := range l.lanes {
		names = s.keys.appendLane(names, lane)
		l.args = append(l.args, lane)
	}
	names = append(names, s.keys.fates, s.keys.gave, s.keys.latest)
	limited := s.opts.limits().CountsRoom()
	from := 0
	for _, c := range a.batch {
		checked := 0
		if c.checked || limited {
			checked = 1
		}
		index := l.index[from : from+len(c.msgs)]
		l.args = append(l.args, len(c.msgs), checked)
		if c.plain {
			l.args = append(l.args, index)
			l.bodies(c.msgs)
		} else {
			l.args = append(l.args, "")
			l.messages(c.msgs, index)
		}
		from += len(c.msgs)
	}
	return names
}

// add stores the messages of the batch, which are encoded. A call that is refused
// gets its err; an error returned is that of all.
func (a *adder) add(s *Store, names []string) error {
	const op = "enqueue"
	l := &a.lines
	answer, err := s.perform(context.Background(), op, s.name, s.run.enqueue, names, l.args)
	if err != nil {
		return err
	}
	answers := asList(answer)
	if len(answers) != len(a.batch) {
		return &persist.Error{Op: op, Object: s.name, Kind: persist.ErrUnknownOutcome, Err: errAnswer}
	}
	from := 0
	limited := s.opts.limits().CountsRoom()
	for i, c := range a.batch {
		text := asText(answers[i])
		switch full := asFull(answers[i]); {
		case full != nil:
			c.err = &persist.Error{Op: op, Object: s.name, Kind: persist.ErrOutboxFull, Err: full}
		case c.checked || limited:
			err = readPlaces(text, c.out)
		default:
			err = countPlaces(text, l.lanes, l.index[from:], c.out)
		}
		if err != nil {
			c.err = &persist.Error{Op: op, Object: s.name, Kind: persist.ErrUnknownOutcome, Err: err}
		}
		from += len(c.msgs)
	}
	return nil
}

// asFull reads the limit that leaves no room; nil if there is none.
func asFull(answer any) *persist.FullError {
	f := asList(answer)
	if len(f) != 4 {
		return nil
	}
	return &persist.FullError{Limit: asText(f[0]), Most: asInt(f[1]), Held: asInt(f[2]), Wanted: asInt(f[3])}
}

// readPlaces reads a place for each message.
func readPlaces(text string, out []persist.Enqueued) error {
	const size = 8
	if len(text) != size*len(out) {
		return errAnswer
	}
	for i := range out {
		b := []byte(text[size*i : size*i+size])
		out[i].Duplicate = b[0] == 1
		out[i].Lane = int(b[1])
		out[i].Position = int64(uint48(b[2:]))
	}
	return nil
}

// countPlaces counts the places from the last position of each lane on.
func countPlaces(text string, lanes []int, index []byte, out []persist.Enqueued) error {
	const size = 6
	if len(text) != size*len(lanes) {
		return errAnswer
	}
	var last [maxLanes]int64
	for i := range lanes {
		last[i] = int64(uint48([]byte(text[size*i : size*i+size])))
	}
	for i := range out {
		lane := index[i] - 1
		last[lane]++
		out[i] = persist.Enqueued{Ref: persist.Ref{Lane: lanes[lane], Position: last[lane]}}
	}
	return nil
}

// uint48 reads six bytes.
func uint48(b []byte) uint64 {
	_ = b[5]
	return uint64(b[0])<<40 | uint64(b[1])<<32 | uint64(b[2])<<24 | uint64(b[3])<<16 | uint64(b[4])<<8 | uint64(b[5])
}

func appendUint48(b []byte, n int64) []byte {
	return append(b, byte(n>>40), byte(n>>32), byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}
