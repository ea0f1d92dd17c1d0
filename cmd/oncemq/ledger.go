package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// trackLimit is how many unsettled messages of its own a run follows one by
// one. It bounds memory: what is stored beyond that is counted, and followed by
// its places in the outbox.
const trackLimit = 1 << 15

// lookupChunk is how many messages the store is asked about at once.
const lookupChunk = 500

// counts are the numbers of a run.
type counts struct {
	stored, delivered, failed, expired, dropped, superseded int64
	// duplicates were not stored: the outbox held a message of their ID.
	duplicates int64
}

func (c counts) settled() int64 {
	return c.delivered + c.failed + c.expired + c.dropped + c.superseded
}

// String is the numbers in a line.
func (c counts) String() string {
	text := fmt.Sprintf("%d stored, %d delivered, %d failed, %d expired", c.stored, c.delivered, c.failed, c.expired)
	if c.dropped > 0 {
		text += fmt.Sprintf(", %d dropped", c.dropped)
	}
	if c.superseded > 0 {
		text += fmt.Sprintf(", %d superseded", c.superseded)
	}
	if c.duplicates > 0 {
		text += fmt.Sprintf(", %d duplicate%s", c.duplicates, plural(int(c.duplicates)))
	}
	return text
}

// ledger knows what became of the messages of a run: those that it stored, and
// those of earlier runs that its client delivered.
//
// It learns from the client's events. If another process drains the outbox there
// are none, and the store is asked (lookup).
type ledger struct {
	out     *output // of JSON objects; nil for none
	receipt bool    // the run's messages are settled by a receipt
	limit   int     // trackLimit
	// changed holds one: the last open message was settled.
	changed chan struct{}

	mu        sync.Mutex // guards the following
	counts    counts
	refused   int64                  // of failed: by the broker's answer
	open      map[string]persist.Ref // own, unsettled
	queue     []string               // of open, in the order in which to look them up; may hold settled ones
	storing   bool                   // an Enqueue is under way
	early     []settlement           // came while one was
	lookedUp  map[string]bool        // failed by lookup: their events may come yet
	untracked int64                  // own, beyond the limit
	foreign   int64                  // settled, and not in open
	places    map[int]places         // of own messages, by lane
	progress  bool                   // something was settled since the last lookup
	first     []*autopaho.DeliveryError
}

// places are the lowest and the highest position in a lane.
type places struct{ first, last int64 }

// settlement is what became of one message.
type settlement struct {
	id     string
	state  persist.State
	code   byte
	reason string
}

// unhappy tells that the message was not delivered.
func (s *settlement) unhappy() bool { return s.state >= persist.StateFailed }

// firstFailures is how many failures are told one by one.
const firstFailures = 10

func newLedger(out *output, receipt bool) *ledger {
	return &ledger{
		out: out, receipt: receipt, limit: trackLimit, open: make(map[string]persist.Ref),
		lookedUp: make(map[string]bool), places: make(map[int]places),
		changed: make(chan struct{}, 1),
	}
}

// event takes the client's events.
func (l *ledger) event(e autopaho.Event) {
	s := settlement{id: e.MessageID, code: e.ReasonCode}
	switch e.Kind {
	case autopaho.EventDelivered:
		s.state = persist.StateDelivered
	case autopaho.EventAcknowledged:
		s.state = persist.StateAcknowledged
	case autopaho.EventFailed:
		s.state = persist.StateFailed
		var d *autopaho.DeliveryError
		if errors.As(e.Err, &d) {
			s.state, s.code, s.reason = d.State, d.ReasonCode, d.Reason
		}
	case autopaho.EventSuperseded:
		s.state, s.reason = persist.StateSuperseded, persist.ReasonSuperseded
	default:
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, own := l.open[s.id]; !own && l.storing {
		// It may be of the messages that are being stored: the relay can be
		// faster than the call that stores.
		l.early = append(l.early, s)
		return
	}
	l.settle(s)
}

// begin says that messages are being stored.
func (l *ledger) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.storing = true
}

