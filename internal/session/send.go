package session

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// takeAtOnce is how many messages are asked of the source at a time.
const takeAtOnce = 64

// Run writes until the context ends. It is the only goroutine that writes
// PUBLISH packets and acknowledgements.
func (e *Engine) Run(ctx context.Context) {
	if e.cfg.Save != nil {
		var saver sync.WaitGroup
		saver.Go(func() { e.runSaves(ctx) })
		defer saver.Wait()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
			e.pump()
		}
	}
}

// pump writes whatever may be written, a buffer at a time, and has what may not yet
// be written saved.
func (e *Engine) pump() {
	e.mu.Lock()
	c := e.conn
	e.mu.Unlock()
	if c == nil {
		return
	}
	var ended []Completion
	for more := true; more && !c.broken(); {
		e.mu.Lock()
		if e.conn != c || e.barrier.lost {
			e.mu.Unlock()
			break
		}
		var bare []*Outgoing // QoS 0: over once written
		e.out, bare, more = e.fill(e.out[:0], &ended)
		e.collect()
		e.writing = true
		e.mu.Unlock()
		writes := len(e.out) > 0
		if writes {
			failpoint.Hit(failpoint.BeforeWrite)
		}
		var err error
		if e.out, err = c.write(e.out); err != nil {
			break
		}
		if writes {
			failpoint.Hit(failpoint.AfterWrite)
		}
		if len(bare) > 0 {
			ended = e.written(bare, ended)
		}
	}
	e.mu.Lock()
	e.writing = false
	e.tellWaiters()
	e.mu.Unlock()
	e.complete(ended)
}

// written ends QoS 0 messages once their bytes were handed to the system. The
// next connection may have begun meanwhile, so that one of them is next to be
// sent again, and they may have been withdrawn.
func (e *Engine) written(bare []*Outgoing, ended []Completion) []Completion {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range bare {
		if o.listed {
			ended = append(ended, e.drop(o, Completion{Out: o, Class: qos.Success}))
		}
	}
	return ended
}

// fill appends packets to out until there are no more or the buffer is full;
// more tells that it stopped for the latter. e.mu is held.
func (e *Engine) fill(out []byte, ended *[]Completion) (_ []byte, bare []*Outgoing, more bool) {
	now := time.Now()
	if e.asked {
		e.asked = false
		out = append(out, typePingreq<<4, 0)
	}
	if e.barrier.fence > e.barrier.saved {
		return out, nil, false
	}
	due := 0
	for due < len(e.replies) && e.replies[due].needs <= e.barrier.saved {
		r := e.replies[due]
		failpoint.Hit(failpoint.BeforePubrel)
		out = appendAck(out, r.packetType, r.packetID, r.code)
		due++
	}
	e.replies = slices.Delete(e.replies, 0, due)
	out = e.inbox.appendAcks(out)
	if e.gated {
		return out, nil, false
	}

	for {
		e.isolating = e.isolating && e.suspects()
		for e.resume != nil {
			if len(out) >= writeBufferSize {
				return out, bare, true
			}
			if !e.room() {
				return out, bare, false
			}
			o := e.resume
			if !e.durable(o) {
				e.barrier.changed = e.barrier.changed || o.step == 0
				return out, bare, false
			}
			if wait := e.quiet(o, now); wait > 0 {
				return e.control(out, wait), bare, false
			}
			e.resume = o.next
			if o.gen != e.gen { // else an answer came before we sent it again
				out, bare = e.send(out, bare, o, now, ended)
			}
		}
		if e.cfg.Source == nil || !e.room() {
			return out, bare, false
		}
		if e.take(min(e.window()-e.active, takeAtOnce)) == 0 {
			return out, bare, false
		}
	}
}

