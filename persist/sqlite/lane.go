package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// AcquireLane takes the lease of a lane; see [persist.Outbox].
func (s *Store) AcquireLane(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
	const op = "acquire lane"
	if number < 0 || number >= s.lanes {
		return nil, &persist.Error{
			Op: op, Object: laneName(number), Kind: persist.ErrInvalid,
			Err: fmt.Errorf("the store has lanes 0 to %d", s.lanes-1),
		}
	}
	if ttl <= 0 {
		return nil, invalidTTL(op, laneName(number), ttl)
	}
	t := &acquireTask{call: newCall(op, laneName(number), 1), lane: number, owner: owner, ttl: ttl}
	t.leaseOnly = true
	if err := s.submit(ctx, t); err != nil {
		return nil, err
	}
	below, above := laneBounds(number)
	return &lane{
		s: s, number: number, epoch: t.epoch, sentUntil: t.sentUntil, sending: new(atomic.Bool), saves: new(atomic.Int64), below: below, above: above,
		cursors: cursors{cursor: below, lateDue: math.MinInt64},
	}, nil
}

type acquireTask struct {
	call
	lane  int
	owner string
	ttl   time.Duration

	epoch, sentUntil int64
}

func (t *acquireTask) run(ctx context.Context, tx *txn) error {
	var dest [2]driver.Value
	found, err := queryRow(ctx, tx, dest[:], tx.q.laneAcquire, int64(t.lane), t.owner, tx.now+millis(t.ttl), tx.now)
	if err != nil {
		return err
	}
	if !found {
		t.err = refuse(t.op, t.object, persist.ErrLeaseHeld)
	}
	t.epoch, t.sentUntil = asInt(dest[0]), asInt(dest[1])
	return nil
}

func invalidTTL(op, object string, ttl time.Duration) error {
	return &persist.Error{Op: op, Object: object, Kind: persist.ErrInvalid, Err: fmt.Errorf("ttl is %s, must be positive", ttl)}
}

func laneName(number int) string { return "lane " + strconv.Itoa(number) }

// lane is a leased lane. What it remembers of the messages that it handed out
// are three cursors, whatever their number:
//
// Every message up to cursor was looked at in its place. It was handed out
// unless it was not due at that time. Messages behind the cursor become due in
// the order of (due, position), so that those up to (lateDue, latePosition)
// were handed out as well. What was returned is kept by name.
//
// That skips nothing. A message behind the cursor that was not due when the
// cursor passed it has a due after lateDue, because Next looks for late messages
// first and passes the cursor on with the same time. A due that is written
// later, by Settle, is put after lateDue too, even if the clock went back. And no
// message can appear behind the cursor at all, see [OUTBOX-7] at
// enqueuer.insert.
type lane struct {
	s            *Store
	number       int
	epoch        int64
	below, above int64 // the positions of the lane lie between these
	sentUntil    int64
	sending      *atomic.Bool  // Renew has recorded that the holder sends
	saves        *atomic.Int64 // how many of sessions were begun

	cursors
}

// cursors are how far a lane has come.
type cursors struct {
	cursor       int64
	lateDue      int64
	latePosition int64
	returned     []int64 // ascending
	lastTime     int64   // when the latest message that was handed out was enqueued
}

var _ persist.Lane = (*lane)(nil)

// Number is the lane's number.
func (l *lane) Number() int { return l.number }

// Epoch is the fencing token of the lease.
func (l *lane) Epoch() int64 { return l.epoch }

// SentUntil is until when messages may have been sent; see [persist.Lane].
func (l *lane) SentUntil() time.Time {
	if l.sentUntil == 0 {
		return time.Time{}
	}
	return time.UnixMilli(l.sentUntil)
}

// Renew extends the lease; see [persist.Lane].
func (l *lane) Renew(ctx context.Context, ttl time.Duration, sending bool) error {
	const op = "renew lane"
	if ttl <= 0 {
		return invalidTTL(op, laneName(l.number), ttl)
	}
	t := &leaseTask{call: newCall(op, laneName(l.number), 1), l: l, ttl: ttl, sending: sending}
	// That the lane was sent from must outlive the loss of power; until when
	// follows from the lease.
	first := sending && !l.sending.Load()
	t.leaseOnly = !first
	err := l.s.submit(ctx, t)
	if first && err == nil {
		l.sending.Store(true)
	}
	return err
}

// Release ends the lease; see [persist.Lane].
func (l *lane) Release(ctx context.Context) error {
	t := &leaseTask{call: newCall("release lane", laneName(l.number), 1), l: l}
	t.leaseOnly = true
	// Whoever waits for the lane may go on.
	t.wakes = true
	return l.s.submit(ctx, t)
}

// leaseTask renews a lease, or releases it if ttl is zero.
type leaseTask struct {
	call
	l       *lane
	ttl     time.Duration
	sending bool
}

func (t *leaseTask) run(ctx context.Context, tx *txn) error {
	number := int64(t.l.number)
	var n int64
	var err error
	if t.ttl == 0 {
		n, err = tx.exec(ctx, tx.q.laneRelease, number, t.l.epoch, tx.now)
	} else {
		n, err = tx.exec(ctx, tx.q.laneRenew, number, t.l.epoch, tx.now+millis(t.ttl), t.sending)
	}
	if err == nil && n == 0 {
		t.err = refuse(t.op, t.object, persist.ErrLeaseLost)
	}
	return err
}