// stored takes what an Enqueue of messages returned; q is nil if it failed.
func (l *ledger) stored(q *autopaho.Enqueued, msgs []autopaho.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.storing = false
	if q != nil {
		l.add(q.IDs(), q.Refs(), msgs)
	}
	early := l.early
	l.early = nil
	for _, s := range early {
		l.settle(s)
	}
}

// add takes messages in; l.mu is held.
func (l *ledger) add(ids []string, refs []persist.Enqueued, msgs []autopaho.Message) {
	track := len(l.open)+len(ids) <= l.limit
	for i, id := range ids {
		ref, event := refs[i].Ref, "stored"
		p, known := l.places[ref.Lane]
		own := false // it was taken in before
		if refs[i].Duplicate {
			event = "duplicate"
			l.counts.duplicates++
			own = known && p.first <= ref.Position && ref.Position <= p.last
		} else {
			l.counts.stored++
		}
		if l.out != nil {
			l.print(storedObject{event, id, msgs[i].Topic})
		}
		if own {
			continue
		}
		if !known || ref.Position < p.first {
			p.first = ref.Position
		}
		p.last = max(p.last, ref.Position)
		l.places[ref.Lane] = p
		if track {
			l.open[id] = ref
			l.queue = append(l.queue, id)
		} else {
			l.untracked++
		}
	}
	for len(l.queue) > 0 {
		if _, ok := l.open[l.queue[0]]; ok {
			break
		}
		l.queue = l.queue[1:]
	}
}

// settle takes a settlement in; l.mu is held.
func (l *ledger) settle(s settlement) {
	_, own := l.open[s.id]
	switch {
	case own && l.receipt && s.state == persist.StateDelivered:
		return // its receipt is awaited
	case own:
		delete(l.open, s.id)
	case l.lookedUp[s.id]:
		delete(l.lookedUp, s.id)
		return
	case s.state == persist.StateAcknowledged:
		// It was counted when it was delivered, by this run or an earlier one.
		if l.out != nil {
			l.print(settledObject{"acknowledged", s.id, s.code, ""})
		}
		return
	default:
		l.foreign++
	}
	l.progress = true
	if len(l.open) == 0 {
		select {
		case l.changed <- struct{}{}: // never blocks
		default:
		}
	}
	switch s.state {
	case persist.StateFailed:
		l.counts.failed++
		if s.code >= 0x80 {
			l.refused++
		}
	case persist.StateExpired:
		l.counts.expired++
	case persist.StateDropped:
		l.counts.dropped++
	case persist.StateSuperseded:
		l.counts.superseded++
	default:
		l.counts.delivered++
	}
	if s.state != persist.StateSuperseded && s.unhappy() && len(l.first) < firstFailures {
		l.first = append(l.first, &autopaho.DeliveryError{ID: s.id, State: s.state, ReasonCode: s.code, Reason: s.reason})
	}
	if l.out != nil {
		l.print(settledObject{s.state.String(), s.id, s.code, s.reason})
	}
}

// storedObject and settledObject are what --json prints.
type storedObject struct {
	Event string `json:"event"`
	ID    string `json:"id"`
	Topic string `json:"topic"`
}

type settledObject struct {
	Event      string `json:"event"`
	ID         string `json:"id"`
	ReasonCode byte   `json:"reason_code"`
	Reason     string `json:"reason,omitempty"`
}

// room waits until the objects of more messages may be made, or until ctx has ended.
// The relay does not wait: what is delivered is told of as it comes.
func (l *ledger) room(ctx context.Context) error {
	if l.out == nil {
		return nil
	}
	return l.out.room(ctx)
}

// print queues an object; l.mu is held. The output keeps its first error, for who
// closes it.
func (l *ledger) print(v any) {
	_ = l.out.object(v)
}

// failures takes the failures that are to be told, each once.
func (l *ledger) failures() []*autopaho.DeliveryError {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}

// wasRefused tells whether the broker's answer made a message fail.
func (l *ledger) wasRefused() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused > 0
}

// tally returns the numbers so far, how many own messages are followed and not
// settled, and how many are not followed.
func (l *ledger) tally() (c counts, open int, untracked int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts, len(l.open), l.untracked
}

