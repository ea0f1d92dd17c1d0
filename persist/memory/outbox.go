package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// entry is one message of the outbox. Times are the store's, in milliseconds.
type entry struct {
	persist.Ref
	message    persist.Message
	state      persist.State
	attempts   int
	reasonCode byte
	lastError  string
	first      persist.Failure
	lastAt     int64 // of lastError
	enqueuedAt int64
	expiresAt  int64 // zero: never
	bytes      int64 // as it would be stored

	// dueAt is when an entry in lane.waiting may be handed out; queue and slot
	// are the queue that it is in, if any, and its index there.
	dueAt int64
	queue *queue
	slot  int
	// overdue tells that its receipt did not come, which no hand-out counted
	// yet.
	overdue bool

	// sameID chains the entries that byID knows under one ID.
	sameID *entry
}

// owned is a copy of a message that shares nothing with the caller's.
func owned(m *persist.Message) persist.Message {
	own := *m
	own.Payload = slices.Clone(m.Payload)
	own.Properties.CorrelationData = slices.Clone(m.Properties.CorrelationData)
	own.Properties.User = slices.Clone(m.Properties.User)
	return own
}

// known tells whether a message can be found by its ID: for duplicates and for
// receipts.
func known(m *persist.Message) bool { return m.Idempotent || m.Receipt }

// Enqueue implements persist.Outbox.
func (s *Store) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	for i := range msgs {
		if err := s.limits.CheckMessage(&msgs[i]); err != nil {
			return nil, refuse("enqueue", fmt.Sprintf("message %d of %d", i+1, len(msgs)), "%w", err)
		}
	}
	places, err := s.enqueue(ctx, msgs)
	if err == nil && len(places) > 0 {
		s.notifier.wake()
	}
	return places, err
}

func (s *Store) enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "enqueue", ""); err != nil {
		return nil, err
	}
	if err := s.makeRoom("enqueue", msgs); err != nil {
		return nil, err
	}
	return s.add(msgs), nil
}

// makeRoom sees that the messages fit in, if need be by dropping old ones
// [OUTBOX-9]. It drops nothing unless that is enough. The caller holds s.mu.
func (s *Store) makeRoom(op string, msgs []persist.Message) error {
	if !s.limits.CountsRoom() {
		return nil
	}
	room := persist.Room{Limits: s.limits, Messages: s.size, Bytes: s.bytes}
	shares := make([]persist.Share, len(s.lanes)) // of new ones that may take an old one's place
	seen := make(map[string]bool)
	newest := make(map[string]int64) // what waits of a key, and will give way
	for i := range msgs {
		m := &msgs[i]
		if m.Idempotent && (seen[m.ID] || s.byID[m.ID] != nil) {
			continue
		}
		if known(m) {
			seen[m.ID] = true
		}
		size := int64(wire.Size(m))
		room.AddMessages++
		room.AddBytes += size
		if m.Droppable {
			share := &shares[persist.LaneOf(m.Key(), len(s.lanes))]
			share.Messages++
			share.Bytes += size
		}
		if m.Supersede {
			old, waits := newest[m.Key()]
			if e := s.latest[m.Key()]; !waits && e != nil {
				old, waits = e.bytes, true
			}
			if waits {
				room.AddMessages--
				room.AddBytes -= old
			}
			newest[m.Key()] = size
		}
	}
	full := room
	var victims []*entry
	for i, l := range s.lanes {
		for _, e := range l.droppables() {
			if !room.Wants(shares[i]) {
				break
			}
			room.Take(&shares[i], e.bytes)
			victims = append(victims, e)
		}
	}
	if !room.Fits() {
		return &persist.Error{Op: op, Kind: persist.ErrOutboxFull, Err: full.Full()}
	}
	for _, e := range victims {
		s.giveWay(e, persist.StateDropped)
	}
	return nil
}

// add appends the messages to their lanes. The caller holds s.mu.
func (s *Store) add(msgs []persist.Message) []persist.Enqueued {
	if len(msgs) == 0 {
		return nil
	}
	now := s.now()
	var superseding []*entry
	places := make([]persist.Enqueued, len(msgs))
	for i := range msgs {
		m := &msgs[i]
		if m.Idempotent {
			if first := s.byID[m.ID]; first != nil { // [OUTBOX-4]
				places[i] = persist.Enqueued{Ref: first.Ref, Duplicate: true}
				continue
			}
		}
		l := s.lanes[persist.LaneOf(m.Key(), len(s.lanes))]
		l.last++
		e := &entry{
			Ref:        persist.Ref{Lane: l.number, Position: l.last},
			message:    owned(m),
			enqueuedAt: now,
			bytes:      int64(wire.Size(m)),
		}
		if m.Expiry > 0 {
			e.expiresAt = now + millis(m.Expiry)
		}
		l.entries.add(e.Position, e)
		l.pending++
		s.size++
		s.bytes += e.bytes
		if m.Supersede {
			superseding = append(superseding, e)
		}
		if m.Delay > 0 {
			e.dueAt = now + millis(m.Delay)
			l.waiting.add(e)
		}
		if known(m) {
			s.learn(e)
		}
		places[i].Ref = e.Ref
	}
	for _, e := range superseding { // [OUTBOX-14]
		if old := s.latest[e.message.Key()]; old != nil {
			s.giveWay(old, persist.StateSuperseded)
		}
		s.latest[e.message.Key()] = e
	}
	return places
}

