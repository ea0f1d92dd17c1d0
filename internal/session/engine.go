package session

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	paholog "github.com/eclipse/paho.golang/paho/log"
	pahosession "github.com/eclipse/paho.golang/paho/session"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

const (
	// spareIDs are packet identifiers that publishing leaves for SUBSCRIBE and
	// UNSUBSCRIBE, and how many of these may wait for an answer at a time.
	spareIDs = 32
	// maxReplies is how many PUBREL and PUBCOMP may wait to be written: one for
	// each packet identifier of either side. Only a server that asks for them
	// without end and does not read them needs more.
	maxReplies = 2 * math.MaxUint16
)

// EngineConfig is what an engine needs to know. Zero values are not defaulted
// here: the link does that.
type EngineConfig struct {
	// Window is the most QoS 1 and 2 messages in flight, whatever the server
	// would allow.
	Window int
	// WindowBytes bounds the payload bytes in flight; one message is always
	// allowed.
	WindowBytes int
	// ReceiveMaximum and MaximumPacketSize are what we declared in CONNECT.
	ReceiveMaximum    int
	MaximumPacketSize int
	WriteTimeout      time.Duration
	// Gate holds publishing back on a new session until Open is called, so
	// that subscriptions can be made first.
	Gate bool
	// Source gives the messages to send; nil if there are none.
	Source Source
	// Completed is told of messages that ended, without a lock held, from the
	// reader's, the writer's or paho's goroutine, two at a time at worst. It
	// must not block or keep the slice.
	Completed func([]Completion)
	// Received is handed what the server published, in order, by the reader.
	// While it blocks nothing else is read. It must not keep the slice.
	Received func([]*Delivery)
	// Save makes the packet state of the session's QoS 2 exchanges durable, in
	// place of what was saved before. It is called by a goroutine of its own, one
	// call after another, and may block for as long as the store is away: what
	// depends on it is not written before it returns, while the rest is. After an
	// error nothing is written any more; one that wraps context.Canceled says that it
	// was given up, of a session that is still ours. It must not keep the slice. Nil
	// keeps the state in memory.
	Save func(ctx context.Context, states []persist.PacketState) error
	// Restored is what was saved last, in its order. A message whose exchange is
	// among them goes on where that stands once the source hands it out.
	Restored []Exchange

	firstQuiet time.Duration // firstQuiet if zero; tests have less time
}

// Engine is the session engine: paho's session.SessionManager, and the owner of
// packet identifiers, of the window and of every PUBLISH and acknowledgement.
//
// Locks are taken in the order conn.mu, Engine.mu, the source's own. The reader
// takes Engine.mu only, and goes on while the writer waits for the store.
type Engine struct {
	cfg  EngineConfig
	wake chan struct{} // holds one: there may be something to write

	mu       sync.Mutex // guards all below
	conn     *conn      // nil while there is no connection
	gen      uint64     // counts connections; what was of an older one is stale
	limits   Limits
	present  bool // the server kept the session
	gated    bool // publishing waits for Open
	cause    error
	progress bool // this connection moved at least one message

	flights     flightList
	ids         idTable
	lastID      uint16
	burnt       Outgoing // stands in ids for identifiers that must not be used; see barrier.burnt
	barrier     barrier
	active      int       // flights that were sent on this connection
	pace        int       // the window that the link has earned; see window
	activeBytes int       // their payloads
	resume      *Outgoing // the first flight that was not sent on this connection; nil if none
	replies     []reply   // PUBREL and PUBCOMP in the order in which they are due
	requests    map[uint16]chan<- packets.ControlPacket

	isolating  bool      // suspects are sent one at a time
	condemned  int       // suspects failed in a row, without one that was accepted
	since      time.Time // when the connection began
	controlled uint64    // the connection on which an experiment has begun; see trial

	inbox   inbox
	crowded bool         // the reader waits for room in it
	roomy   time.Time    // when it last got some
	done    []Completion // ended in this read batch
	arrived []*Delivery  // received in this read batch
	stir    bool         // the writer has something to do once the batch ends
	scratch []*Outgoing
	waiters []*waiter
	writing bool   // a buffer was filled and is not written yet
	asked   bool   // a PINGREQ is due; see Link.Ping
	out     []byte // that buffer; the writer's
}

// reply is a PUBREL or PUBCOMP that is due.
type reply struct {
	packetType byte
	packetID   uint16
	code       byte
	needs      uint64 // the save that must be through before it is written
}

var _ pahosession.SessionManager = (*Engine)(nil)

