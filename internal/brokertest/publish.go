package brokertest

// publish processes a PUBLISH of a client and tells whether to go on.
func (b *Broker) publish(l *link, p *Packet) bool {
	if code := b.overLimits(l, p); code != 0 {
		l.end(code)
		return false
	}
	if p.QoS == 0 {
		a, _ := b.answer(PUBLISH, p.Topic, messageKey(p))
		b.arrive(l, p, a.Code, false)
		if a.Code < 0x80 {
			b.route(p, l.clientID)
		}
		return b.mayStay(l, a)
	}
	s := l.session
	x := b.begin(l, p)
	if x.answered {
		// The exchange is known and its PUBREC was on its way: again.
		b.arrive(l, p, x.code, true)
		b.answerPublish(l, p, x)
		return true
	}
	a, chosen := b.answer(PUBLISH, p.Topic, messageKey(p))
	x.code = a.Code
	if a.Disconnect {
		b.arrive(l, p, a.Code, false)
		return b.mayStay(l, a)
	}
	if x.code < 0x80 {
		if reached := b.route(p, s.clientID); reached == 0 && b.options.TellNoSubscribers && !chosen {
			x.code = 0x10
		}
	}
	b.arrive(l, p, x.code, false)
	b.answerPublish(l, p, x)
	return true
}

// mayStay carries out Answer.Disconnect.
func (b *Broker) mayStay(l *link, a Answer) bool {
	if a.Disconnect {
		l.end(a.Code)
	}
	return !a.Disconnect
}

func (b *Broker) arrive(l *link, p *Packet, code byte, repeat bool) {
	b.history.arrive(Arrival{
		Conn: l.index, ClientID: l.clientID, Packet: p, MessageID: p.MessageID(), Code: code, Repeat: repeat,
	})
}

// answerPublish acknowledges a PUBLISH.
func (b *Broker) answerPublish(l *link, p *Packet, x *exchange) {
	reply := &Packet{Type: PUBACK, PacketID: p.PacketID, Code: x.code}
	settles := x
	if p.QoS == 2 {
		reply.Type = PUBREC
		if x.code < 0x80 {
			x.answered = true
			settles = nil
			l.pubrel = append(l.pubrel, p.PacketID)
		}
	}
	l.acknowledge(reply, settles)
}

// overLimits returns the reason code for a PUBLISH that breaks a limit which
// the CONNACK announced.
func (b *Broker) overLimits(l *link, p *Packet) byte {
	o := &b.options
	switch {
	case o.MaximumQoS != nil && p.QoS > *o.MaximumQoS:
		l.violate("QoS over the Maximum QoS of %d [MQTT-3.2.2-11]: %s", *o.MaximumQoS, p)
		return 0x9B
	case o.RetainUnavailable && p.Retain:
		l.violate("RETAIN, which is not available [MQTT-3.2.2-14]: %s", p)
		return 0x9A
	}
	if _, ok := p.Properties.Num(PropTopicAlias); ok {
		l.violate("topic alias over the Topic Alias Maximum of 0 [MQTT-3.2.2-17]: %s", p)
		return 0x94
	}
	if len(p.Properties.SubscriptionIdentifiers()) > 0 {
		l.violate("subscription identifier from a client [MQTT-3.3.4-6]: %s", p)
		return 0x82
	}
	limit := int(o.ReceiveMaximum)
	if limit == 0 {
		limit = 0xFFFF
	}
	l.mu.Lock()
	_, again := l.inFlight[p.PacketID]
	count := len(l.inFlight)
	l.mu.Unlock()
	if p.QoS > 0 && !again && count >= limit {
		l.violate("Receive Maximum of %d exceeded [MQTT-3.3.4-9]: %s", limit, p)
		return 0x93
	}
	return 0
}

// begin finds or makes the exchange that a PUBLISH belongs to, and records
// what the client may not do with its packet identifier.
func (b *Broker) begin(l *link, p *Packet) *exchange {
	s := l.session
	old := s.exchanges[p.PacketID]
	l.mu.Lock()
	_, live := l.inFlight[p.PacketID]
	l.mu.Unlock()
	same := old != nil && old.qos == p.QoS && old.print == fingerprint(p)
	open := old != nil && !old.settled.Load()
	switch {
	case live && same && old.qos == 2 && old.answered:
		l.violate("PUBLISH after PUBREC of the same exchange [MQTT-4.3.3-6]: %s", p)
	case live && same:
		l.violate("PUBLISH repeated on a live connection [MQTT-4.4.0-1]: %s", p)
	case live:
		l.violate("packet identifier is in use [MQTT-2.2.1-4]: %s", p)
	case p.DUP && !l.resumed:
		l.violate("DUP in a new session [MQTT-3.3.1-1]: %s", p)
	case same && old.qos == 2 && old.released && (open || p.DUP):
		// Its PUBREL shows that the client had the PUBREC.
		l.violate("PUBLISH after PUBREC of the same exchange [MQTT-4.3.3-6]: %s", p)
	case open && same && !p.DUP:
		l.violate("PUBLISH repeated without DUP [MQTT-3.3.1-1]: %s", p)
	case open && !same:
		l.violate("packet identifier is in use [MQTT-2.2.1-4]: %s", p)
	case same && p.DUP:
		if old.place < l.resent {
			l.violate("PUBLISH repeated out of the original order [MQTT-4.6.0-1]: %s", p)
		}
		l.resent = old.place
	}
	x := old
	if x == nil || !same || !open {
		x = &exchange{qos: p.QoS, print: fingerprint(p)}
		if same && p.DUP {
			x.place = old.place
		} else {
			s.begun++
			x.place = s.begun
		}
		s.exchanges[p.PacketID] = x
	}
	x.conn = l.index
	l.mu.Lock()
	l.inFlight[p.PacketID] = x
	l.mu.Unlock()
	return x
}

// release processes a PUBREL of a client.
func (b *Broker) release(l *link, p *Packet) {
	x := l.session.exchanges[p.PacketID]
	known := x != nil && x.qos == 2 && x.answered && !x.settled.Load()
	if len(l.pubrel) > 0 && l.pubrel[0] == p.PacketID {
		l.pubrel = l.pubrel[1:]
	} else if known && x.conn == l.index && !x.released {
		l.inOrder(&l.pubrel, p, "[MQTT-4.6.0-4]")
	}
	reply := &Packet{Type: PUBCOMP, PacketID: p.PacketID}
	if !known {
		if !l.resumed {
			l.violate("PUBREL without an exchange: %s", p)
		}
		reply.Code = 0x92
		x = nil
	} else {
		x.released = true
	}
	l.acknowledge(reply, x)
}

// fingerprint tells two messages apart.
func fingerprint(p *Packet) string {
	return p.Topic + "\x00" + messageKey(p)
}

// messageKey is the message ID, or the payload where there is none.
func messageKey(p *Packet) string {
	if id := p.MessageID(); id != "" {
		return id
	}
	return string(p.Payload)
}