// learn makes an entry known by its ID; the first of an ID stays in front.
func (s *Store) learn(e *entry) {
	if first := s.byID[e.message.ID]; first != nil {
		e.sameID, first.sameID = first.sameID, e
		return
	}
	s.byID[e.message.ID] = e
}

// unlearn is the reverse of learn.
func (s *Store) unlearn(e *entry) {
	id := e.message.ID
	if first := s.byID[id]; first != e {
		for first.sameID != e {
			first = first.sameID
		}
		first.sameID = e.sameID
	} else if e.sameID != nil {
		s.byID[id] = e.sameID
	} else {
		delete(s.byID, id)
	}
	e.sameID = nil
}

// remove takes an entry out of the outbox. The caller holds s.mu.
func (s *Store) remove(e *entry) {
	l := s.lanes[e.Lane]
	l.dequeue(e)
	l.entries.remove(e.Position)
	if e.state == persist.StatePending {
		l.pending--
	} else {
		l.delivered--
	}
	s.size--
	s.bytes -= e.bytes
	s.handed(e)
	if known(&e.message) {
		s.unlearn(e)
	}
}

// bury moves an entry to the dead letters [OUTBOX-11]. The caller holds s.mu.
func (s *Store) bury(e *entry, state persist.State, code byte, reason string) {
	now := s.now()
	if state == persist.StateFailed {
		e.failed(reason, now)
	}
	s.remove(e)
	letter := persist.DeadLetter{
		Side:       persist.SideOutbox,
		State:      state,
		Ref:        e.Ref,
		Message:    e.message,
		ReasonCode: code,
		Reason:     reason,
		Attempts:   e.attempts,
		First:      e.first,
	}
	if e.lastAt != 0 {
		letter.Last = persist.Failure{Error: e.lastError, At: time.UnixMilli(e.lastAt)}
	}
	s.deadLetters.add(now, letter)
}

// failed records an error.
func (e *entry) failed(reason string, now int64) {
	if e.lastAt == 0 {
		e.first = persist.Failure{Error: reason, At: time.UnixMilli(now)}
	}
	e.lastError, e.lastAt = reason, now
}

// export is the entry as others see it at a time.
func (e *entry) export(now int64) persist.Entry {
	out := persist.Entry{
		Ref:        e.Ref,
		Message:    e.message,
		State:      e.state,
		Attempts:   e.attempts,
		LastError:  e.lastError,
		EnqueuedAt: time.UnixMilli(e.enqueuedAt),
	}
	if e.expiresAt != 0 {
		out.Message.Expiry = duration(e.expiresAt - now)
		if out.Message.Expiry == 0 {
			out.Message.Expiry = -time.Millisecond // zero would mean for ever
		}
	}
	return out
}

// Lookup implements persist.Outbox.
func (s *Store) Lookup(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "lookup", ""); err != nil {
		return nil, err
	}
	fates := make([]persist.Fate, len(refs))
	for i, ref := range refs {
		fates[i] = s.fate(ref)
	}
	return fates, nil
}

func (s *Store) fate(ref persist.Ref) persist.Fate {
	if letter := s.deadLetters.byRef[ref]; letter != nil {
		return persist.Fate{State: letter.State, ReasonCode: letter.ReasonCode, LastError: letter.Reason}
	}
	if state, ok := s.given.states[ref]; ok {
		return persist.FateOf(state)
	}
	if ref.Lane >= 0 && ref.Lane < len(s.lanes) {
		if e := s.lanes[ref.Lane].entries.get(ref.Position); e != nil {
			return persist.Fate{State: e.state, ReasonCode: e.reasonCode, LastError: e.lastError}
		}
	}
	return persist.Fate{State: persist.StateDelivered, Gone: true}
}

// Lanes implements persist.Outbox.
func (s *Store) Lanes(ctx context.Context) ([]persist.LaneInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "lanes", ""); err != nil {
		return nil, err
	}
	return s.laneInfos(), nil
}

// laneInfos describes the lanes. The caller holds s.mu.
func (s *Store) laneInfos() []persist.LaneInfo {
	now := s.now()
	infos := make([]persist.LaneInfo, len(s.lanes))
	for i, l := range s.lanes {
		infos[i] = persist.LaneInfo{
			Lane: i, Owner: l.owner, Epoch: l.epoch, Pending: l.pending,
			Remaining: duration(l.leaseEnd - now),
		}
		if l.epoch == 0 || l.released {
			infos[i].Remaining = 0
		}
	}
	return infos
}