// NewEngine makes an engine; run must be started for it to write anything.
func NewEngine(cfg EngineConfig) *Engine {
	cfg.firstQuiet = cmp.Or(cfg.firstQuiet, firstQuiet)
	e := &Engine{
		cfg: cfg, wake: make(chan struct{}, 1),
		requests: make(map[uint16]chan<- packets.ControlPacket),
		limits:   unlimited(), pace: cfg.Window,
		inbox:   inbox{exactly: make(map[uint16]*Delivery)},
		barrier: barrier{saves: make(chan save, 1)},
	}
	e.restore(cfg.Restored)
	return e
}

// Wake tells the engine that its source may have something. It never blocks.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Open lets publishing begin on the session of a connection that Gate held back;
// a word about an earlier connection does nothing.
func (e *Engine) Open(generation uint64) {
	e.mu.Lock()
	if e.gen == generation {
		e.gated = false
	}
	e.mu.Unlock()
	e.Wake()
}

// ConAckReceived begins a connection. Nothing is sent here: paho calls it
// before its reader runs, and with both sides sending and neither reading it
// would never return. The writer does it, a moment later.
func (e *Engine) ConAckReceived(w io.Writer, connect *packets.Connect, connack *packets.Connack) error {
	c, ok := w.(*conn)
	if !ok {
		return fmt.Errorf("session engine needs a connection of its own, got %T", w)
	}
	if connect.CleanStart && connack.SessionPresent {
		return protocolFault("session present after clean start") // [MQTT-3.2.2-2]
	}
	e.mu.Lock()
	c.begun = true
	e.conn, e.present, e.cause, e.progress = c, connack.SessionPresent, nil, false
	e.since = time.Now()
	e.gen++
	e.gated = e.cfg.Gate && !connack.SessionPresent
	e.limits = limitsOf(connect, connack)
	e.active, e.activeBytes, e.asked = 0, 0, false
	if !connack.SessionPresent {
		e.newSession()
	}
	e.resume = e.flights.head
	e.mu.Unlock()
	e.Wake()
	return nil
}

// ConnectionLost ends a connection. paho calls it first with the server's
// DISCONNECT, if there was one, and once more without; it may do so the other
// way round if the DISCONNECT was read while the connection was being closed.
func (e *Engine) ConnectionLost(dp *packets.Disconnect) error {
	e.mu.Lock()
	if dp != nil {
		// What the server says counts for more than what was seen of it, such
		// as a write that failed because the server had gone.
		e.cause = &DisconnectError{Code: dp.ReasonCode, Reason: reasonOf(dp.Properties)}
	}
	if e.conn == nil {
		e.mu.Unlock()
		return nil
	}
	if e.active > 0 { // what was not sent is not what was too much
		e.pace = max(e.pace/2, 1)
	}
	ended := append(e.done, e.judge(dp)...)
	e.done = nil
	e.conn = nil
	e.gen++
	e.active, e.activeBytes, e.resume = 0, 0, nil
	e.replies = e.replies[:0]
	e.inbox.disconnected()
	waiting := e.requests
	e.requests = make(map[uint16]chan<- packets.ControlPacket)
	e.tellWaiters()
	e.mu.Unlock()

	for _, resp := range waiting {
		resp <- packets.ControlPacket{} // tells paho that no answer comes; the channel has room
	}
	e.complete(ended)
	return nil
}

func reasonOf(p *packets.Properties) string {
	if p == nil {
		return ""
	}
	return p.ReasonString
}

// Ack is paho's way to acknowledge; nothing reaches it.
func (e *Engine) Ack(*packets.Publish) error { return nil }

// Close is part of paho's interface; the link ends the engine.
func (e *Engine) Close() error { return nil }

// SetErrorLogger and SetDebugLogger are part of paho's interface; the link logs.
func (e *Engine) SetErrorLogger(paholog.Logger) {}

// SetDebugLogger is part of paho's interface.
func (e *Engine) SetDebugLogger(paholog.Logger) {}

// noteCause keeps the first reason for which a connection ended.
func (e *Engine) noteCause(c *conn, err error) {
	e.mu.Lock()
	if e.conn == c && e.cause == nil {
		e.cause = err
	}
	e.mu.Unlock()
}

