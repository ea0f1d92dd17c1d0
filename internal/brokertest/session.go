package brokertest

import (
	"slices"
	"sync/atomic"
	"time"
)

// session is what a broker keeps of a client. Broker.mu guards it.
type session struct {
	clientID string
	link     *link // nil while the client is away
	expiry   uint32
	left     time.Time
	will     *Will
	filters  map[string]subscription

	// exchanges are the last ones that the client began under each packet
	// identifier, the settled ones too.
	exchanges map[uint16]*exchange
	begun     int

	// What goes to the client: backlog waits, inFlight was sent and is not
	// acknowledged, window is how many of those were sent on this connection.
	limits   limits
	backlog  []*delivery
	inFlight map[uint16]*delivery
	window   int
	lastID   uint16
	sequence int
}

// limits are what the client asked for in its CONNECT.
type limits struct {
	receiveMaximum    int
	maximumPacketSize int // 0: none
}

type subscription struct {
	Filter
	identifier uint32 // 0: none
}

// exchange is a QoS 1 or 2 message that the client sends.
type exchange struct {
	qos      byte
	conn     int
	place    int // among the exchanges of the session
	print    string
	code     byte
	answered bool // PUBREC is queued
	released bool // PUBREL came
	settled  atomic.Bool
}

// delivery is a message on its way to a subscriber.
type delivery struct {
	packet   Packet
	sequence int // place in the order of first sending; 0 until then
	sent     bool
	released bool   // PUBREC came: PUBREL is to be sent
	share    string // key of the shared subscription, or ""
}

func newSession(clientID string) *session {
	return &session{
		clientID:  clientID,
		filters:   map[string]subscription{},
		exchanges: map[uint16]*exchange{},
		inFlight:  map[uint16]*delivery{},
	}
}

// resume puts what is in flight before the backlog, to be sent again in its
// order.
func (s *session) resume() {
	again := make([]*delivery, 0, len(s.inFlight))
	for _, d := range s.inFlight {
		again = append(again, d)
	}
	slices.SortFunc(again, func(a, b *delivery) int { return a.sequence - b.sequence })
	s.backlog = append(again, s.backlog...)
	s.window = 0
}

// detach ends the connection of a session. What is to be re-sent and was not
// leaves the backlog, since it is in inFlight still.
func (s *session) detach() {
	s.link = nil
	s.left = time.Now()
	s.backlog = slices.DeleteFunc(s.backlog, func(d *delivery) bool { return d.sequence > 0 || d.packet.QoS == 0 })
}

// expired tells whether the session may no longer be resumed.
func (s *session) expired() bool {
	const never = 0xFFFFFFFF
	return s.link == nil && s.expiry != never && time.Since(s.left) >= time.Duration(s.expiry)*time.Second
}

// identifier finds a packet identifier that is free; 0 if there is none.
func (s *session) identifier() uint16 {
	for range 0xFFFF {
		if s.lastID++; s.lastID == 0 {
			s.lastID = 1
		}
		if _, used := s.inFlight[s.lastID]; !used {
			return s.lastID
		}
	}
	return 0
}

// offer queues a message for a session and sends what the window has room for.
func (b *Broker) offer(s *session, p Packet, share string) {
	if s.link == nil && p.QoS == 0 {
		b.history.count(func(st *Stats) { st.Discarded++ })
		return
	}
	s.backlog = append(s.backlog, &delivery{packet: p, share: share})
	b.pump(s)
}

// pump sends from the backlog as long as the client's Receive Maximum lets it.
func (b *Broker) pump(s *session) {
	for s.link != nil && len(s.backlog) > 0 {
		d := s.backlog[0]
		switch {
		case d.released:
			s.window++
			s.link.send(&Packet{Type: PUBREL, PacketID: d.packet.PacketID})
		case !b.transmit(s, d):
			return
		}
		s.backlog = s.backlog[1:]
	}
}

// transmit sends a PUBLISH, or returns false if the window is full.
func (b *Broker) transmit(s *session, d *delivery) bool {
	l := s.link
	if d.packet.QoS > 0 {
		if s.window >= s.limits.receiveMaximum {
			return false // [MQTT-4.9.0-1]
		}
		if d.sequence == 0 {
			if d.packet.PacketID = s.identifier(); d.packet.PacketID == 0 {
				return false
			}
			s.sequence++
			d.sequence = s.sequence
			s.inFlight[d.packet.PacketID] = d
		}
	}
	d.packet.DUP = d.sent
	out := d.packet
	if s.limits.maximumPacketSize > 0 && len(out.Encode()) > s.limits.maximumPacketSize {
		// [MQTT-3.1.2-25]: treated as if it had been sent.
		delete(s.inFlight, out.PacketID)
		b.history.count(func(st *Stats) { st.Discarded++ })
		return true
	}
	switch out.QoS {
	case 1:
		l.puback = append(l.puback, out.PacketID)
		s.window++
	case 2:
		l.pubrec = append(l.pubrec, out.PacketID)
		s.window++
	}
	d.sent = true
	l.send(&out)
	b.history.count(func(st *Stats) {
		st.Deliveries++
		if out.DUP {
			st.Redeliveries++
		}
	})
	return true
}

// acked processes a PUBACK, PUBREC or PUBCOMP of a subscriber.
func (b *Broker) acked(l *link, p *Packet) {
	s := l.session
	d := s.inFlight[p.PacketID]
	if p.Code >= 0x80 && p.Type != PUBCOMP {
		b.history.count(func(st *Stats) { st.Refusals++ })
	}
	switch p.Type {
	case PUBACK:
		l.inOrder(&l.puback, p, "[MQTT-4.6.0-2]")
		if d == nil || d.packet.QoS != 1 {
			return
		}
	case PUBREC:
		l.inOrder(&l.pubrec, p, "[MQTT-4.6.0-3]")
		if d == nil || d.packet.QoS != 2 {
			l.send(&Packet{Type: PUBREL, PacketID: p.PacketID, Code: 0x92})
			return
		}
		if p.Code < 0x80 {
			d.released = true
			l.send(&Packet{Type: PUBREL, PacketID: p.PacketID})
			return
		}
	case PUBCOMP:
		if d == nil || !d.released {
			l.violate("PUBCOMP without a PUBREL: %s", p)
			return
		}
	default:
		return
	}
	delete(s.inFlight, p.PacketID)
	s.window = max(0, s.window-1)
	b.pump(s)
}

// inOrder holds an acknowledgement against the order in which it is owed.
func (l *link) inOrder(owed *[]uint16, p *Packet, rule string) {
	i := slices.Index(*owed, p.PacketID)
	switch {
	case i < 0:
		l.violate("acknowledgement of nothing that was sent on this connection: %s", p)
		return
	case i > 0:
		l.violate("acknowledgement out of order, %d is first %s: %s", (*owed)[0], rule, p)
	}
	*owed = slices.Delete(*owed, i, i+1)
}