// lookup asks the store about messages of which no event has come, which is so
// if another process drains the outbox. It asks about the oldest first, and
// stops where they are not settled.
func (l *ledger) lookup(ctx context.Context, store persist.Outbox) error {
	l.mu.Lock()
	if l.progress {
		// Events come, or the last lookup found something: no need, for now.
		l.progress = false
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	for {
		ids, refs := l.oldest()
		if len(ids) == 0 {
			return nil
		}
		fates, err := store.Lookup(ctx, refs)
		if err != nil {
			return err
		}
		if !l.learn(ids, fates) {
			return nil
		}
	}
}

// oldest takes a chunk from the queue.
func (l *ledger) oldest() (ids []string, refs []persist.Ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for ; n < len(l.queue) && len(ids) < lookupChunk; n++ {
		if ref, ok := l.open[l.queue[n]]; ok {
			ids, refs = append(ids, l.queue[n]), append(refs, ref)
		}
	}
	l.queue = l.queue[n:]
	return ids, refs
}

// learn takes the answers of a lookup, and tells whether all of them were
// settled. The others go to the end of the queue, so that one that is held back
// does not hide those behind it.
func (l *ledger) learn(ids []string, fates []persist.Fate) (all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all = true
	for i, fate := range fates {
		if _, open := l.open[ids[i]]; !open {
			continue // its event came meanwhile
		}
		s := settlement{id: ids[i], state: fate.State, code: fate.ReasonCode, reason: fate.LastError}
		switch {
		case fate.State == persist.StatePending, l.receipt && fate.State == persist.StateDelivered && !fate.Gone:
			l.queue = append(l.queue, ids[i])
			all = false
			continue
		case fate.Gone && l.receipt:
			s.state = persist.StateAcknowledged
		case s.unhappy():
			l.lookedUp[s.id] = true
		}
		l.settle(s)
	}
	l.progress = false
	return all
}

// clear tells whether nothing is left in the outbox of what this run waits for:
// its own messages, and everything before them. The lanes that it stored nothing
// in must be empty.
func (l *ledger) clear(ctx context.Context, store persist.Store) (bool, error) {
	lanes, err := store.Lanes(ctx)
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	states := []persist.State{persist.StatePending}
	if l.receipt && l.untracked > 0 {
		states = append(states, persist.StateDelivered)
	}
	l.mu.Unlock()
	for _, lane := range lanes {
		entries, err := store.ListOutbox(ctx, persist.ListRequest{Lane: lane.Lane, Limit: 1, States: states})
		if err != nil {
			return false, err
		}
		if len(entries) == 0 {
			continue
		}
		l.mu.Lock()
		p, own := l.places[lane.Lane]
		l.mu.Unlock()
		if !own || entries[0].Position <= p.last {
			return false, nil
		}
	}
	return true, nil
}

// reconcile counts, once the outbox is clear, the messages that were not
// followed and that another process has settled: those that are not among the
// dead letters were delivered. It is called when nothing is stored any more.
func (l *ledger) reconcile(ctx context.Context, store persist.DeadLetters) error {
	l.mu.Lock()
	rest := l.untracked - l.foreign
	before := l.counts
	own := l.places
	l.mu.Unlock()
	if rest <= 0 {
		return nil
	}
	var failed, expired int64
	filter := persist.DeadLetterFilter{Side: persist.SideOutbox}
	for {
		letters, err := store.ListDeadLetters(ctx, filter, lookupChunk)
		if err != nil {
			return err
		}
		for i := range letters {
			letter := &letters[i]
			filter.After = letter.Number
			p, ok := own[letter.Ref.Lane]
			if !ok || letter.Ref.Position < p.first || letter.Ref.Position > p.last {
				continue
			}
			if letter.State == persist.StateExpired {
				expired++
			} else {
				failed++
			}
		}
		if len(letters) < lookupChunk {
			break
		}
	}
	failed = min(rest, max(0, failed-before.failed))
	expired = min(rest-failed, max(0, expired-before.expired))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts.failed += failed
	l.counts.expired += expired
	l.counts.delivered += rest - failed - expired
	return nil
}