// handle takes a packet that concerns messages. It is false for packets that
// come before CONNACK was accepted: paho refuses those.
func (e *Engine) handle(c *conn, first byte, body []byte) (taken bool, err error) {
	var d *Delivery
	var a ack
	if first>>4 == typePublish {
		d, err = decodePublish(first, body)
	} else {
		a, err = decodeAck(body)
	}
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn != c {
		// Not begun, or ended by paho while this was read: there is no
		// connection on which an answer would mean anything.
		return c.begun, nil
	}
	switch first >> 4 {
	case typePublish:
		err = e.published(d)
	case typePuback:
		err = e.acknowledged(a, 1)
	case typePubrec:
		err = e.recorded(a)
	case typePubcomp:
		err = e.acknowledged(a, 2)
	case typePubrel:
		err = e.released(a)
	}
	return true, err
}

// checkConnack refuses a second CONNACK on one connection [MQTT-3.2.0-2].
func (e *Engine) checkConnack(c *conn) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.begun {
		return protocolFault("a second CONNACK")
	}
	return nil
}

// batchEnd is called by the reader when it has used up what it read, before it
// waits for more: what happened since is passed on in one go.
func (e *Engine) batchEnd() {
	e.mu.Lock()
	done, arrived, stir := e.done, e.arrived, e.stir
	e.done, e.arrived, e.stir = nil, nil, false
	if stir {
		e.tellWaiters()
	}
	e.mu.Unlock()
	if stir {
		e.Wake()
	}
	e.complete(done)
	if len(arrived) > 0 {
		e.cfg.Received(arrived)
	}
	// Give the slices back: the callbacks keep none of them.
	e.mu.Lock()
	if e.done == nil {
		clear(done)
		e.done = done[:0]
	}
	if e.arrived == nil {
		clear(arrived)
		e.arrived = arrived[:0]
	}
	e.mu.Unlock()
}

func (e *Engine) complete(done []Completion) {
	if len(done) > 0 {
		e.cfg.Completed(done)
	}
}

// Snapshot describes the engine at a moment.
type Snapshot struct {
	Connected bool
	// Generation counts connections; it tells one from the next.
	Generation uint64
	Present    bool // the server kept the session
	Limits     Limits
	InFlight   int
	Progress   bool // a message was moved since the connection began
	Cause      error
	// Unacked counts received messages that are not acknowledged yet.
	Unacked int
	// Crowded tells that so many are that nothing more is read: an answer of the
	// server that does not come may be there.
	Crowded bool
}

// Snapshot returns the engine's state.
func (e *Engine) Snapshot() Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	return Snapshot{
		Connected: e.conn != nil, Generation: e.gen, Present: e.present, Limits: e.limits, InFlight: e.flights.len,
		Progress: e.progress, Cause: e.cause, Unacked: e.inbox.unacked(), Crowded: e.crowded,
	}
}

// Withdraw takes back every message that is in flight, in order; their fate is
// unknown. Used once the connection has ended for good.
func (e *Engine) Withdraw() []*Outgoing {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*Outgoing
	for o := e.flights.head; o != nil; {
		next := o.next
		o.prev, o.next, o.listed = nil, nil, false
		if !o.orphan {
			all = append(all, o)
		}
		o = next
	}
	e.flights = flightList{}
	e.ids.clear()
	e.barrier.burnt, e.barrier.reserved, e.barrier.ended = nil, nil, flightList{}
	e.active, e.activeBytes, e.resume = 0, 0, nil
	e.tellWaiters()
	return all
}

// dropStalled ends the connection if the oldest message in flight has waited
// for its acknowledgement for longer than limit: a server that is alive and
// does not answer would hold the window for ever. On the next connection it is
// sent again; on this one it must not be [MQTT-4.4.0-1].
func (e *Engine) dropStalled(now time.Time, limit time.Duration) bool {
	e.mu.Lock()
	c, o := e.conn, e.flights.head
	stalled := c != nil && o != nil && o.gen == e.gen && now.Sub(o.sentAt) > limit &&
		(!e.barrier.saving || now.Sub(e.barrier.began) < slowSave) && now.Sub(e.barrier.passed) > limit &&
		!e.crowded && now.Sub(e.roomy) > limit // else the answer may stand behind what was not read
	if stalled && e.cause == nil {
		e.cause = fmt.Errorf("no acknowledgement within %s", limit)
	}
	e.mu.Unlock()
	if stalled {
		c.hangUp()
	}
	return stalled
}

// classOf is the class of an answer to a PUBLISH.
func classOf(level, code byte) qos.Class {
	if level == 2 {
		return qos.ClassOf(qos.PUBREC, code)
	}
	return qos.ClassOf(qos.PUBACK, code)
}
