package history

import (
	"fmt"
	"sync"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// Wire holds what passes a proxy between clients and a broker against what MQTT 5
// demands of the clients [I7]. It knows only what it sees: a packet that the
// server sent may be lost behind it, so that a client is held to have read one
// only if what it sends shows that.
//
//   - No PUBLISH for an exchange whose PUBREL was sent, as long as the server keeps
//     the session [MQTT-4.3.3-7].
//   - No PUBREL in answer to a PUBREC that refuses.
//   - No PUBLISH twice on one connection under one identifier [MQTT-4.4.0-1].
//   - No more exchanges on a connection than the server's Receive Maximum
//     [MQTT-3.3.4-7].
//   - PUBACK in the order in which PUBLISH came [MQTT-4.6.0-2], PUBREC likewise
//     but for what was sent again.
//
// Its methods are safe for concurrent use.
type Wire struct {
	report func(violation string)

	mu       sync.Mutex // guards the following
	links    map[int]*wireLink
	sessions map[string]map[uint16]exchange
	messages Set // that clients have sent
	repeated int
	sent     int
}

// wireLink is one connection.
type wireLink struct {
	client  string
	quota   int
	open    map[uint16]bool // exchanges that the client began here
	refused map[uint16]bool // of them, those that PUBREC refused
	due     []uint16        // PUBLISH of the server that is not acknowledged
	again   map[uint16]bool // of them, those with DUP
}

// exchange is a QoS 2 exchange of a session, from its PUBLISH to its PUBCOMP.
type exchange struct {
	message  string
	released bool // PUBREL was sent: the client has read PUBREC
}

// NewWire makes a Wire that reports each violation in a sentence.
func NewWire(report func(violation string)) *Wire {
	return &Wire{report: report, links: make(map[int]*wireLink), sessions: make(map[string]map[uint16]exchange)}
}

// Counts are how many PUBLISH packets of values clients sent, and how
// many of these repeated one that had passed.
func (w *Wire) Counts() (sent, repeated int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent, w.repeated
}

// ToServer takes a packet of the client of a connection.
func (w *Wire) ToServer(conn int, p *brokertest.Packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.Type == brokertest.CONNECT {
		w.links[conn] = &wireLink{
			client: p.Connect.ClientID, quota: 65535,
			open: make(map[uint16]bool), refused: make(map[uint16]bool), again: make(map[uint16]bool),
		}
		return
	}
	l := w.links[conn]
	if l == nil {
		return
	}
	session := w.sessions[l.client]
	switch p.Type {
	case brokertest.PUBLISH:
		w.published(conn, l, session, p)
	case brokertest.PUBREL:
		if l.refused[p.PacketID] && p.Code != 0x92 {
			w.violated(conn, l, "PUBREL %d in answer to a PUBREC that refused", p.PacketID)
		}
		if x, ok := session[p.PacketID]; ok {
			x.released = true
			session[p.PacketID] = x
		}
	case brokertest.PUBACK, brokertest.PUBREC:
		w.acknowledged(conn, l, p)
	default:
	}
}

func (w *Wire) published(conn int, l *wireLink, session map[uint16]exchange, p *brokertest.Packet) {
	id := p.MessageID()
	if v, err := ParseID(id); err == nil {
		w.sent++
		if w.messages.Add(v) {
			w.repeated++
		}
	}
	if p.QoS == 0 {
		return
	}
	if x, ok := session[p.PacketID]; ok && x.released && x.message == id {
		w.violated(conn, l, "PUBLISH %d of %q after its PUBREL", p.PacketID, id)
	}
	if l.open[p.PacketID] {
		w.violated(conn, l, "PUBLISH %d of %q although its identifier is in use on this connection", p.PacketID, id)
	}
	l.open[p.PacketID] = true
	delete(l.refused, p.PacketID)
	if len(l.open) > l.quota {
		w.violated(conn, l, "%d exchanges are open, and the Receive Maximum is %d", len(l.open), l.quota)
	}
	if p.QoS == 2 && session != nil {
		session[p.PacketID] = exchange{message: id}
	}
}

func (w *Wire) acknowledged(conn int, l *wireLink, p *brokertest.Packet) {
	for i, id := range l.due {
		if id != p.PacketID {
			continue
		}
		if i > 0 && !l.again[id] && !l.again[l.due[0]] {
			w.violated(conn, l, "%s %d before that of %d, which came first", p.Type, id, l.due[0])
		}
		l.due = append(l.due[:i], l.due[i+1:]...)
		delete(l.again, id)
		return
	}
}

// ToClient takes a packet of the server.
func (w *Wire) ToClient(conn int, p *brokertest.Packet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.links[conn]
	if l == nil {
		return
	}
	switch p.Type {
	case brokertest.CONNACK:
		if p.Code >= 0x80 {
			return
		}
		if n, ok := receiveMaximum(p); ok {
			l.quota = n
		}
		if !p.SessionPresent || w.sessions[l.client] == nil {
			w.sessions[l.client] = make(map[uint16]exchange)
		}
	case brokertest.PUBACK, brokertest.PUBCOMP:
		delete(l.open, p.PacketID)
		delete(w.sessions[l.client], p.PacketID)
	case brokertest.PUBREC:
		if p.Code >= 0x80 {
			delete(l.open, p.PacketID)
			delete(w.sessions[l.client], p.PacketID)
			l.refused[p.PacketID] = true
		}
	case brokertest.PUBLISH:
		if p.QoS > 0 {
			l.due = append(l.due, p.PacketID)
			l.again[p.PacketID] = p.DUP && p.QoS == 2
		}
	default:
	}
}

// Gone says that a connection has ended.
func (w *Wire) Gone(conn int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.links, conn)
}

func (w *Wire) violated(conn int, l *wireLink, format string, args ...any) {
	w.report(fmt.Sprintf("connection %d, client %q: ", conn, l.client) + fmt.Sprintf(format, args...))
}

func receiveMaximum(p *brokertest.Packet) (int, bool) {
	n, ok := p.Properties.Num(brokertest.PropReceiveMaximum)
	return int(n), ok
}
