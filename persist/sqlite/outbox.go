package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// A position is the number of the lane and a counter that begins with 1, so
// that a position is unique in the store and a lane is a range of positions.
const laneShift = 48

// maxLanes is the most lanes a store can have.
const maxLanes = 64

// laneBounds are the positions below and above those of a lane.
func laneBounds(lane int) (below, above int64) {
	return int64(lane) << laneShift, int64(lane+1) << laneShift
}

func laneOfPosition(position int64) int { return int(position >> laneShift) }

// Enqueue stores messages; see [persist.Outbox].
func (s *Store) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	t, err := s.newEnqueue(msgs)
	if err != nil || len(msgs) == 0 {
		return nil, err
	}
	if err := s.submit(ctx, t); err != nil {
		return nil, err
	}
	return t.out, nil
}

// WithTx is the outbox within the caller's transaction [OUTBOX-13]; see
// [persist.TxJoiner].
//
// The transaction must be able to write at the time of Enqueue: SQLite cannot
// make a writer of a transaction that has read and was overtaken by another
// commit, and the error then wraps [persist.ErrUnavailable]. A transaction that
// was begun with BEGIN IMMEDIATE (_txlock=immediate in the DSN of
// modernc.org/sqlite), or that has read nothing yet, has no such trouble. From
// the call on it holds the write lock, so that nothing else of the store goes
// on until it ends: end it soon. The end of ctx does not interrupt an Enqueue that
// has begun; how long it waits for the write lock, and how durable the commit is,
// depends on the busy_timeout and synchronous pragmas of the caller's connection.
func (s *Store) WithTx(tx *sql.Tx) persist.TxOutbox { return &txOutbox{s, tx} }

type txOutbox struct {
	s  *Store
	tx *sql.Tx
}

// Identity is that of the store.
func (o *txOutbox) Identity() string { return o.s.identity }

// Enqueue stores messages if and only if the transaction commits.
func (o *txOutbox) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	s, tx := o.s, o.tx
	t, err := s.newEnqueue(msgs)
	if err != nil || len(msgs) == 0 {
		return nil, err
	}
	if err := s.enter(t.op); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := ctx.Err(); err != nil {
		return nil, translate(t.op, t.object, err)
	}
	// It goes through once it has begun. SQLite undoes the whole of a transaction in
	// which it interrupts a statement, and between two statements the end of ctx
	// would keep us from undoing our part.
	ctx = context.WithoutCancel(ctx)
	x := &txn{runner: sqlRunner{tx}, q: s.q, now: s.now()}
	// A caller who commits in spite of an error must not commit half of it.
	err = step(ctx, x, s.q, func() error {
		var e enqueuer
		if err := e.enqueue(ctx, x, s, []*enqueueTask{t}); err != nil {
			return err
		}
		return t.err
	})
	if err != nil {
		return nil, translate(t.op, t.object, err)
	}
	s.writer.expect(t.out[len(t.out)-1].Ref)
	return t.out, nil
}

// newEnqueue checks messages and makes a task of them.
func (s *Store) newEnqueue(msgs []persist.Message) (*enqueueTask, error) {
	const op = "enqueue"
	t := &enqueueTask{call: newCall(op, s.name, len(msgs)), msgs: msgs}
	t.wakes = true
	limits := s.opts.limits()
	for i := range msgs {
		m := &msgs[i]
		if err := limits.CheckMessage(m); err != nil {
			return nil, &persist.Error{Op: op, Object: fmt.Sprintf("message %d", i), Kind: persist.ErrInvalid, Err: err}
		}
		t.bytes += len(m.Payload)
		t.idempotent = t.idempotent || m.Idempotent
	}
	if len(msgs) == 1 {
		t.out = t.one[:]
	} else {
		t.out = make([]persist.Enqueued, len(msgs))
	}
	return t, nil
}

// Lookup tells what became of messages; see [persist.Outbox].
func (s *Store) Lookup(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
	fates := make([]persist.Fate, len(refs))
	if len(refs) == 0 {
		return fates, nil
	}
	at := make(map[int64]int, len(refs))
	positions := make([]int64, len(refs))
	for i, ref := range refs {
		fates[i] = persist.Fate{State: persist.StateDelivered, Gone: true}
		positions[i] = ref.Position
		at[ref.Position] = i
	}
	err := s.read(ctx, "lookup", s.name, func(ctx context.Context, r runner) error {
		var dest [4]driver.Value
		rows, err := r.query(ctx, s.q.outboxFates, jsonInts(positions))
		return eachRow(rows, err, dest[:], func() error {
			state := persist.State(asInt(dest[1]))
			if state >= persist.StateDropped {
				fates[at[asInt(dest[0])]] = persist.FateOf(state)
				return nil
			}
			fates[at[asInt(dest[0])]] = persist.Fate{
				State:      state,
				ReasonCode: byte(asInt(dest[2])),
				LastError:  asText(dest[3]),
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for i, ref := range refs { // the same place may be asked for twice
		fates[i] = fates[at[ref.Position]]
	}
	return fates, nil
}

// Lanes describes every lane; see [persist.Outbox].
func (s *Store) Lanes(ctx context.Context) ([]persist.LaneInfo, error) {
	var lanes []persist.LaneInfo
	err := s.read(ctx, "list lanes", s.name, func(ctx context.Context, r runner) error {
		all, err := s.laneRows(ctx, r)
		for i := range all {
			lanes = append(lanes, all[i].LaneInfo)
		}
		return err
	})
	return lanes, err
}

// laneRow is a lane with all its counters.
type laneRow struct {
	persist.LaneInfo
	delivered, dropped, superseded, bytes int64
}

func (s *Store) laneRows(ctx context.Context, r runner) ([]laneRow, error) {
	var lanes []laneRow
	now := s.now()
	var dest [10]driver.Value
	rows, err := r.query(ctx, s.q.laneList)
	err = eachRow(rows, err, dest[:], func() error {
		l := laneRow{delivered: asInt(dest[6]), dropped: asInt(dest[7]), superseded: asInt(dest[8]), bytes: asInt(dest[9])}
		l.Lane = int(asInt(dest[0]))
		l.Owner = asText(dest[1])
		l.Epoch = asInt(dest[2])
		l.Pending = asInt(dest[5])
		if asInt(dest[3]) != 0 {
			l.Remaining = time.Duration(asInt(dest[4])-now) * time.Millisecond
		}
		lanes = append(lanes, l)
		return nil
	})
	return lanes, err
}

// eachRow calls fn for each row, which it has read into dest, and closes rows.
// It takes the result of query as it is.
func eachRow(rows driver.Rows, err error, dest []driver.Value, fn func() error) error {
	if err != nil {
		return err
	}
	for {
		if err = rows.Next(dest); err != nil {
			break
		}
		if err = fn(); err != nil {
			break
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return closeRows(rows, err)
}

// jsonInts is a list of numbers as json_each reads it: the way to bind a list.
func jsonInts[T int64 | uint16](list []T) string {
	b := make([]byte, 0, 2+12*len(list))
	b = append(b, '[')
	for i, n := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(append(b, ']'))
}

// millis is a duration in whole milliseconds, rounded up, so that what is not
// zero does not become it.
func millis(d time.Duration) int64 {
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms
}
