package session

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// slowSave is from when on a save counts as an outage of the store, during which
// the server cannot be blamed for what it does not answer.
const slowSave = time.Second

// Exchange is a QoS 2 exchange that an earlier process began in this session.
type Exchange struct {
	persist.PacketState
	// Gone tells that its message is not there to be sent any more: it was
	// settled, expired, or taken away.
	Gone bool
}

// barrier keeps the store's copy of the session's QoS 2 exchanges ahead of the
// wire: a PUBLISH leaves when "published" is durable, a PUBREL when "released" is.
//
// The engine's books are the working copy. What changes in them is saved by a goroutine
// of its own, all of it at once, as soon as the save before is through. Meanwhile the
// writer goes on with what is durable, which is all that it ever writes. So a save
// takes along what came while the last one ran, and a time without QoS 2 costs none.
//
// An exchange that has ended is saved as released for as long as the store does
// not know what became of its message. Were it left out before, a crash in between
// would leave a message without an exchange, which is sent as new. That is why its
// packet identifier stays taken until the owner says Settled; the exchange is then
// left out of the next save, whenever that comes. Until then the store has an
// exchange too many, of a message that is gone, which is no harm (see end).
//
// A message is saved as published when there is room for it, together with what else
// is due. If the process ends before it is sent, the next one sends it as a
// repetition, which for a server that has nothing under the identifier is a new
// message.
type barrier struct {
	changed bool      // the books have what the store does not know
	stored  bool      // the store may hold exchanges
	saving  bool      // a save is under way
	began   time.Time // when it began
	lost    bool      // a save has failed: nothing is written any more
	foreign bool      // since the session is not ours any more, and so is the last word
	passed  time.Time // when the last slow save ended
	saves   chan save // holds one
	states  []persist.PacketState

	// Saves are numbered. begun is the latest, saved the latest that is through, and
	// fence one before which nothing at all is written.
	begun, saved, fence uint64

	// reserved are exchanges of an earlier process whose message the source has
	// not handed out yet, by its position.
	reserved map[int64]reservation
	mark     Outgoing // stands in ids for their identifiers
	ended    flightList
	// burnt are exchanges whose message was given up, or is gone. If the server
	// has the PUBLISH it keeps the identifier until a PUBREL that never comes, and
	// takes the next message under it for a repetition [MQTT-4.3.3-10]: it is not
	// used again in this session.
	burnt []persist.PacketState
}

// save is a state of the books that is to be durable.
type save struct {
	number uint64
	states []persist.PacketState
}

type reservation struct {
	persist.PacketState
	order int
}

// restore begins with the exchanges of an earlier process. A message may have two
// of them: one that ended and was settled, and one in which it was sent again.
func (e *Engine) restore(exchanges []Exchange) {
	b := &e.barrier
	b.stored = len(exchanges) > 0
	for i, x := range exchanges {
		switch {
		case x.Step == persist.StepReceived:
			// Publishing sessions receive nothing at QoS 2.
		case x.Gone:
			e.end(x.PacketState)
		default:
			if b.reserved == nil {
				b.reserved = make(map[int64]reservation)
			}
			if before, twice := b.reserved[x.Position]; twice {
				e.end(before.PacketState)
			}
			b.reserved[x.Position] = reservation{x.PacketState, i}
			e.ids.set(x.PacketID, &b.mark)
		}
	}
}

// end brings an exchange to its end whose message is not there. One that is
// released ends as any other, but nobody is told. One that is not cannot: the
// PUBLISH may have reached the server or not, and cannot be sent again.
func (e *Engine) end(p persist.PacketState) {
	if p.Step != persist.StepReleased {
		e.barrier.burnt = append(e.barrier.burnt, p)
		e.ids.set(p.PacketID, &e.burnt)
		return
	}
	o := &Outgoing{
		Message: &persist.Message{QoS: 2}, Ref: persist.Ref{Position: p.Position},
		packetID: p.PacketID, step: p.Step, orphan: true,
	}
	e.ids.set(o.packetID, o)
	e.flights.push(o)
	if e.resume == nil && e.conn != nil {
		e.resume = o
	}
}

// Gone tells that messages of an earlier process's exchanges turned out to be gone.
func (e *Engine) Gone(positions ...int64) {
	e.mu.Lock()
	for _, position := range positions {
		if r, ok := e.barrier.reserved[position]; ok {
			delete(e.barrier.reserved, position)
			e.end(r.PacketState)
		}
	}
	e.mu.Unlock()
	e.Wake()
}

// adopt gives a message that was taken from the source the exchange in which an
// earlier process had sent it, if there is one. e.mu is held.
func (e *Engine) adopt(o *Outgoing) {
	b := &e.barrier
	r, ok := b.reserved[o.Ref.Position]
	if !ok || o.Message.QoS != 2 {
		return
	}
	delete(b.reserved, o.Ref.Position)
	o.packetID, o.step = r.PacketID, r.Step
	e.ids.set(o.packetID, o)
}

// idle tells whether a packet identifier belongs to an exchange for which an answer
// of the server means nothing now: one that has ended, that was given up, that waits
// for its message, or whose PUBLISH was not sent yet.
func (e *Engine) idle(o *Outgoing) bool {
	return o == &e.burnt || o == &e.barrier.mark || o != nil && (o.ended || o.fresh)
}

// retire takes an exchange out of the books, and keeps its identifier until the
// owner says that what became of the message is durable. e.mu is held.
func (e *Engine) retire(o *Outgoing, c Completion) Completion {
	id, keep := o.packetID, e.cfg.Save != nil && o.step == persist.StepReleased
	c = e.drop(o, c)
	if keep {
		o.packetID, o.step, o.ended = id, persist.StepReleased, true
		e.ids.set(id, o)
		e.barrier.ended.push(o)
	}
	return c
}

