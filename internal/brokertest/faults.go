package brokertest

// drawDrop says after how many packets a new connection is reset; 0 is never.
// b.mu is held.
func (b *Broker) drawDrop() int {
	r := b.options.DropEvery
	if r == (Range{}) {
		return 0
	}
	return r.Min + b.rng.IntN(r.Max-r.Min+1)
}

// mayDrop counts a drop, unless DropLimit is reached.
func (b *Broker) mayDrop() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.options.DropLimit > 0 && b.dropped >= b.options.DropLimit {
		return false
	}
	b.dropped++
	return true
}

// faultIn decides about a packet that came after the CONNECT.
func (b *Broker) faultIn(l *link, p *Packet) Action {
	l.packets++
	if l.packets == l.dropAt && b.mayDrop() {
		b.history.count(func(s *Stats) { s.Drops++ })
		return Cut
	}
	if p.Type == PUBREL && int(b.pubrels.Add(1)) == b.options.CutAfterPubrel {
		return CutAfter
	}
	if b.options.Intercept != nil {
		return b.options.Intercept(l.clientID, In, p)
	}
	return Pass
}

// faultOut decides about a packet that is about to be written.
func (b *Broker) faultOut(l *link, p *Packet) Action {
	switch {
	case p.Type == PUBACK && int(b.pubacks.Add(1)) == b.options.LosePuback:
		return Cut
	case p.Type == PUBREC && int(b.pubrecs.Add(1)) == b.options.CutAfterPubrec:
		return CutAfter
	case b.options.Intercept != nil && l.connected.Load():
		return b.options.Intercept(l.clientID, Out, p)
	}
	return Pass
}

// answerKey is what Answer.Times is counted for.
type answerKey struct {
	answer  int
	message string
}

// answer finds the answer that was chosen for a message or, with on SUBSCRIBE,
// a filter. b.mu is held.
func (b *Broker) answer(on Type, topic, message string) (Answer, bool) {
	for i, a := range b.options.Answers {
		switch {
		case on == SUBSCRIBE && (a.On != SUBSCRIBE || a.Topic != topic):
			continue
		case on == PUBLISH && (a.On == SUBSCRIBE || !Matches(a.Topic, topic)):
			continue
		}
		key := answerKey{answer: i}
		if a.PerMessage {
			key.message = message
		}
		if a.Times > 0 && b.answered[key] >= a.Times {
			continue
		}
		b.answered[key]++
		return a, true
	}
	return Answer{}, false
}
