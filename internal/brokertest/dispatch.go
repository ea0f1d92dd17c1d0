package brokertest

import (
	"fmt"
	"time"
)

// connect processes the first packet of a connection and tells whether to go
// on.
func (b *Broker) connect(l *link, p *Packet) bool {
	if p.Type != CONNECT {
		l.violate("first packet is not CONNECT [MQTT-3.1.0-1]: %s", p)
		l.reset()
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	c := p.Connect
	l.clientID = c.ClientID
	if code := b.refuse(c); code != 0 {
		l.send(&Packet{Type: CONNACK, Code: code})
		l.finish()
		return false
	}
	reply := &Packet{Type: CONNACK, Properties: b.limitProperties()}
	if l.clientID == "" {
		l.clientID = fmt.Sprintf("assigned-%d", l.index)
		reply.Properties = append(reply.Properties, AssignedClientIdentifier(l.clientID))
	}
	s := b.sessions[l.clientID]
	if s != nil && s.link != nil {
		b.history.count(func(st *Stats) { st.Takeovers++ })
		old := s.link
		b.leave(old)
		old.end(0x8E)
		s = b.sessions[l.clientID]
	}
	if s != nil && (c.CleanStart || s.expired()) {
		b.drop(s)
		s = nil
	}
	if l.resumed = s != nil; !l.resumed {
		s = newSession(l.clientID)
		b.sessions[l.clientID] = s
	}
	reply.SessionPresent = l.resumed
	s.link, l.session, s.will = l, s, c.Will
	s.limits = limits{receiveMaximum: 0xFFFF}
	if n, ok := p.Properties.Num(PropReceiveMaximum); ok {
		s.limits.receiveMaximum = int(n)
	}
	if n, ok := p.Properties.Num(PropMaximumPacketSize); ok {
		s.limits.maximumPacketSize = int(n)
	}
	s.expiry, _ = p.Properties.Num(PropSessionExpiryInterval)
	l.keepAlive = time.Duration(c.KeepAlive) * time.Second
	if b.options.ServerKeepAlive > 0 {
		l.keepAlive = time.Duration(b.options.ServerKeepAlive) * time.Second
	}
	l.connected.Store(true)
	l.send(reply)
	s.resume()
	b.pump(s)
	b.history.count(func(*Stats) {}) // for those who wait for Connected
	return true
}

// refuse returns the reason code with which a CONNECT is refused, or 0.
func (b *Broker) refuse(c *Connect) byte {
	if b.refusals < len(b.options.ConnackCodes) {
		b.refusals++
		return b.options.ConnackCodes[b.refusals-1]
	}
	if b.options.Credentials == nil {
		return 0
	}
	if c.Username != nil && c.Password != nil {
		if password, ok := b.options.Credentials[*c.Username]; ok && password == *c.Password {
			return 0
		}
	}
	return 0x86
}

func (b *Broker) limitProperties() Properties {
	o := &b.options
	var ps Properties
	if o.ReceiveMaximum > 0 {
		ps = append(ps, ReceiveMaximum(o.ReceiveMaximum))
	}
	if o.MaximumQoS != nil {
		ps = append(ps, MaximumQoS(*o.MaximumQoS))
	}
	if o.RetainUnavailable {
		ps = append(ps, RetainAvailable(false))
	}
	if o.MaximumPacketSize > 0 {
		ps = append(ps, MaximumPacketSize(o.MaximumPacketSize))
	}
	if o.ServerKeepAlive > 0 {
		ps = append(ps, ServerKeepAlive(o.ServerKeepAlive))
	}
	return ps
}

// dispatch processes a packet of a connected client and tells whether to go on.
func (b *Broker) dispatch(l *link, p *Packet) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := l.session
	if s == nil || s.link != l {
		return false // taken over
	}
	if limit := b.options.MaximumPacketSize; limit > 0 && len(p.Raw) > int(limit) {
		l.violate("packet of %d bytes over the Maximum Packet Size of %d [MQTT-3.2.2-15]: %s", len(p.Raw), limit, p)
		l.end(0x95)
		return false
	}
	switch p.Type {
	case PUBLISH:
		return b.publish(l, p)
	case PUBREL:
		b.release(l, p)
	case PUBACK, PUBREC, PUBCOMP:
		b.acked(l, p)
	case SUBSCRIBE:
		b.subscribe(l, p)
	case UNSUBSCRIBE:
		b.unsubscribe(l, p)
	case PINGREQ:
		l.send(&Packet{Type: PINGRESP})
	case DISCONNECT:
		if n, ok := p.Properties.Num(PropSessionExpiryInterval); ok {
			s.expiry = n
		}
		if p.Code == 0 {
			s.will = nil
		}
		b.leave(l)
		l.finish()
		return false
	default:
		l.violate("a client may not send this here: %s", p)
		l.end(0x82)
		return false
	}
	return true
}

// gone ends a connection that was closed.
func (b *Broker) gone(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.links, l)
	b.leave(l)
}

// leave takes a connection from its session, publishes the will, and drops the
// session if it is not to be kept. A second call does nothing.
func (b *Broker) leave(l *link) {
	s := l.session
	if s == nil || s.link != l {
		return
	}
	s.detach()
	if w := s.will; w != nil {
		s.will = nil
		b.route(&Packet{
			Type: PUBLISH, Topic: w.Topic, Payload: w.Payload, QoS: w.QoS, Retain: w.Retain, Properties: w.Properties,
		}, s.clientID)
	}
	if s.expiry == 0 || b.options.ForgetSessions {
		b.drop(s)
	}
	b.history.count(func(*Stats) {})
}

// drop ends a session. What it had of shared subscriptions goes to the other
// members, except for QoS 2 messages in flight, which die with it
// [MQTT-4.8.2-5].
func (b *Broker) drop(s *session) {
	delete(b.sessions, s.clientID)
	s.resume()
	for _, d := range s.backlog {
		if d.share == "" || (d.sent && d.packet.QoS == 2) {
			continue
		}
		p := d.packet
		p.PacketID, p.DUP = 0, false
		b.routeShared(d.share, p)
	}
}