// Next hands out messages; see [persist.Lane].
func (l *lane) Next(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
	const op = "read messages"
	name := laneName(l.number)
	if limit <= 0 {
		return nil, &persist.Error{Op: op, Object: name, Kind: persist.ErrInvalid, Err: fmt.Errorf("limit is %d, must be positive", limit)}
	}
	for {
		// The cursors move only once the page is certain.
		moved := *l
		p := page{now: max(l.s.now(), l.lateDue), limit: limit, maxBytes: maxBytes}
		err := l.s.read(ctx, op, name, func(ctx context.Context, r runner) error {
			var dest [2]driver.Value
			if _, err := queryRow(ctx, r, dest[:], l.s.q.laneHolder, int64(l.number)); err != nil {
				return err
			}
			if asInt(dest[0]) != l.epoch {
				return refuse(op, name, persist.ErrLeaseLost)
			}
			return moved.fill(ctx, r, &p, asInt(dest[1]))
		})
		if err != nil {
			return nil, err
		}
		if err := l.quarantine(ctx, p.corrupt); err != nil {
			return nil, err
		}
		if err := l.resend(ctx, p.overdue); err != nil {
			return nil, err
		}
		if err := l.hand(ctx, &p); err != nil {
			return nil, err
		}
		l.cursors = moved.cursors // and nothing else: Renew may be reading the rest
		if len(p.entries) > 0 || len(p.corrupt) == 0 && !p.superseded {
			if limits := l.s.opts.limits(); limits.Age > 0 {
				for i := range p.entries {
					e := &p.entries[i]
					e.AgeLeft = limits.Left(time.UnixMilli(p.now).Sub(e.EnqueuedAt))
				}
			}
			return p.entries, nil
		}
	}
}

// fill reads a page: what was returned, what became due late, then what comes
// next in its place. next is the position that the lane's next message will
// have; it was read before, so that all messages below it can be seen now.
func (l *lane) fill(ctx context.Context, r runner, p *page, next int64) error {
	q := l.s.q
	if len(l.returned) > 0 {
		chosen := l.returned[:min(p.limit, len(l.returned))]
		rows, err := r.query(ctx, q.pageChosen, jsonInts(chosen))
		if err := p.read(rows, err); err != nil {
			return err
		}
		if p.full {
			i, _ := slices.BinarySearch(l.returned, p.last+1)
			l.returned = l.returned[i:]
			return nil
		}
		// The others of them are gone.
		l.returned = l.returned[len(chosen):]
	}
	if p.room() == 0 {
		return nil
	}
	if l.cursor > l.below {
		rows, err := r.query(ctx, q.pageLate, l.lateDue, l.latePosition, p.now, l.below+1, l.cursor, int64(p.room()))
		n := p.seen
		if err := p.read(rows, err); err != nil {
			return err
		}
		if p.full || p.room() == 0 {
			if p.seen > n {
				l.lateDue, l.latePosition = p.lastDue, p.last
			}
			return nil
		}
	}
	l.lateDue, l.latePosition = p.now, math.MaxInt64

	if next-1 <= l.cursor {
		return nil
	}
	if p.entries == nil {
		// Positions are dense, so that this is nearly always the number.
		p.entries = make([]persist.Entry, 0, min(int64(p.limit), next-1-l.cursor, maxPrealloc))
	}
	p.from, p.fromTime = l.cursor, l.lastTime
	rows, err := r.query(ctx, q.pageInOrder, l.cursor, next, p.now, int64(p.room()), l.lastTime)
	n := p.seen
	if err := p.read(rows, err); err != nil {
		return err
	}
	if len(p.entries) > 0 {
		l.lastTime = p.entries[len(p.entries)-1].EnqueuedAt.UnixMilli()
	}
	switch {
	case p.full || p.room() == 0:
		if p.seen > n {
			l.cursor = p.last
		}
	default:
		// There was nothing more below next that is due in its place.
		l.cursor = next - 1
	}
	return nil
}

// resend makes messages pending again whose receipt did not come in time, since
// they await the broker once more. It is recorded here and not when they are
// settled, so that the missing receipt counts once, whoever settles them. They
// keep their due, which is behind the cursors: if this fails they are found
// again.
func (l *lane) resend(ctx context.Context, overdue []int64) error {
	if len(overdue) == 0 {
		return nil
	}
	t := &resendTask{call: newCall("send again", laneName(l.number), len(overdue)), l: l, overdue: overdue}
	t.leaseOnly = true // undone, it is done again
	return l.s.submit(ctx, t)
}

type resendTask struct {
	call
	l       *lane
	overdue []int64
}

func (t *resendTask) run(ctx context.Context, tx *txn) error {
	if held, err := t.l.held(ctx, tx); err != nil {
		return err
	} else if !held {
		return t.refuse(persist.ErrLeaseLost)
	}
	n, err := tx.exec(ctx, tx.q.outboxResend, jsonInts(t.overdue))
	if err != nil {
		return err
	}
	return laneChange{pending: n, delivered: -n}.write(ctx, tx, t.l.number)
}

// quarantine moves messages that cannot be read to the dead letters [OUTBOX-8].
func (l *lane) quarantine(ctx context.Context, corrupt []corruptEntry) error {
	if len(corrupt) == 0 {
		return nil
	}
	settlements := make([]persist.Settlement, len(corrupt))
	for i, c := range corrupt {
		settlements[i] = persist.Settlement{Position: c.position, Outcome: persist.OutcomeFailed, Reason: c.err.Error()}
	}
	t := l.newSettle("quarantine", settlements)
	if err := l.s.submit(ctx, t); err != nil {
		return err
	}
	for _, c := range corrupt {
		l.s.log.ErrorContext(ctx, "stored message cannot be read and became a dead letter",
			slog.Int("lane", l.number), slog.Int64("position", c.position), slog.Any("error", c.err))
	}
	return nil
}
