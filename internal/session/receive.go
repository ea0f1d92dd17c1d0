package session

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Delivery is one PUBLISH that the server sent. It is acknowledged once, with
// Ack, when its effect is durable.
type Delivery struct {
	Message persist.Message
	// Dup is the DUP flag: the server may have sent it before.
	Dup bool
	// SubscriptionIDs are those of all subscriptions that matched.
	SubscriptionIDs []uint32

	engine   *Engine
	packetID uint16
	gen      uint64 // the connection on which an acknowledgement has a meaning
	acked    bool
	released bool // its owner gave it back; the next PUBLISH of it is new to him
	recorded bool // PUBREC was written; PUBREL is awaited
	code     byte
}

// PacketID is the packet identifier on the connection that brought the message;
// zero at QoS 0.
func (d *Delivery) PacketID() uint16 { return d.packetID }

// inbox is the received messages whose exchange has not ended.
type inbox struct {
	// order holds what is not acknowledged on this connection, from head on,
	// in the order of arrival, which is the order of acknowledging
	// [MQTT-4.6.0-2], [MQTT-4.6.0-3].
	order []*Delivery
	head  int
	bytes int // of the payloads in order
	// exactly holds the QoS 2 messages until their PUBREL, across connections
	// of one session.
	exactly map[uint16]*Delivery
}

func (in *inbox) unacked() int { return len(in.order) - in.head }

// due tells whether an acknowledgement may be written now.
func (in *inbox) due() bool { return in.head < len(in.order) && in.order[in.head].acked }

func (in *inbox) add(d *Delivery) {
	if in.head > 0 && len(in.order) == cap(in.order) {
		n := copy(in.order, in.order[in.head:])
		clear(in.order[n:])
		in.order, in.head = in.order[:n], 0
	}
	in.order = append(in.order, d)
	in.bytes += len(d.Message.Payload)
}

const (
	// excessMessages and excessBytes are how much more than the Receive
	// Maximum is taken in from a server that does not heed it.
	excessMessages = 1024
	excessBytes    = 4 << 20
)

// room tells whether another message may be taken in.
func (in *inbox) room(receiveMaximum int) bool {
	n := in.unacked()
	return n < receiveMaximum || (n < receiveMaximum+excessMessages && in.bytes < excessBytes)
}

// appendAcks writes the acknowledgements that are due.
func (in *inbox) appendAcks(out []byte) []byte {
	for in.due() {
		d := in.order[in.head]
		in.order[in.head] = nil
		in.head++
		in.bytes -= len(d.Message.Payload)
		if d.Message.QoS == 1 {
			out = appendAck(out, typePuback, d.packetID, d.code)
			continue
		}
		out = appendAck(out, typePubrec, d.packetID, d.code)
		if d.code >= 0x80 {
			delete(in.exactly, d.packetID) // the exchange ends [MQTT-4.3.3-8]
		} else {
			d.recorded = true
		}
	}
	if in.head == len(in.order) {
		in.order, in.head = in.order[:0], 0
	}
	return out
}

// disconnected forgets what a next connection cannot acknowledge. The QoS 2
// exchanges go on there, if the server kept the session.
func (in *inbox) disconnected() {
	clear(in.order)
	in.order, in.head, in.bytes = in.order[:0], 0, 0
}

// forget drops all exchanges: the session is a new one.
func (in *inbox) forget() {
	in.disconnected()
	clear(in.exactly)
}

// published takes a PUBLISH in. e.mu is held.
func (e *Engine) published(d *Delivery) error {
	e.progress = true
	d.engine, d.gen = e, e.gen
	if d.Message.QoS == 0 {
		d.acked = true
		e.arrived = append(e.arrived, d)
		return nil
	}
	if d.Message.QoS == 2 {
		if known := e.inbox.exactly[d.packetID]; known != nil {
			return e.again(known)
		}
	}
	if d.Message.QoS == 2 {
		e.inbox.exactly[d.packetID] = d
	}
	e.inbox.add(d)
	e.arrived = append(e.arrived, d)
	return nil
}