// Settled tells that it is durable what became of messages that were delivered, so
// that their exchanges may be forgotten.
func (e *Engine) Settled(all []*Outgoing) {
	e.mu.Lock()
	short := e.barrier.heldIDs() > math.MaxUint16/2
	for _, o := range all {
		if o.ended {
			e.barrier.ended.remove(o)
			e.ids.set(o.packetID, nil)
			o.packetID, o.step, o.ended = 0, 0, false
		}
	}
	e.mu.Unlock()
	if short {
		e.Wake()
	}
}

// newSession drops what was of the session that the server has forgotten.
// Everything that it did not acknowledge for good is new again [MQTT-3.2.2-5]; order
// is kept, and nothing newer is sent before it. What has ended has ended for good,
// and the store must know that until it is settled. e.mu is held.
func (e *Engine) newSession() {
	b := &e.barrier
	for o := e.flights.head; o != nil; {
		next := o.next
		if o.orphan {
			e.flights.remove(o)
		}
		o.packetID, o.step, o.needs, o.fresh = 0, 0, 0, true // in this session
		o = next
	}
	e.ids.clear()
	for o := b.ended.head; o != nil; o = o.next {
		e.ids.set(o.packetID, o)
	}
	b.burnt, b.reserved = nil, nil
	if b.stored || b.saving {
		b.changed, b.fence = true, b.begun+1
	}
	e.inbox.forget()
}

// heldIDs is how many packet identifiers are taken by what is not in flight.
func (b *barrier) heldIDs() int { return len(b.burnt) + len(b.reserved) + b.ended.len }

// prepare gives the messages that are sent next their packet identifiers, to be saved
// along with what is about to be. There are no more of them than the window has room
// for. e.mu is held.
func (e *Engine) prepare() {
	for o := e.resume; o != nil; o = o.next {
		if o.step == 0 && o.Message.QoS == 2 {
			o.packetID, o.step, o.needs = e.allocateID(), persist.StepPublished, e.barrier.begun
			e.ids.set(o.packetID, o)
		}
	}
}

// durable tells whether what is to be sent of o next may be sent: at QoS 2, if the
// store knows of it. e.mu is held.
func (e *Engine) durable(o *Outgoing) bool {
	return e.cfg.Save == nil || o.Message.QoS != 2 || o.step != 0 && o.needs <= e.barrier.saved
}

// packets appends the state of all exchanges to dst, in the order in which they
// began. e.mu is held.
func (e *Engine) packets(dst []persist.PacketState) []persist.PacketState {
	b := &e.barrier
	dst = append(dst, b.burnt...)
	for _, list := range []*flightList{&b.ended, &e.flights} {
		for o := list.head; o != nil; o = o.next {
			if o.Message.QoS == 2 && o.step != 0 {
				dst = append(dst, persist.PacketState{PacketID: o.packetID, Step: o.step, Position: o.Ref.Position})
			}
		}
	}
	if len(b.reserved) == 0 {
		return dst
	}
	waiting := make([]reservation, 0, len(b.reserved))
	for _, r := range b.reserved {
		waiting = append(waiting, r)
	}
	slices.SortFunc(waiting, func(x, y reservation) int { return x.order - y.order })
	for _, r := range waiting {
		dst = append(dst, r.PacketState)
	}
	return dst
}

// Packets is the packet state of the session, and whether it is worth saving: the store
// may hold another, and the session is ours. Used once the connection has ended for good.
func (e *Engine) Packets() (states []persist.PacketState, stored bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for o := e.flights.head; o != nil; o = o.next {
		if o.fresh && o.packetID != 0 { // it was never sent
			e.ids.set(o.packetID, nil)
			o.packetID, o.step = 0, 0
		}
	}
	return e.packets(nil), e.barrier.stored && !e.barrier.foreign
}

// collect has what changed in the books saved, unless a save is under way already: the
// next one takes it then. e.mu is held.
func (e *Engine) collect() {
	b := &e.barrier
	if e.cfg.Save == nil || !b.changed || b.saving {
		return
	}
	b.begun++
	e.prepare()
	b.changed, b.saving, b.began = false, true, time.Now()
	b.states = e.packets(b.states[:0])
	b.stored = b.stored || len(b.states) > 0
	b.saves <- save{b.begun, b.states}
}

// runSaves saves what is collected, until the context ends.
func (e *Engine) runSaves(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-e.barrier.saves:
			e.commit(s, e.cfg.Save(ctx, s.states))
		}
	}
}

// commit takes the outcome of a save.
func (e *Engine) commit(s save, err error) {
	e.mu.Lock()
	b := &e.barrier
	b.saving = false
	if err != nil {
		b.changed, b.lost, b.foreign = true, true, !errors.Is(err, context.Canceled)
	} else {
		b.saved, b.stored = s.number, len(s.states) > 0
		if now := time.Now(); now.Sub(b.began) > slowSave {
			b.passed = now
		}
	}
	e.tellWaiters()
	e.mu.Unlock()
	e.Wake()
}

// errLeaving: what is not written before the DISCONNECT is not written.
var errLeaving = errors.New("the connection is being ended")

// write writes a buffer, and returns another one to fill.
func (c *conn) write(buf []byte) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(buf) > 0 && c.clean.Load() {
		return buf[:0], errLeaving // [MQTT-3.14.4-1]
	}
	buf, c.out = c.out, buf // empty but while the lock is held
	err := c.flushLocked()
	return buf[:0], err
}

// broken tells whether an error has ended writing.
func (c *conn) broken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.outErr != nil
}