// take takes messages from the source, up to limit, to be sent after all others.
func (e *Engine) take(limit int) int {
	e.scratch = e.cfg.Source.Take(e.scratch[:0], limit)
	now := time.Now()
	for i, o := range e.scratch {
		e.scratch[i] = nil
		o.size = len(o.Message.Payload)
		if o.Message.Expiry != 0 && o.ExpiresAt.IsZero() {
			o.ExpiresAt = now.Add(o.Message.Expiry)
		}
		o.packetID, o.gen, o.step, o.suspect, o.strikes, o.trial, o.noted, o.needs = 0, 0, 0, false, 0, nil, 0, 0
		o.firstAt = time.Time{}
		e.adopt(o)
		o.fresh = o.step == 0
		e.flights.push(o)
		if e.resume == nil {
			e.resume = o
		}
	}
	return len(e.scratch)
}

// room tells whether one more exchange may begin.
func (e *Engine) room() bool {
	return e.active < e.window() && (e.active == 0 || e.activeBytes < e.cfg.WindowBytes)
}

// window is how many exchanges may be under way on this connection.
//
// Besides the bounds that are given, it follows a pace: halved when a
// connection ends with messages in flight, and raised by every one that is
// answered. A broker that forgets the session at each loss gets everything in
// flight again; if it then drops the connection after fewer packets than that,
// a full window would never be answered, at QoS 2 not even in part.
func (e *Engine) window() int {
	if e.isolating {
		return 1
	}
	return min(e.pace, e.limits.ReceiveMaximum, math.MaxUint16-spareIDs-e.barrier.heldIDs())
}

// suspects tells whether a suspect is still in flight.
func (e *Engine) suspects() bool {
	for o := e.flights.head; o != nil; o = o.next {
		if o.suspect {
			return true
		}
	}
	return false
}

// send appends the packet that the exchange of o needs next on this
// connection. e.mu is held and o is in e.flights.
func (e *Engine) send(out []byte, bare []*Outgoing, o *Outgoing, now time.Time, ended *[]Completion) ([]byte, []*Outgoing) {
	if o.step == persist.StepReleased && !failpoint.Mutant(failpoint.ResendAfterPubrec) {
		// PUBREC was seen: the PUBLISH is never sent again [MQTT-4.3.3-7].
		e.begun(o, now)
		return appendAck(out, typePubrel, o.packetID, 0), bare
	}
	props, remaining := publishSizes(o)
	if o.FirstSent > 0 && 1+varintLen(remaining)+remaining > e.limits.MaximumPacketSize {
		// What tells more about a message must not be what makes it fail.
		o.FirstSent = 0
		props, remaining = publishSizes(o)
	}
	expiry, expired := o.expiryLeft(now)
	first := o.fresh
	if first && (expired || o.TooOld(now)) {
		*ended = append(*ended, e.drop(o, Completion{Out: o, Expired: true}))
		return out, bare
	}
	if code, reason := e.limits.refuse(o, 1+varintLen(remaining)+remaining); code != 0 {
		*ended = append(*ended, e.abandon(o, Completion{Out: o, Code: code, Reason: reason, Class: qos.Permanent}))
		return out, bare
	}
	o.fresh = false
	if o.Message.QoS == 0 {
		return appendPublish(out, o, props, remaining, false, expiry), append(bare, o)
	}
	if o.step == 0 {
		o.packetID = e.allocateID() // the window leaves some free
		e.ids.set(o.packetID, o)
		o.step = persist.StepPublished
	}
	e.begun(o, now)
	return appendPublish(out, o, props, remaining, !first, max(expiry, 1)), bare
}

// begun counts o among the exchanges of this connection.
func (e *Engine) begun(o *Outgoing, now time.Time) {
	o.gen, o.sentAt = e.gen, now
	if o.firstAt.IsZero() {
		o.firstAt = now
	}
	e.active++
	e.activeBytes += o.size
}

// abandon drops an exchange that the server has not ended. If its QoS 2 PUBLISH was
// sent, the packet identifier is burnt: the PUBREL never comes, or ends the
// connection.
func (e *Engine) abandon(o *Outgoing, c Completion) Completion {
	sent := o.Message.QoS == 2 && o.step != 0 && !o.fresh
	state := persist.PacketState{PacketID: o.packetID, Step: persist.StepPublished, Position: o.Ref.Position}
	c = e.drop(o, c)
	if sent {
		e.end(state)
	}
	return c
}

