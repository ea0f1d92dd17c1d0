package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// maxChunkBytes is how many encoded bytes are gathered for one statement.
const maxChunkBytes = 256 << 10

// enqueueTask is one call of Enqueue.
type enqueueTask struct {
	call
	msgs       []persist.Message
	out        []persist.Enqueued
	idempotent bool                // some of msgs are
	one        [1]persist.Enqueued // out of a single message, to spare an allocation
}

// run exists for the interface; the writer gathers these tasks.
func (t *enqueueTask) run(ctx context.Context, tx *txn) error {
	return errors.New("enqueue was not gathered")
}

// enqueuer adds messages to the outbox. Its fields are kept from one use to the
// next to spare allocations.
type enqueuer struct {
	items []item
	rows  []newRow
	buf   []byte
	args  []any
	next  [maxLanes]int64
	count [maxLanes]int64
	bytes [maxLanes]int64
}

// item is a message that is to be stored, and where its answer goes.
type item struct {
	msg *persist.Message
	out *persist.Enqueued
}

// newRow is a row that waits for its statement. A plain one has no value but
// its body.
type newRow struct {
	msg          *persist.Message
	due, expires any
	from, to     int // of the body in buf
}

func (r *newRow) plain() bool {
	return r.due == nil && r.expires == nil && !r.msg.Receipt && !r.msg.Idempotent && !r.msg.Droppable && !r.msg.Supersede
}

// enqueue stores the messages of several calls. A call that is refused gets its
// err; an error returned means that the transaction must be undone.
func (e *enqueuer) enqueue(ctx context.Context, tx *txn, s *Store, tasks []*enqueueTask) error {
	defer e.forget()
	room := persist.Room{Limits: s.opts.limits()}
	limited := room.Limits.CountsRoom()
	if limited {
		// A transaction of the caller reads here for the first time. It has to
		// become the writer before, or it might have read what is outdated by
		// the time it writes.
		if _, err := tx.exec(ctx, tx.q.writeLock); err != nil {
			return err
		}
		var dest [2]driver.Value
		if _, err := queryRow(ctx, tx, dest[:], tx.q.outboxTotal); err != nil {
			return err
		}
		room.Messages, room.Bytes = asInt(dest[0]), asInt(dest[1])
		for _, t := range tasks {
			for i := range t.msgs {
				room.AddMessages++
				room.AddBytes += int64(wire.Size(&t.msgs[i]))
			}
		}
	}
	tight := limited && !room.Fits()

	// Calls without conditions are stored together.
	e.items = e.items[:0]
	for _, t := range tasks {
		if !t.idempotent && !tight {
			for i := range t.msgs {
				e.items = append(e.items, item{&t.msgs[i], &t.out[i]})
			}
		}
	}
	if err := e.insert(ctx, tx, s, e.items); err != nil {
		return err
	}
	for _, t := range tasks {
		if !t.idempotent && !tight {
			continue
		}
		if err := e.enqueueOne(ctx, tx, s, t, &room, tight); err != nil {
			return err
		}
	}
	return nil
}

// enqueueOne stores the messages of one call, looking for duplicates and at the
// limits. It keeps room up to date.
func (e *enqueuer) enqueueOne(ctx context.Context, tx *txn, s *Store, t *enqueueTask, room *persist.Room, tight bool) error {
	if _, err := tx.exec(ctx, tx.q.writeLock); err != nil { // before the first read, as above
		return err
	}
	e.items = e.items[:0]
	var first map[string]int // of this call, by ID
	if t.idempotent {
		first = make(map[string]int, len(t.msgs))
	}
	var twins [][2]int // index of a duplicate in this call, and of the first
	for i := range t.msgs {
		m, out := &t.msgs[i], &t.out[i]
		*out = persist.Enqueued{}
		if m.Idempotent {
			if j, ok := first[m.ID]; ok {
				twins = append(twins, [2]int{i, j})
				continue
			}
			var dest [1]driver.Value
			found, err := queryRow(ctx, tx, dest[:], tx.q.outboxByID, m.ID)
			if err != nil {
				return err
			}
			if found {
				out.Position = asInt(dest[0])
				out.Lane = laneOfPosition(out.Position)
				out.Duplicate = true
				continue
			}
		}
		if t.idempotent && (m.Idempotent || m.Receipt) {
			if _, ok := first[m.ID]; !ok {
				first[m.ID] = i
			}
		}
		e.items = append(e.items, item{m, out})
	}
	if tight {
		full, err := e.makeRoom(ctx, tx, s, e.items, room)
		if err != nil {
			return err
		}
		if full != nil {
			t.err = &persist.Error{Op: t.op, Object: t.object, Kind: persist.ErrOutboxFull, Err: full}
			return nil //nolint:nilerr // a refusal, which undoes nothing of others
		}
	}
	if err := e.insert(ctx, tx, s, e.items); err != nil {
		return err
	}
	for _, twin := range twins {
		t.out[twin[0]] = t.out[twin[1]]
		t.out[twin[0]].Duplicate = true
	}
	return nil
}

