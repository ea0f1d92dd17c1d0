package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Settle records what became of messages; see [persist.Lane].
func (l *lane) Settle(ctx context.Context, settlements []persist.Settlement) error {
	const op = "settle"
	for i := range settlements {
		st := &settlements[i]
		if st.Outcome > persist.OutcomeSuperseded || st.ReceiptTimeout < 0 {
			return invalid(op, laneName(l.number), fmt.Errorf("settlement of position %d with outcome %d and receipt time-out %s",
				st.Position, st.Outcome, st.ReceiptTimeout))
		}
	}
	if err := l.settle(ctx, op, settlements); err != nil {
		return err
	}
	l.remember(settlements)
	return nil
}

// remember keeps the list of returned messages. They need no mark in the store: to
// a new holder every unsettled message is new.
func (l *lane) remember(settlements []persist.Settlement) {
	for i := range settlements {
		position := settlements[i].Position
		at, found := slices.BinarySearch(l.returned, position)
		switch returned := settlements[i].Outcome == persist.OutcomeReturned; {
		case returned && !found:
			l.returned = slices.Insert(l.returned, at, position)
		case !returned && found:
			l.returned = slices.Delete(l.returned, at, at+1)
		}
	}
}

// settle records settlements in one transaction of one round trip.
func (l *lane) settle(ctx context.Context, op string, settlements []persist.Settlement) error {
	st := settling{l: l}
	st.sort(settlements)
	now := time.Now()
	fold := now.Sub(l.folded) >= foldPause
	err := l.hold(ctx, op, func() []step {
		steps := st.steps()
		if fold {
			steps = append(steps, step{stmt: l.s.q.laneFold, args: []any{int16(l.number), l.epoch}}, l.s.forgetGaveWay())
		}
		return steps
	})
	if err == nil && fold {
		l.folded = now
	}
	return err
}

// settling is the settlements of one call, by what is done with them.
type settling struct {
	l *lane

	delivered  []delivery
	superseded []int64

	refused []int64
	reasons [][]byte
	times   []int32
	firsts  [][]byte // the first reasons of this call

	dead       []int64
	deadState  []int16
	deadCode   []int16
	deadReason [][]byte
	deadAdded  []int32
}

// delivery is a settlement with OutcomeDelivered.
type delivery struct {
	position int64
	timeout  time.Duration
}

// sort takes the settlements that are of this lane; others are not here
// [OUTBOX-10].
func (s *settling) sort(settlements []persist.Settlement) {
	var refused map[int64]int // where in the lists
	for i := range settlements {
		st := &settlements[i]
		if st.Position <= s.l.below || st.Position >= s.l.above {
			continue
		}
		switch st.Outcome {
		case persist.OutcomeDelivered:
			if s.delivered == nil {
				s.delivered = make([]delivery, 0, len(settlements))
			}
			s.delivered = append(s.delivered, delivery{st.Position, st.ReceiptTimeout})
		case persist.OutcomeRetry:
			if at, ok := refused[st.Position]; ok {
				s.times[at]++
				s.reasons[at] = []byte(st.Reason)
				continue
			}
			if refused == nil {
				refused = make(map[int64]int)
			}
			refused[st.Position] = len(s.refused)
			s.refused = append(s.refused, st.Position)
			s.reasons = append(s.reasons, []byte(st.Reason))
			s.times = append(s.times, 1)
			s.firsts = append(s.firsts, []byte(st.Reason))
		case persist.OutcomeFailed:
			s.bury(st, persist.StateFailed, 1) // this attempt
		case persist.OutcomeExpired:
			s.bury(st, persist.StateExpired, 0)
		case persist.OutcomeSuperseded:
			s.superseded = append(s.superseded, st.Position)
		case persist.OutcomeReturned:
			// See lane.remember.
		}
	}
	byPosition := func(a, b delivery) int { return cmp.Compare(a.position, b.position) }
	slices.SortFunc(s.delivered, byPosition)
	s.delivered = slices.CompactFunc(s.delivered, func(a, b delivery) bool { return a.position == b.position })
}

func (s *settling) bury(st *persist.Settlement, state persist.State, added int32) {
	if slices.Contains(s.dead, st.Position) {
		return // the first settlement has ended it
	}
	s.dead = append(s.dead, st.Position)
	s.deadState = append(s.deadState, int16(state))
	s.deadCode = append(s.deadCode, int16(st.ReasonCode))
	s.deadReason = append(s.deadReason, []byte(st.Reason))
	s.deadAdded = append(s.deadAdded, added)
}

func (s *settling) steps() []step {
	q, number, epoch := s.l.s.q, int16(s.l.number), s.l.epoch
	steps := make([]step, 0, 4)
	if len(s.refused) > 0 {
		steps = append(steps, step{stmt: q.settleRetry, args: []any{number, epoch, s.refused, s.reasons, s.times, s.firsts}})
	}
	if len(s.dead) > 0 {
		steps = append(steps, step{stmt: q.settleDead, args: []any{
			number, epoch, s.dead, s.deadState, s.deadCode, s.deadReason, s.deadAdded,
		}})
	}
	if len(s.superseded) > 0 {
		steps = append(steps, step{stmt: q.settleSuperseded, args: []any{number, epoch, s.superseded}})
	}
	if len(s.delivered) > 0 {
		first, last, timeouts := s.ranges()
		steps = append(steps, step{stmt: q.settleDelivered, args: []any{
			number, epoch, first, last, timeouts, int64(len(s.delivered)), s.l.lateDue + 1,
		}})
	}
	return steps
}

// ranges are the delivered messages as runs of consecutive positions with one
// time-out. Acknowledgements come nearly in order, so that there are few.
func (s *settling) ranges() (first, last, timeouts []int64) {
	for i, d := range s.delivered {
		n := len(last) - 1
		if i > 0 && last[n]+1 == d.position && timeouts[n] == millis(d.timeout) {
			last[n]++
			continue
		}
		first, last, timeouts = append(first, d.position), append(last, d.position), append(timeouts, millis(d.timeout))
	}
	return first, last, timeouts
}

// Acknowledge records receipts; see [persist.Lane].
func (l *lane) Acknowledge(ctx context.Context, receipts []persist.Receipt) ([]bool, error) {
	known := make([]bool, len(receipts))
	ids, reasons, failed := make([][]byte, len(receipts)), make([][]byte, len(receipts)), make([]bool, len(receipts))
	for i := range receipts {
		ids[i], reasons[i], failed[i] = []byte(receipts[i].ID), []byte(receipts[i].Reason), receipts[i].Failed
	}
	err := l.hold(ctx, "acknowledge", func() []step {
		clear(known)
		if len(receipts) == 0 {
			return nil
		}
		args := []any{int16(l.number), l.epoch, l.below + 1, l.above - 1, ids, failed, reasons}
		return []step{{stmt: l.s.q.receipts, args: args, row: func(r row) error {
			var n int64
			err := r.Scan(&n)
			if err == nil {
				known[n-1] = true
			}
			return err
		}}}
	})
	if err != nil {
		return nil, err
	}
	return known, nil
}