// drop takes an exchange out of the engine's books.
func (e *Engine) drop(o *Outgoing, c Completion) Completion {
	if e.resume == o {
		e.resume = o.next
	}
	e.flights.remove(o)
	if o.gen == e.gen {
		e.active--
		e.activeBytes -= o.size
	}
	if o.packetID != 0 {
		e.ids.set(o.packetID, nil)
	}
	o.packetID, o.step = 0, 0
	return c
}

// flight finds the exchange of an acknowledgement of a QoS level. It is nil for
// an identifier that is not in use, which is no fault: the answer may be to an
// exchange that ended in an earlier life of this session.
func (e *Engine) flight(a ack, level byte) (*Outgoing, error) {
	o := e.ids.get(a.packetID)
	if e.idle(o) {
		return nil, nil
	}
	if o != nil && o.Message.QoS != level {
		return nil, protocolFault(fmt.Sprintf("acknowledgement of the other QoS for packet identifier %d", a.packetID))
	}
	return o, nil
}

// acknowledged ends an exchange by PUBACK (level 1) or PUBCOMP (level 2).
// e.mu is held.
func (e *Engine) acknowledged(a ack, level byte) error {
	if level == 2 {
		failpoint.Hit(failpoint.AfterPubcomp)
	}
	o, err := e.flight(a, level)
	if o == nil {
		return err
	}
	c := Completion{Out: o, Code: a.code, Reason: a.reason, Class: classOf(level, a.code)}
	if level == 2 {
		if o.step != persist.StepReleased {
			return nil // PUBCOMP without PUBREC answers nothing of ours
		}
		if a.code != 0 {
			// 0x92, packet identifier not found: the server finished the
			// exchange before. There is no other code.
			c.Class = qos.Success
		}
	}
	e.finish(o, c)
	return nil
}

// recorded handles PUBREC. e.mu is held.
func (e *Engine) recorded(a ack) error {
	failpoint.Hit(failpoint.AfterPubrec)
	if e.ids.get(a.packetID) == &e.barrier.mark {
		return nil // its message was not handed out yet; it is answered once more
	}
	o, err := e.flight(a, 2)
	if err != nil {
		return err
	}
	if o == nil {
		return e.reply(reply{packetType: typePubrel, packetID: a.packetID, code: 0x92}) // nothing is known of it, section 3.6.2.1
	}
	if a.code >= 0x80 && o.step != persist.StepReleased && !failpoint.Mutant(failpoint.IgnorePubrecCode) {
		e.finish(o, Completion{Out: o, Code: a.code, Reason: a.reason, Class: classOf(2, a.code)})
		return nil
	}
	e.progress = true
	if o.gen != e.gen { // an answer to what was sent before, and not yet again
		e.begun(o, time.Now())
	}
	if o.step != persist.StepReleased {
		o.step, o.noted, o.sentAt = persist.StepReleased, a.code, time.Now()
		if e.cfg.Save != nil {
			e.barrier.changed, o.needs = true, e.barrier.begun+1
		}
	}
	return e.reply(reply{packetType: typePubrel, packetID: o.packetID, needs: o.needs})
}

// reply has the writer send a PUBREL or PUBCOMP. e.mu is held.
func (e *Engine) reply(r reply) error {
	if len(e.replies) >= maxReplies {
		return &protocolError{code: 0x96, text: "more PUBREC or PUBREL than there are packet identifiers, and none of the answers read"}
	}
	e.replies = append(e.replies, r)
	e.stir = true
	return nil
}

// finish ends an exchange with the server's answer. e.mu is held.
func (e *Engine) finish(o *Outgoing, c Completion) {
	if c.Code == 0 && o.noted != 0 {
		c.Code, c.Class = o.noted, classOf(2, o.noted)
	}
	e.progress, e.stir = true, true
	e.pace = min(e.pace+1, e.cfg.Window)
	if c.Class == qos.Success || c.Class == qos.NoSubscribers {
		e.condemned = 0
	}
	if o.orphan {
		e.drop(o, c)
		return
	}
	e.done = append(e.done, e.retire(o, c))
}
