package memory

import (
	"context"
	"iter"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// laneState is a lane of the outbox and its lease.
type laneState struct {
	number    int
	entries   sequence[entry]
	last      int64 // highest position given out
	pending   int64
	delivered int64

	owner    string
	epoch    int64
	leaseEnd int64
	released bool
	// sentUntil is until when a holder may have sent; zero if none ever did.
	sentUntil int64

	// Under the present lease, every pending entry up to the position handed
	// was handed out, but for those in a queue.
	handed int64
	// waiting are entries that become due by themselves, soonest first:
	// delayed ones, and delivered ones whose receipt has a time-out.
	waiting queue
	// ready are entries that are due and that the walk from handed does not
	// meet, in the order of their positions: overdue ones, returned ones, and
	// those whose delay ended after the walk had passed them.
	ready queue
	// resent are the delivered entries that were handed out once more, their
	// receipt being overdue, and not settled since.
	resent map[*entry]struct{}

	// No pending entry is at or before oldest, and no pending Droppable one at
	// or before droppable. Both only grow, for no entry becomes pending again.
	oldest, droppable int64
}

// dequeue takes an entry out of whatever would hand it out again.
func (l *laneState) dequeue(e *entry) {
	if e.queue != nil {
		e.queue.remove(e)
	}
	delete(l.resent, e)
}

// begin is what a new lease means for the entries: all that is unsettled is to
// be handed out again [OUTBOX-6].
func (l *laneState) begin() {
	l.handed = 0
	var overdue []*entry
	for l.ready.len() > 0 {
		if e := l.ready.pop(); e.state == persist.StateDelivered {
			overdue = append(overdue, e)
		}
	}
	for e := range l.resent {
		overdue = append(overdue, e)
	}
	clear(l.resent)
	for _, e := range overdue {
		l.ready.add(e)
	}
}

// rouse moves what became due by now from waiting to where it is handed out.
func (l *laneState) rouse(now int64) {
	for l.waiting.len() > 0 && l.waiting.first().dueAt <= now {
		e := l.waiting.pop()
		e.overdue = e.state == persist.StateDelivered
		if e.overdue || e.Position <= l.handed {
			l.ready.add(e)
		}
	}
}

// next hands out entries, in the order of their positions among those due.
func (l *laneState) next(now int64, limit, maxBytes int) []persist.Entry {
	l.rouse(now)
	var out []persist.Entry
	size := 0
	take := func(e *entry) bool {
		size += len(e.message.Payload)
		if len(out) > 0 && (len(out) == limit || size > maxBytes) {
			return false
		}
		if e.overdue { // its receipt did not come in time
			e.attempts++
			e.overdue = false
		}
		out = append(out, e.export(now))
		return true
	}
	takeReady := func(before int64) bool {
		for l.ready.len() > 0 && l.ready.first().Position < before {
			if !take(l.ready.first()) {
				return false
			}
			if e := l.ready.pop(); e.state == persist.StateDelivered {
				if l.resent == nil {
					l.resent = make(map[*entry]struct{})
				}
				l.resent[e] = struct{}{}
			}
		}
		return true
	}
	for position, e := range l.entries.after(l.handed) {
		if !takeReady(position) {
			return out
		}
		if e.state == persist.StatePending && e.queue == nil && !take(e) {
			return out
		}
		l.handed = position
	}
	takeReady(l.last + 1)
	return out
}

// oldestPending is the pending entry that has waited longest, or nil.
func (l *laneState) oldestPending() *entry {
	for position, e := range l.entries.after(l.oldest) {
		if e.state == persist.StatePending {
			return e
		}
		l.oldest = position
	}
	return nil
}

// droppables walks the pending entries that may give way [OUTBOX-9], oldest first.
func (l *laneState) droppables() iter.Seq2[int64, *entry] {
	return func(yield func(int64, *entry) bool) {
		found := false
		for position, e := range l.entries.after(l.droppable) {
			if e.state == persist.StatePending && e.message.Droppable {
				found = true
				if !yield(position, e) {
					return
				}
			} else if !found {
				l.droppable = position
			}
		}
	}
}

// AcquireLane implements persist.Outbox.
func (s *Store) AcquireLane(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
	const op = "acquire"
	if ttl <= 0 {
		return nil, refuse(op, laneName(number), "the lease must last; %v is no time", ttl)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, op, laneName(number)); err != nil {
		return nil, err
	}
	if number < 0 || number >= len(s.lanes) {
		return nil, refuse(op, laneName(number), "lanes are numbered from 0 to %d", len(s.lanes)-1)
	}
	now, l := s.now(), s.lanes[number]
	own := owner != "" && owner == l.owner
	if l.epoch > 0 && !l.released && now < l.leaseEnd && !own {
		return nil, fail(op, laneName(number), persist.ErrLeaseHeld)
	}
	l.epoch++
	l.owner, l.leaseEnd, l.released = owner, now+millis(ttl), false
	l.begin()
	return &lane{store: s, number: number, epoch: l.epoch, sentUntil: l.sentUntil}, nil
}

// lane is a lease, as its holder has it.
type lane struct {
	store  *Store
	number int
	epoch  int64
	saves  int64 // of sessions, under store.mu

	sentUntil int64
}

var _ persist.Lane = (*lane)(nil)

// Number implements persist.Lane.
func (l *lane) Number() int { return l.number }

// Epoch implements persist.Lane.
func (l *lane) Epoch() int64 { return l.epoch }

// held returns the lane if this lease is still good [LEASE-3]; the end of its
// time alone does not matter [LEASE-4]. The caller holds l.store.mu.
func (l *lane) held(ctx context.Context, op string) (*laneState, error) {
	if err := l.store.begin(ctx, op, laneName(l.number)); err != nil {
		return nil, err
	}
	state := l.store.lanes[l.number]
	if state.epoch != l.epoch || state.released {
		return nil, fail(op, laneName(l.number), persist.ErrLeaseLost)
	}
	return state, nil
}

// SentUntil implements persist.Lane.
func (l *lane) SentUntil() time.Time {
	if l.sentUntil == 0 {
		return time.Time{}
	}
	return time.UnixMilli(l.sentUntil)
}

// Renew implements persist.Lane.
func (l *lane) Renew(ctx context.Context, ttl time.Duration, sending bool) error {
	if ttl <= 0 {
		return refuse("renew", laneName(l.number), "the lease must last; %v is no time", ttl)
	}
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	state, err := l.held(ctx, "renew")
	if err != nil {
		return err
	}
	state.leaseEnd = l.store.now() + millis(ttl)
	if sending {
		state.sentUntil = max(state.sentUntil, state.leaseEnd)
	}
	return nil
}

// Next implements persist.Lane.
func (l *lane) Next(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
	if limit <= 0 {
		return nil, refuse("next", laneName(l.number), "the limit is %d; it must be positive", limit)
	}
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	state, err := l.held(ctx, "next")
	if err != nil {
		return nil, err
	}
	now := l.store.now()
	entries := state.next(now, limit, maxBytes)
	for i := range entries {
		e := &entries[i]
		e.AgeLeft = l.store.limits.Left(time.UnixMilli(now).Sub(e.EnqueuedAt))
		if e.Message.Supersede {
			l.store.handed(state.entries.get(e.Position))
		}
	}
	return entries, nil
}

// Settle implements persist.Lane.
func (l *lane) Settle(ctx context.Context, settlements []persist.Settlement) error {
	for i := range settlements {
		if st := &settlements[i]; st.Outcome > persist.OutcomeSuperseded || st.ReceiptTimeout < 0 {
			return refuse("settle", laneName(l.number), "position %d has outcome %d and receipt time-out %v",
				st.Position, st.Outcome, st.ReceiptTimeout)
		}
	}
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	state, err := l.held(ctx, "settle")
	if err != nil {
		return err
	}
	now := l.store.now()
	for i := range settlements {
		if e := state.entries.get(settlements[i].Position); e != nil { // [OUTBOX-10]
			l.store.settle(state, e, &settlements[i], now)
		}
	}
	return nil
}

// settle applies one settlement. The caller holds s.mu.
func (s *Store) settle(l *laneState, e *entry, st *persist.Settlement, now int64) {
	switch st.Outcome {
	case persist.OutcomeDelivered:
		if !e.message.Receipt {
			s.remove(e)
			return
		}
		l.dequeue(e)
		e.overdue = false
		if e.state == persist.StatePending {
			e.state = persist.StateDelivered
			l.pending--
			l.delivered++
		}
		if st.ReceiptTimeout > 0 {
			e.dueAt = now + millis(st.ReceiptTimeout)
			l.waiting.add(e)
		}
	case persist.OutcomeRetry:
		e.attempts++
		e.reasonCode = st.ReasonCode
		e.failed(st.Reason, now)
	case persist.OutcomeFailed:
		e.attempts++
		s.bury(e, persist.StateFailed, st.ReasonCode, st.Reason)
	case persist.OutcomeExpired:
		s.bury(e, persist.StateExpired, st.ReasonCode, st.Reason)
	case persist.OutcomeReturned:
		l.dequeue(e)
		l.ready.add(e)
	case persist.OutcomeSuperseded:
		s.giveWay(e, persist.StateSuperseded)
	}
}

// Acknowledge implements persist.Lane.
func (l *lane) Acknowledge(ctx context.Context, receipts []persist.Receipt) ([]bool, error) {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if _, err := l.held(ctx, "acknowledge"); err != nil {
		return nil, err
	}
	found := make([]bool, len(receipts))
	for i := range receipts {
		for e := l.store.byID[receipts[i].ID]; e != nil; {
			following := e.sameID // removing an entry ends its chain
			if e.Lane == l.number {
				found[i] = true
				if receipts[i].Failed {
					l.store.bury(e, persist.StateFailed, 0, receipts[i].Reason)
				} else {
					l.store.remove(e)
				}
			}
			e = following
		}
	}
	return found, nil
}

// Release implements persist.Lane.
func (l *lane) Release(ctx context.Context) error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	state, err := l.held(ctx, "release")
	if err != nil {
		return err
	}
	state.released = true
	state.sentUntil = min(state.sentUntil, l.store.now())
	return nil
}
