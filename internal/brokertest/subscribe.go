package brokertest

import (
	"slices"
	"strings"
)

func (b *Broker) subscribe(l *link, p *Packet) {
	s := l.session
	reply := &Packet{Type: SUBACK, PacketID: p.PacketID}
	identifier, _ := p.Properties.Num(PropSubscriptionIdentifier)
	var replay []func()
	for _, f := range p.Filters {
		group, filter := splitShare(f.Topic)
		code := f.QoS
		if b.options.MaximumQoS != nil {
			code = min(code, *b.options.MaximumQoS)
		}
		switch a, chosen := b.answer(SUBSCRIBE, f.Topic, ""); {
		case chosen:
			code = a.Code
		case !validFilter(f.Topic):
			l.violate("topic filter is not well formed: %q", f.Topic)
			code = 0x8F
		case group != "" && f.NoLocal:
			l.violate("No Local in a shared subscription [MQTT-3.8.3-4]: %q", f.Topic)
			code = 0x82
		}
		reply.Codes = append(reply.Codes, code)
		if code > 2 {
			continue
		}
		_, existed := s.filters[f.Topic]
		sub := subscription{Filter: f, identifier: identifier}
		sub.QoS = code
		s.filters[f.Topic] = sub
		if group == "" && (f.RetainHandling == 0 || f.RetainHandling == 1 && !existed) {
			replay = append(replay, func() { b.replayRetained(s, filter, sub) })
		}
	}
	l.send(reply)
	for _, r := range replay {
		r()
	}
	b.history.count(func(*Stats) {}) // for those who wait for Subscribers
}

func (b *Broker) unsubscribe(l *link, p *Packet) {
	reply := &Packet{Type: UNSUBACK, PacketID: p.PacketID}
	for _, f := range p.Filters {
		code := byte(0)
		if _, ok := l.session.filters[f.Topic]; !ok {
			code = 0x11
		}
		delete(l.session.filters, f.Topic)
		reply.Codes = append(reply.Codes, code)
	}
	l.send(reply)
}

// Subscribers is how many sessions have a subscription to exactly this filter,
// "$share/group/" included.
func (b *Broker) Subscribers(filter string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, s := range b.sessions {
		if _, ok := s.filters[filter]; ok {
			n++
		}
	}
	return n
}

func (b *Broker) replayRetained(s *session, filter string, sub subscription) {
	var topics []string
	for topic := range b.retained {
		if Matches(filter, topic) {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	for _, topic := range topics {
		b.offer(s, forward(b.retained[topic], []subscription{sub}, true), "")
	}
}

// route passes a message of client from to the subscribers, and returns how
// many sessions get it. A session with several matching subscriptions gets one
// copy, with the highest QoS and all the identifiers.
func (b *Broker) route(p *Packet, from string) (reached int) {
	if p.Retain {
		if len(p.Payload) == 0 {
			delete(b.retained, p.Topic)
		} else {
			b.retained[p.Topic] = p
		}
	}
	shares := map[string]bool{}
	for _, s := range b.sessions {
		var matching []subscription
		for _, sub := range s.filters {
			group, filter := splitShare(sub.Topic)
			switch {
			case !Matches(filter, p.Topic) || sub.NoLocal && s.clientID == from:
			case group != "":
				shares[sub.Topic] = true
			default:
				matching = append(matching, sub)
			}
		}
		if len(matching) > 0 {
			b.offer(s, forward(p, matching, false), "")
			reached++
		}
	}
	for share := range shares {
		if b.routeShared(share, *p) {
			reached++
		}
	}
	return reached
}

// routeShared passes a message to one member of a shared subscription, in turn;
// to one that is away only if all are.
func (b *Broker) routeShared(share string, p Packet) bool {
	var online, offline []*session
	for _, s := range b.sessions {
		if _, ok := s.filters[share]; !ok {
			continue
		}
		if s.link != nil {
			online = append(online, s)
		} else {
			offline = append(offline, s)
		}
	}
	members := online
	if len(members) == 0 {
		members = offline
	}
	if len(members) == 0 {
		return false
	}
	slices.SortFunc(members, func(x, y *session) int { return strings.Compare(x.clientID, y.clientID) })
	s := members[b.turns[share]%len(members)]
	b.turns[share]++
	b.offer(s, forward(&p, []subscription{s.filters[share]}, false), share)
	return true
}

// forward makes the packet for a subscriber.
func forward(p *Packet, subs []subscription, retained bool) Packet {
	out := Packet{Type: PUBLISH, Topic: p.Topic, Payload: p.Payload, Retain: retained}
	for _, prop := range p.Properties {
		if prop.ID != PropSubscriptionIdentifier && prop.ID != PropTopicAlias {
			out.Properties = append(out.Properties, prop)
		}
	}
	for _, sub := range subs {
		out.QoS = max(out.QoS, min(p.QoS, sub.QoS))
		out.Retain = out.Retain || sub.RetainAsPublished && p.Retain
		if sub.identifier > 0 {
			out.Properties = append(out.Properties, SubscriptionIdentifier(sub.identifier))
		}
	}
	return out
}