// makeRoom finds whether there is room for items, or makes it by dropping the
// oldest droppable messages of their lanes [OUTBOX-9]. If that is not enough it
// changes nothing and says which limit is in the way. room is as after the items
// then.
func (e *enqueuer) makeRoom(ctx context.Context, tx *txn, s *Store, items []item, room *persist.Room) (*persist.FullError, error) {
	after := *room
	after.AddMessages, after.AddBytes = 0, 0
	var shares [maxLanes]persist.Share
	waiting := make(map[string]int64) // bytes of what waits of a key, and will be superseded
	for _, it := range items {
		size := int64(wire.Size(it.msg))
		after.AddMessages++
		after.AddBytes += size
		if it.msg.Droppable {
			share := &shares[persist.LaneOf(it.msg.Key(), s.lanes)]
			share.Messages++
			share.Bytes += size
		}
		if !it.msg.Supersede {
			continue
		}
		key := keyHash(it.msg)
		old, waits := waiting[string(key)]
		if !waits {
			var dest [1]driver.Value
			var err error
			if waits, err = queryRow(ctx, tx, dest[:], tx.q.supersededBy, key); err != nil {
				return nil, err
			}
			old = asInt(dest[0])
		}
		if waits {
			after.AddMessages--
			after.AddBytes -= old
		}
		waiting[string(key)] = size
	}
	full := after
	var victims []int64
	var changes [maxLanes]laneChange
	for lane := range s.lanes {
		if !after.Wants(shares[lane]) {
			continue
		}
		below, above := laneBounds(lane)
		var dest [2]driver.Value
		rows, err := tx.query(ctx, tx.q.outboxDroppable, below, above)
		err = eachRow(rows, err, dest[:], func() error {
			if !after.Wants(shares[lane]) {
				return errEnough
			}
			victims = append(victims, asInt(dest[0]))
			after.Take(&shares[lane], asInt(dest[1]))
			changes[lane].left(persist.StatePending, asInt(dest[1]))
			changes[lane].dropped++
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			return nil, err
		}
	}
	if !after.Fits() {
		return full.Full(), nil
	}
	for _, position := range victims {
		if _, err := tx.exec(ctx, tx.q.outboxDelete, position); err != nil {
			return nil, err
		}
	}
	for lane, change := range changes[:s.lanes] {
		if err := change.write(ctx, tx, lane); err != nil {
			return nil, err
		}
	}
	room.Messages, room.Bytes = after.Messages+after.AddMessages, after.Bytes+after.AddBytes
	return nil, remember(ctx, tx, victims, persist.StateDropped)
}

// errEnough ends the reading of what may give way.
var errEnough = errors.New("enough gives way")

// insert stores items, in order, and fills in their places.
//
// [OUTBOX-7] The counter of a lane is advanced in the transaction that inserts,
// and before anything is read. So whoever advances it is the only writer until
// the commit: positions have no gaps, they become visible in the order in which
// they were given, and a reader that has seen all below a lane's counter has
// seen all there will ever be below it. That holds for a transaction of the
// caller as well (WithTx), which becomes a writer by this very statement.
func (e *enqueuer) insert(ctx context.Context, tx *txn, s *Store, items []item) error {
	if len(items) == 0 {
		return nil
	}
	clear(e.count[:])
	clear(e.bytes[:])
	supersedes := false
	for _, it := range items {
		lane := persist.LaneOf(it.msg.Key(), s.lanes)
		*it.out = persist.Enqueued{Ref: persist.Ref{Lane: lane}}
		e.count[lane]++
		e.bytes[lane] += int64(wire.Size(it.msg))
		supersedes = supersedes || it.msg.Supersede
	}
	for lane, n := range e.count[:s.lanes] {
		if n == 0 {
			continue
		}
		var dest [1]driver.Value
		found, err := queryRow(ctx, tx, dest[:], tx.q.laneExtend, int64(lane), n, e.bytes[lane])
		if err != nil {
			return err
		}
		if !found {
			return &persist.Error{Op: "enqueue", Object: laneName(lane), Kind: persist.ErrCorrupt}
		}
		e.next[lane] = asInt(dest[0])
	}
	for lane, n := range e.count[:s.lanes] {
		if n == 0 {
			continue
		}
		if err := e.insertLane(ctx, tx, lane, items); err != nil {
			return err
		}
	}
	if supersedes {
		return e.supersede(ctx, tx, items)
	}
	return nil
}

// insertLane stores the items of one lane in statements of many rows. All rows
// of a statement are plain, or none is.
func (e *enqueuer) insertLane(ctx context.Context, tx *txn, lane int, items []item) error {
	maxRows := tx.q.insertPlain[0].rows
	e.rows, e.buf = e.rows[:0], e.buf[:0]
	for _, it := range items {
		if it.out.Lane != lane {
			continue
		}
		r := newRow{msg: it.msg}
		if it.msg.Delay > 0 {
			r.due = tx.now + millis(it.msg.Delay)
		}
		if it.msg.Expiry > 0 {
			r.expires = tx.now + millis(it.msg.Expiry)
		}
		if n := len(e.rows); n > 0 && (n == maxRows || len(e.buf) > maxChunkBytes || e.rows[0].plain() != r.plain()) {
			if err := e.flush(ctx, tx, lane); err != nil {
				return err
			}
		}
		r.from = len(e.buf)
		e.buf = wire.AppendMessage(e.buf, it.msg)
		r.to = len(e.buf)
		e.rows = append(e.rows, r)
		it.out.Position = e.next[lane] + int64(len(e.rows)-1)
	}
	return e.flush(ctx, tx, lane)
}

// flush inserts the rows that were gathered.
func (e *enqueuer) flush(ctx context.Context, tx *txn, lane int) error {
	if len(e.rows) == 0 {
		return nil
	}
	plain := e.rows[0].plain()
	sizes := tx.q.insertFull
	if plain {
		sizes = tx.q.insertPlain
	}
	err := sizes.each(len(e.rows), func(stmt *statement, from, to int) error {
		e.args = append(e.args[:0], e.next[lane]+int64(from), tx.now)
		for i := range e.rows[from:to] {
			r := &e.rows[from+i]
			body := e.buf[r.from:r.to]
			if plain {
				e.args = append(e.args, body)
				continue
			}
			var id, skey any
			if r.msg.Idempotent || r.msg.Receipt {
				id = r.msg.ID
			}
			if r.msg.Supersede {
				skey = keyHash(r.msg)
			}
			e.args = append(e.args, r.due, r.expires, id, asFlag(r.msg.Receipt), asFlag(r.msg.Droppable), skey, body)
		}
		_, err := tx.exec(ctx, stmt, e.args...)
		return err
	})
	e.next[lane] += int64(len(e.rows))
	clear(e.rows)
	e.rows, e.buf = e.rows[:0], e.buf[:0]
	return err
}

// forget lets go of the messages, and of a buffer that became large.
func (e *enqueuer) forget() {
	clear(e.items[:cap(e.items)])
	clear(e.rows[:cap(e.rows)])
	clear(e.args[:cap(e.args)])
	e.items, e.rows, e.args = e.items[:0], e.rows[:0], e.args[:0]
	if cap(e.buf) > 4*maxChunkBytes {
		e.buf = nil
	}
}

func asFlag(set bool) int64 {
	if set {
		return 1
	}
	return 0
}