// awaitRoom is called by the reader before it takes in a PUBLISH of QoS 1 or 2.
// A server must not have more of them unacknowledged than our Receive Maximum
// [MQTT-3.3.4-9], and mosquitto 2.0 does: on a session that was resumed with a queue
// it sends as many as that again for each acknowledgement. Ending the connection with
// 0x93, as section 3.3.4 has it, would bring the same messages and the same end again,
// and with handlers slower than that no acknowledgement would ever be of use; so some
// more are taken in, and then the reader waits until there is room, however long that
// takes, which bounds our memory and is felt by the server as a slow reader. It is no
// longer than a server that heeds the maximum would wait with its next message.
// Whoever waits for an answer meanwhile does not know whether it stands behind what
// is not read, see Snapshot.Crowded. That the server has gone shows when something is
// written: acknowledgements, and PINGREQ.
func (e *Engine) awaitRoom(c *conn) {
	e.mu.Lock()
	full := e.conn == c && !e.inbox.room(e.cfg.ReceiveMaximum)
	e.crowded = full
	e.mu.Unlock()
	if !full {
		return
	}
	e.batchEnd() // what has arrived is what makes room
	_ = e.wait(context.Background(), func() bool {
		return e.conn != c || c.leaving.Load() || e.inbox.room(e.cfg.ReceiveMaximum)
	})
	e.mu.Lock()
	e.crowded, e.roomy = false, time.Now()
	e.mu.Unlock()
}

// again handles a QoS 2 PUBLISH whose exchange is under way: it is the same
// message until PUBREL [MQTT-4.3.3-10], so nobody is handed it twice.
func (e *Engine) again(known *Delivery) error {
	switch {
	case known.recorded:
		return e.reply(reply{packetType: typePubrec, packetID: known.packetID, code: known.code})
	case known.gen != e.gen:
		// Still in work since an earlier connection: it takes its place in
		// this one's order.
		known.gen = e.gen
		e.inbox.add(known)
		e.stir = e.stir || known.acked
		if known.released && !known.acked {
			known.released = false
			e.arrived = append(e.arrived, known)
		}
	}
	return nil
}

// released handles PUBREL. e.mu is held.
func (e *Engine) released(a ack) error {
	code := byte(0)
	if d := e.inbox.exactly[a.packetID]; d == nil {
		code = 0x92 // packet identifier not found, section 3.7.2.1
	} else {
		delete(e.inbox.exactly, a.packetID)
	}
	return e.reply(reply{packetType: typePubcomp, packetID: a.packetID, code: code})
}

// Ack acknowledges the message with a reason code of PUBACK or PUBREC. It may
// be called from any goroutine, at any time, and only the first call counts.
// The acknowledgement leaves when all messages that came before it are
// acknowledged too. If the connection that brought the message has ended it is
// dropped: the packet identifier means nothing on the next one, and the server
// sends the message again.
func (d *Delivery) Ack(code byte) {
	e := d.engine
	e.mu.Lock()
	if d.acked {
		e.mu.Unlock()
		return
	}
	d.acked, d.code = true, code
	due := e.conn != nil && e.inbox.due()
	e.mu.Unlock()
	if due {
		e.Wake()
	}
}

// Stale tells that the connection that brought the message has ended, and that
// an acknowledgement can no longer reach the server: it will send the message
// again. A QoS 2 message is not stale while its session lives.
func (d *Delivery) Stale() bool {
	e := d.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	switch d.Message.QoS {
	case 1:
		return d.gen != e.gen
	case 2:
		return e.inbox.exactly[d.packetID] != d
	}
	return false
}

// Release gives the message back un-acknowledged: the server sends it again on
// the next connection, and it is handed out again then. At QoS 1 that is so
// anyway; at QoS 2 the exchange lives on, and would count as being in work.
func (d *Delivery) Release() {
	e := d.engine
	e.mu.Lock()
	d.released = true
	e.mu.Unlock()
}
