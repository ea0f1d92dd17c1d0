package postgres

import (
	"context"
	"fmt"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// rowKind tells what a message needs of the statement that stores it; each kind
// can do what those before it can.
type rowKind uint8

const (
	plainRows rowKind = iota // a body
	fullRows                 // other columns as well
	onceRows                 // a promise about the ID
)

func kindOfRow(m *persist.Message) rowKind {
	switch {
	case m.Idempotent:
		return onceRows
	case m.Delay > 0 || m.Expiry > 0 || m.Receipt || m.Droppable || m.Supersede:
		return fullRows
	}
	return plainRows
}

// newRow is a message that is to be stored. It refers to nothing of the caller's,
// who may use its slice again while a commit that it gave up is under way.
type newRow struct {
	body                           []byte
	id                             string
	skey                           []byte // nil unless the message supersedes others
	delay, expiry                  int64
	lane                           int
	size                           int32
	receipt, droppable, idempotent bool
}

// enqueueTask is one call of Enqueue.
type enqueueTask struct {
	rows  []newRow
	out   []persist.Enqueued
	kind  rowKind
	bytes int
	// waits tells that it may have to wait for transactions of others.
	waits bool
	// Of a single message, to spare allocations.
	oneRow [1]newRow
	one    [1]persist.Enqueued

	commit *sharedCommit // it is in; nil while it is queued; guarded by the collector's mu
	done   chan struct{} // closed once err is set
	err    error
}

// bodyOverhead is about what the encoding of a message has beside topic and
// payload.
const bodyOverhead = 64

// newEnqueue checks messages and makes a task of them. They are encoded here, by
// the caller's goroutine.
func (s *Store) newEnqueue(msgs []persist.Message) (*enqueueTask, error) {
	t := &enqueueTask{done: make(chan struct{})}
	size := 0
	limits := s.opts.limits()
	for i := range msgs {
		m := &msgs[i]
		if err := limits.CheckMessage(m); err != nil {
			return nil, invalid(opEnqueue, fmt.Sprintf("message %d", i), err)
		}
		t.kind = max(t.kind, kindOfRow(m))
		t.waits = t.waits || m.Idempotent || m.Supersede
		size += len(m.Payload) + len(m.Topic) + bodyOverhead
	}
	t.rows, t.out = t.oneRow[:], t.one[:]
	if len(msgs) != 1 {
		t.rows, t.out = make([]newRow, len(msgs)), make([]persist.Enqueued, len(msgs))
	}
	buf := make([]byte, 0, size)
	for i := range msgs {
		m, from := &msgs[i], len(buf)
		buf = wire.AppendMessage(buf, m)
		t.rows[i] = newRow{
			// If buf has moved since, the part stays where it was.
			body: buf[from:len(buf):len(buf)], id: m.ID, delay: millis(m.Delay), expiry: millis(m.Expiry),
			lane: persist.LaneOf(m.Key(), s.lanes), size: int32(len(m.Payload)),
			receipt: m.Receipt, droppable: m.Droppable, idempotent: m.Idempotent,
		}
		if m.Supersede {
			t.rows[i].skey = orderingHash(m)
		}
	}
	t.bytes = len(buf)
	return t, nil
}

// item is a message that is to be stored, and where its answer goes.
type item struct {
	*newRow
	out *persist.Enqueued
}

// insertion is the messages of one or several calls on their way into the outbox.
type insertion struct {
	s     *Store
	kind  rowKind
	waits bool // some have conditions that the planner must be guided for
	items []item
	// twins are messages whose ID comes earlier in the same insertion.
	twins [][2]*persist.Enqueued
	first map[string]*persist.Enqueued
	// next is the item whose answer comes next.
	next int
}

// add takes the messages of a call, but for those that held says are there.
func (in *insertion) add(t *enqueueTask, held map[string]int64) {
	in.kind = max(in.kind, t.kind)
	in.waits = in.waits || t.waits
	for i := range t.rows {
		m, out := &t.rows[i], &t.out[i]
		*out = persist.Enqueued{}
		if m.idempotent {
			if position, ok := held[m.id]; ok {
				*out = duplicateAt(position)
				continue
			}
			if first, ok := in.first[m.id]; ok {
				in.twins = append(in.twins, [2]*persist.Enqueued{out, first})
				continue
			}
		}
		if m.idempotent || m.receipt {
			if in.first == nil {
				in.first = make(map[string]*persist.Enqueued)
			}
			if _, ok := in.first[m.id]; !ok {
				in.first[m.id] = out
			}
		}
		in.items = append(in.items, item{m, out})
	}
}

func duplicateAt(position int64) persist.Enqueued {
	return persist.Enqueued{Ref: persist.Ref{Lane: laneOfPosition(position), Position: position}, Duplicate: true}
}

// steps are the statements that store the items. The first gives the transaction
// its number, which must be before the first position is taken: see gaps.
func (in *insertion) steps() []step {
	in.next = 0
	if len(in.items) == 0 {
		return nil
	}
	q := in.s.q
	args := in.arguments()
	switch in.kind {
	case plainRows:
		return []step{in.arrive(), {stmt: q.insertPlain, args: args, row: in.added}}
	case fullRows:
		return in.supersede([]step{in.arrive(), {stmt: q.insertFull, args: args, row: in.added}})
	default:
		return in.supersede([]step{
			{stmt: q.arriveTransaction},
			{stmt: q.insertOnce, args: args, row: in.addedOnce},
			{stmt: q.insertRivals, row: in.rival},
			{stmt: q.standbyWait}, // for the duplicates
		})
	}
}

// arrive counts the items by lane.
func (in *insertion) arrive() step {
	var count, size [maxLanes]int64
	for _, it := range in.items {
		count[it.lane]++
		size[it.lane] += int64(len(it.body))
	}
	var lanes []int16
	var pending, bytes []int64
	for lane, n := range count[:in.s.lanes] {
		if n > 0 {
			lanes, pending, bytes = append(lanes, int16(lane)), append(pending, n), append(bytes, size[lane])
		}
	}
	return step{stmt: in.s.q.arrive, args: []any{lanes, pending, bytes}}
}

// arguments are the columns of the items.
func (in *insertion) arguments() []any {
	n := len(in.items)
	sequences, sizes, bodies := make([]int64, n), make([]int32, n), make([][]byte, n)
	for i, it := range in.items {
		sequences[i], sizes[i], bodies[i] = in.s.sequences[it.lane], it.size, it.body
	}
	if in.kind == plainRows {
		return []any{sequences, sizes, bodies}
	}
	delays, expiries, ids, skeys := make([]int64, n), make([]int64, n), make([][]byte, n), make([][]byte, n)
	receipt, droppable, once := make([]bool, n), make([]bool, n), make([]bool, n)
	for i, it := range in.items {
		delays[i], expiries[i], skeys[i] = it.delay, it.expiry, it.skey
		if it.idempotent || it.receipt {
			ids[i] = []byte(it.id)
		}
		receipt[i], droppable[i], once[i] = it.receipt, it.droppable, it.idempotent
	}
	args := []any{sequences, sizes, bodies, delays, expiries, ids, receipt, droppable, skeys}
	if in.kind == onceRows {
		args = append(args, once)
	}
	return args
}

// added takes the position of the next item.
func (in *insertion) added(r row) error {
	var position int64
	if err := r.Scan(&position); err != nil {
		return err
	}
	return in.place(position, false)
}

// addedOnce takes a row of insert_once.
func (in *insertion) addedOnce(r row) error {
	var position int64
	var duplicate bool
	if err := r.Scan(&position, &duplicate); err != nil {
		return err
	}
	return in.place(position, duplicate)
}

// rival takes a row of insert_rivals: what looked new was not.
func (in *insertion) rival(r row) error {
	var id []byte
	var position int64
	if err := r.Scan(&id, &position); err != nil {
		return err
	}
	out, ok := in.first[string(id)]
	if !ok {
		return fmt.Errorf("%w: an answer for a message that was not asked for", persist.ErrCorrupt)
	}
	*out = duplicateAt(position)
	return nil
}

func (in *insertion) place(position int64, duplicate bool) error {
	if in.next >= len(in.items) {
		return fmt.Errorf("%w: more positions than messages", persist.ErrCorrupt)
	}
	out := in.items[in.next].out
	in.next++
	out.Ref = persist.Ref{Lane: laneOfPosition(position), Position: position}
	out.Duplicate = duplicate
	return nil
}

// finish answers the twins, once the others are.
func (in *insertion) finish() {
	for _, twin := range in.twins {
		*twin[0] = *twin[1]
		twin[0].Duplicate = true
	}
}

// insert is the steps for the messages of several calls without a limit.
func (s *Store) insert(tasks []*enqueueTask) (*insertion, []step) {
	in := &insertion{s: s}
	for _, t := range tasks {
		in.add(t, nil)
	}
	return in, in.steps()
}

// insertLimited stores the messages of several calls in the transaction of r, as
// far as the limits allow. A call that is refused gets its err.
func (s *Store) insertLimited(ctx context.Context, r runner, tasks []*enqueueTask) error {
	room := persist.Room{Limits: s.opts.limits()}
	_, err := r.run(ctx, []step{{stmt: s.q.limitLock}, {stmt: s.q.outboxTotal, row: func(r row) error {
		return r.Scan(&room.Messages, &room.Bytes)
	}}})
	if err != nil {
		return err
	}
	for _, t := range tasks {
		t.err = nil
		room.AddMessages += int64(len(t.rows))
		room.AddBytes += int64(t.bytes)
	}
	if room.Fits() {
		in, steps := s.insert(tasks)
		if _, err := r.run(ctx, steps); err != nil {
			return err
		}
		in.finish()
		return nil
	}
	for _, t := range tasks {
		if err := s.insertTight(ctx, r, t, &room); err != nil {
			return err
		}
	}
	return nil
}

// insertTight stores the messages of one call where there may be no room. It keeps
// room up to date.
func (s *Store) insertTight(ctx context.Context, r runner, t *enqueueTask, room *persist.Room) error {
	held, err := s.held(ctx, r, t)
	if err != nil {
		return err
	}
	if len(held) > 0 {
		if _, err := r.run(ctx, []step{{stmt: s.q.standbyWait}}); err != nil {
			return err
		}
	}
	in := &insertion{s: s}
	in.add(t, held)
	messages, size, err := in.freed(ctx, r)
	if err != nil {
		return err
	}
	room.AddMessages, room.AddBytes = int64(len(in.items))-messages, -size
	for _, it := range in.items {
		room.AddBytes += int64(len(it.body))
	}
	full, err := s.makeRoom(ctx, r, in.items, room)
	if err != nil {
		return err
	}
	if full != nil {
		t.err = &persist.Error{Op: opEnqueue, Object: s.name, Kind: persist.ErrOutboxFull, Err: full}
		return nil //nolint:nilerr // a refusal, which undoes nothing of others
	}
	if len(in.items) > 0 {
		if _, err := r.run(ctx, in.steps()); err != nil {
			return err
		}
	}
	in.finish()
	room.Messages += room.AddMessages
	room.Bytes += room.AddBytes
	return nil
}

// held are the positions of the idempotent messages that are there.
func (s *Store) held(ctx context.Context, r runner, t *enqueueTask) (map[string]int64, error) {
	if t.kind != onceRows {
		return nil, nil
	}
	var ids [][]byte
	for i := range t.rows {
		if t.rows[i].idempotent {
			ids = append(ids, []byte(t.rows[i].id))
		}
	}
	held := make(map[string]int64)
	_, err := r.run(ctx, []step{{stmt: s.q.outboxHeld, args: []any{ids}, row: func(r row) error {
		var id []byte
		var position int64
		err := r.Scan(&id, &position)
		held[string(id)] = position
		return err
	}}})
	return held, err
}

// makeRoom drops the oldest droppable messages of the lanes of items [OUTBOX-9], if
// there is no room otherwise. If that is not enough it changes nothing and says
// which limit is in the way.
func (s *Store) makeRoom(ctx context.Context, r runner, items []item, room *persist.Room) (*persist.FullError, error) {
	var shares [maxLanes]persist.Share
	for _, it := range items {
		if it.droppable {
			shares[it.lane].Messages++
			shares[it.lane].Bytes += int64(len(it.body))
		}
	}
	after := *room
	var victims []int64
	for lane := range shares[:s.lanes] {
		below, above := laneBounds(lane)
		for more := true; more && after.Wants(shares[lane]); {
			limit := max(shares[lane].Messages, droppablePage)
			found := int64(0)
			_, err := r.run(ctx, []step{{stmt: s.q.outboxDroppable, args: []any{below, above, limit}, row: func(r row) error {
				var size int32
				if err := r.Scan(&below, &size); err != nil {
					return err
				}
				found++
				if after.Wants(shares[lane]) {
					victims = append(victims, below)
					after.Take(&shares[lane], int64(size))
				}
				return nil
			}}})
			if err != nil {
				return nil, err
			}
			more = found == limit
		}
	}
	if !after.Fits() {
		return room.Full(), nil
	}
	*room = after
	if len(victims) == 0 {
		return nil, nil
	}
	_, err := r.run(ctx, []step{{stmt: s.q.drop, args: []any{victims}}})
	s.gaveWay.Store(true)
	return nil, err
}

// droppablePage is how many messages that may give way are looked at once.
const droppablePage = 128
