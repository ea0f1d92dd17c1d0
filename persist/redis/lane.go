package redis

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// AcquireLane takes the lease of a lane; see [persist.Outbox].
func (s *Store) AcquireLane(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
	const op = "acquire lane"
	if number < 0 || number >= s.lanes {
		return nil, invalid(op, laneName(number), "the store has lanes 0 to %d", s.lanes-1)
	}
	if ttl <= 0 {
		return nil, invalidTTL(op, laneName(number), ttl)
	}
	answer, err := s.do(ctx, op, laneName(number), s.run.laneAcquire, []string{s.keys.lanes[number].hash}, owner, millis(ttl))
	if err != nil {
		return nil, err
	}
	f := asList(answer)
	if len(f) != 2 {
		return nil, refuse(op, laneName(number), persist.ErrLeaseHeld)
	}
	return &lane{
		s: s, number: number, keys: s.keys.settling(number), epoch: asInt(f[0]), sentUntil: asInt(f[1]), plain: make(map[int64]int64),
	}, nil
}

func invalidTTL(op, object string, ttl time.Duration) error {
	return invalid(op, object, "ttl is %s, must be positive", ttl)
}

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
// message can appear behind the cursor at all [OUTBOX-7]: the script that adds
// messages gives out their positions, and scripts run one after another.
//
// But a server that crashes, or a failover, may take the latest changes away, and
// then positions that were read are given out anew. Each page that is read is
// counted in the lane, and every script of the lease is told the count that the
// holder knows. If the lane's is lower, that is what has happened, and the lease is
// lost, see include/held.lua. That suffices: changes are lost from the end
// backwards, so that as long as the count of a page is there, so are the messages
// of the page; and positions that were lost unread this holder never names.
type lane struct {
	s         *Store
	number    int
	keys      []string // see keys.settling
	epoch     int64
	sentUntil int64
	pages     atomic.Int64 // how many were read: Renew asks in the midst of Next
	saves     atomic.Int64 // how many of sessions were begun
	// plain has the bytes of the plain messages that were handed out and not settled:
	// the server would have to read them to know.
	plain map[int64]int64

	cursors
}

// cursors are how far a lane has come.
type cursors struct {
	cursor       int64
	lateDue      int64
	latePosition int64
	returned     []int64 // ascending
}

var _ persist.Lane = (*lane)(nil)

// How many of a lane's keys its scripts get.
const (
	leaseKeys   = 1
	readingKeys = 4 // and the latest
	resendKeys  = 5
)

// statusLost is what scripts of a lane answer when the lease was lost.
const statusLost = 1

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

// lease is what the arguments of each script of the lane begin with, and leave
// room for more.
func (l *lane) lease(more int) []any {
	return append(make([]any, 0, leaseArgs+more), l.epoch, l.pages.Load())
}

// leaseArgs is how many arguments a lease is.
const leaseArgs = 2

// do runs a script of the lane, whose first arguments are the lease.
func (l *lane) do(ctx context.Context, op string, sc *script, names []string, args ...any) ([]any, error) {
	answer, err := l.s.do(ctx, op, laneName(l.number), sc, names, args...)
	if err != nil {
		return nil, err
	}
	f := asList(answer)
	if len(f) == 0 {
		return nil, strange(op, laneName(l.number))
	}
	if asInt(f[0]) == statusLost {
		return nil, refuse(op, laneName(l.number), persist.ErrLeaseLost)
	}
	return f, nil
}

// Renew extends the lease; see [persist.Lane].
func (l *lane) Renew(ctx context.Context, ttl time.Duration, sending bool) error {
	const op = "renew lane"
	if ttl <= 0 {
		return invalidTTL(op, laneName(l.number), ttl)
	}
	_, err := l.do(ctx, op, l.s.run.laneRenew, l.keys[:leaseKeys], append(l.lease(2), millis(ttl), sending)...)
	return err
}

// Release ends the lease; see [persist.Lane].
func (l *lane) Release(ctx context.Context) error {
	_, err := l.do(ctx, "release lane", l.s.run.laneRelease, l.keys[:leaseKeys], append(l.lease(2), l.s.keys.wake, l.s.handle)...)
	if err == nil {
		l.s.notifier.wake()
	}
	return err
}

// Next hands out messages; see [persist.Lane].
func (l *lane) Next(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
	const op = "read messages"
	if limit <= 0 {
		return nil, invalid(op, laneName(l.number), "limit is %d, must be positive", limit)
	}
	names := append(slices.Clone(l.keys[:readingKeys]), l.s.keys.latest)
	for {
		// The cursors move only once the page is certain.
		p := page{limit: limit, maxBytes: maxBytes, cursors: l.cursors}
		p.returned = slices.Clone(l.returned)
		for more := true; more; {
			f, err := l.do(ctx, op, l.s.run.next, names, p.args(l)...)
			if err != nil {
				return nil, err
			}
			l.pages.Store(asInt(at(f, 2)))
			if more, err = p.read(f); err != nil {
				return nil, &persist.Error{Op: op, Object: laneName(l.number), Kind: persist.ErrCorrupt, Err: err}
			}
		}
		for i := range p.entries {
			p.entries[i].Lane = l.number
		}
		if err := l.quarantine(ctx, p.corrupt); err != nil {
			return nil, err
		}
		if err := l.resend(ctx, p.overdue); err != nil {
			return nil, err
		}
		l.cursors = p.cursors // and nothing that Renew may be reading
		for _, row := range p.plain {
			l.plain[row.position] = row.bytes
		}
		if len(p.entries) > 0 || len(p.corrupt) == 0 {
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

// resend makes messages pending again whose receipt did not come in time, since
// they await the broker once more. It is recorded here and not when they are
// settled, so that the missing receipt counts once, whoever settles them. They
// keep their due, which is behind the cursors: if this fails they are found
// again.
func (l *lane) resend(ctx context.Context, overdue []int64) error {
	if len(overdue) == 0 {
		return nil
	}
	_, err := l.do(ctx, "send again", l.s.run.resend, l.keys[:resendKeys], numbers(l.lease(len(overdue)), overdue)...)
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

// latest is the position that stands for all of a due.
const latest = math.MaxInt32 * 1e6
