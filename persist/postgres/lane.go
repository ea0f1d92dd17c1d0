package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// AcquireLane takes the lease of a lane; see [persist.Outbox].
func (s *Store) AcquireLane(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
	const op = "acquire lane"
	if number < 0 || number >= s.lanes {
		return nil, invalid(op, laneName(number), fmt.Errorf("the store has lanes 0 to %d", s.lanes-1))
	}
	if ttl <= 0 {
		return nil, invalidTTL(op, laneName(number), ttl)
	}
	below, above := laneBounds(number)
	l := &lane{s: s, number: number, below: below, above: above, cursors: cursors{cursor: below, lateDue: math.MinInt64}}
	l.gaps.final = below
	err := s.do(ctx, op, laneName(number), writes, func() []step {
		l.epoch = 0
		return []step{{stmt: s.q.lifeBegin}, {stmt: s.q.laneAcquire, args: []any{int16(number), []byte(owner), millis(ttl)}, row: func(r row) error {
			return r.Scan(&l.epoch, &l.sentUntil, &l.gaps.known)
		}}}
	})
	if err != nil {
		return nil, err
	}
	if l.epoch == 0 {
		return nil, refuse(op, laneName(number), persist.ErrLeaseHeld)
	}
	return l, nil
}

func invalidTTL(op, object string, ttl time.Duration) error {
	return invalid(op, object, fmt.Errorf("ttl is %s, must be positive", ttl))
}

// lane is a leased lane. A crash of the server, or a failover, ends the lease: what
// the holder has seen may not be there any more, see the table life. What it remembers of the messages that it handed out are
// three cursors, whatever their number:
//
// Every place up to cursor was looked at. A message there was handed out unless it
// was not due at that time, or is in a gap: see gaps. Messages behind the cursor
// become due in the order of (due, position), so that those up to (lateDue,
// latePosition) were handed out as well. What was returned is kept by name.
//
// That skips nothing. A message behind the cursor that was not due when the cursor
// passed it has a due after lateDue, because all statements of a Next read by one
// time, which becomes lateDue. A due that is written later, by Settle, is put
// after lateDue too, even if the clock went back. A message that appears in a gap
// is found there if it has no due, or one that lateDue has passed, and else by its
// due.
type lane struct {
	s            *Store
	number       int
	epoch        int64
	sentUntil    int64
	below, above int64        // the positions of the lane lie between these
	saves        atomic.Int64 // how many of sessions were begun

	cursors
	folded time.Time // arrivals into the counters
}

// cursors are how far a lane has come.
type cursors struct {
	gaps         gaps
	cursor       int64
	lateDue      int64
	latePosition int64
	returned     []int64 // ascending
}

// foldPause is how long arrivals wait to be taken into the counters.
const foldPause = 100 * time.Millisecond

var _ persist.Lane = (*lane)(nil)

// Number is the lane's number.
func (l *lane) Number() int { return l.number }

// Epoch is the fencing token of the lease.
func (l *lane) Epoch() int64 { return l.epoch }

// SentUntil is until when an earlier holder may have sent; see [persist.Lane].
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
	if err := l.s.enter(op); err != nil {
		return err
	}
	defer l.s.leave()
	return l.change(ctx, op, l.s.q.laneRenew, int16(l.number), l.epoch, millis(ttl), sending)
}

// Release ends the lease; see [persist.Lane].
func (l *lane) Release(ctx context.Context) error {
	const op = "release lane"
	// The store stays open until others are told, which may take a goroutine.
	if err := l.s.enter(op); err != nil {
		return err
	}
	defer l.s.leave()
	err := l.change(ctx, op, l.s.q.laneRelease, int16(l.number), l.epoch)
	if err == nil {
		// Whoever waits for the lane may go on.
		l.s.notifier.wake()
		l.s.notifier.tell()
	}
	return err
}

// change runs a statement that changes the lane if the lease is held. It is for
// calls that have entered.
func (l *lane) change(ctx context.Context, op string, stmt *statement, args ...any) error {
	var changed int64
	err := l.s.transact(ctx, op, laneName(l.number), writes, func() []step {
		return []step{{stmt: stmt, args: args, changed: &changed}}
	})
	if err == nil && changed == 0 {
		err = refuse(op, laneName(l.number), persist.ErrLeaseLost)
	}
	return err
}

// Next hands out messages; see [persist.Lane].
func (l *lane) Next(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
	const op = "read messages"
	name := laneName(l.number)
	if limit <= 0 {
		return nil, invalid(op, name, fmt.Errorf("limit is %d, must be positive", limit))
	}
	// What waits for transactions of others is put aside for the next call: it must
	// not take the room of the rest.
	var waiting []int64
	defer func() { l.putBack(waiting) }()
	for {
		// The cursors move only once the page is certain.
		var rd *reading
		err := l.s.do(ctx, op, name, reads, func() []step {
			rd = l.read(limit, max(maxBytes, 0))
			return rd.steps()
		})
		if err == nil && !rd.held {
			err = refuse(op, name, persist.ErrLeaseLost)
		}
		if err != nil {
			return nil, err
		}
		moved := rd.finish()
		if err := l.quarantine(ctx, rd.corrupt); err != nil {
			return nil, err
		}
		if err := l.resend(ctx, rd.overdue); err != nil {
			return nil, err
		}
		entries, busy, err := l.hand(ctx, rd.entries)
		if err != nil {
			return nil, err
		}
		waiting = append(waiting, busy...)
		l.cursors = moved // and nothing else: Renew may be reading the rest
		// A page of which nothing is left is no reason to stop before the end.
		if len(entries) > 0 || len(rd.corrupt) == 0 && len(busy) == 0 {
			l.tellAge(entries, rd.now)
			return entries, nil
		}
	}
}

// tellAge fills in how old the entries may still get.
func (l *lane) tellAge(entries []persist.Entry, now int64) {
	limits := l.s.opts.limits()
	if limits.Age == 0 {
		return
	}
	for i := range entries {
		e := &entries[i]
		e.AgeLeft = limits.Left(time.UnixMilli(now).Sub(e.EnqueuedAt))
	}
}

// resend makes messages pending again whose receipt did not come in time, since
// they await the broker once more. It is recorded here and not when they are
// settled, so that the missing receipt counts once, whoever settles them. They
// keep their due, which is behind the cursors: if this fails they are found again.
func (l *lane) resend(ctx context.Context, overdue []int64) error {
	if len(overdue) == 0 {
		return nil
	}
	return l.hold(ctx, "send again", func() []step {
		return []step{{stmt: l.s.q.outboxResend, args: []any{int16(l.number), l.epoch, overdue}}}
	})
}

// hold runs a transaction under the lease. Its statements must change nothing if
// the lease was lost.
func (l *lane) hold(ctx context.Context, op string, build func() []step) error {
	held := false
	q := l.s.q
	err := l.s.do(ctx, op, laneName(l.number), writes, func() []step {
		held = false
		return append([]step{{stmt: q.steer}, {
			stmt: q.laneHold, args: []any{int16(l.number), l.epoch},
			row: func(r row) error {
				held = true
				return nil
			},
		}}, build()...)
	})
	if err == nil && !held {
		err = refuse(op, laneName(l.number), persist.ErrLeaseLost)
	}
	return err
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
	if err := l.settle(ctx, "quarantine", settlements); err != nil {
		return err
	}
	for _, c := range corrupt {
		l.s.log.ErrorContext(ctx, "stored message cannot be read and became a dead letter",
			slog.Int("lane", l.number), slog.Int64("position", c.position), slog.Any("error", c.err))
	}
	return nil
}
