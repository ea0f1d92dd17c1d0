package fault

import (
	"slices"
	"sync"
)

// MQTT is a [Proxy] in front of an MQTT 5 broker: it can also lose the packet of
// one's choice, have the broker forget sessions, and play a [Scenario]. Its methods
// are safe for concurrent use.
type MQTT struct {
	*Proxy
	look look
}

// NewMQTT is [New] for an MQTT broker. Clients connect to the proxy without TLS and
// WebSocket; see [Proxy.UseTLS] and [Proxy.UseDial] for a broker that wants
// them.
func NewMQTT(broker string) (*MQTT, error) {
	p, err := New(broker)
	if err != nil {
		return nil, err
	}
	m := &MQTT{Proxy: p}
	p.Inspect(&m.look)
	return m, nil
}

// StartMQTT is [NewMQTT] for a test, which closes the proxy at its end.
func StartMQTT(tb TB, broker string) *MQTT {
	tb.Helper()
	m, err := NewMQTT(broker)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.Close)
	return m
}

// Inspect has packets looked at by i as well; nil ends it. It is shown what clients
// send before a trap gets it, and what is sent to them after, so that what a trap
// keeps from a client is not shown.
func (m *MQTT) Inspect(i Inspector) {
	m.look.mu.Lock()
	defer m.look.mu.Unlock()
	m.look.also = i
}

// SetTrap sets a trap in place of the one before. The channel is closed when it has
// sprung, and never if another one takes its place.
func (m *MQTT) SetTrap(t Trap) (sprung <-chan struct{}) {
	m.look.mu.Lock()
	defer m.look.mu.Unlock()
	set := make(chan struct{})
	m.look.trap, m.look.sprung = &t, set
	return set
}

// ClearTrap takes the trap away, if there is one that has not sprung.
func (m *MQTT) ClearTrap() {
	m.look.mu.Lock()
	defer m.look.mu.Unlock()
	m.look.trap = nil
}

// Clients are the Client Identifiers of those that have connected so far, but for
// those that left theirs to the broker.
func (m *MQTT) Clients() []string {
	m.look.mu.Lock()
	defer m.look.mu.Unlock()
	ids := make([]string, 0, len(m.look.connects))
	for id := range m.look.connects {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// look is the inspector of an MQTT proxy.
type look struct {
	mu       sync.Mutex // guards the following
	also     Inspector
	trap     *Trap
	sprung   chan struct{}
	connects map[string][]byte // the last CONNECT, by Client Identifier
	// acked is how many publications the broker has acknowledged, and sent how many
	// it has sent.
	acked, sent int
}

// counts are acked and sent.
func (l *look) counts() (acked, sent int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acked, l.sent
}

// count notes what is passed on to a client.
func (l *look) count(packet []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if is := TypeOf(packet); is == PUBLISH {
		l.sent++
	} else if is == PUBACK || is == PUBCOMP {
		l.acked++
	}
}

// Packet implements Inspector.
func (l *look) Packet(conn int, d Direction, packet []byte) (forward []byte, cut bool) {
	l.mu.Lock()
	also := l.also
	if d == ToServer && TypeOf(packet) == CONNECT {
		l.connected(packet)
	}
	l.mu.Unlock()
	forward = packet
	if d == ToServer && also != nil {
		if forward, cut = also.Packet(conn, d, forward); cut || forward == nil {
			return forward, cut
		}
	}
	forward, cut = l.tried(d, forward)
	if d == ToClient {
		l.count(forward)
	}
	if d == ToClient && also != nil && forward != nil {
		shown, also := also.Packet(conn, d, forward)
		return shown, cut || also
	}
	return forward, cut
}

// tried is what the trap leaves of a packet.
func (l *look) tried(d Direction, packet []byte) (forward []byte, cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.trap
	if t == nil || !t.waitsFor(d, packet) {
		return packet, false
	}
	if t.After--; t.After >= 0 {
		return packet, false
	}
	l.trap = nil
	close(l.sprung)
	return t.spring(packet)
}

// connected remembers a CONNECT; l.mu is held.
func (l *look) connected(packet []byte) {
	id, _, err := connectFields(packet)
	if err != nil || id == "" {
		return
	}
	if l.connects == nil {
		l.connects = make(map[string][]byte)
	}
	l.connects[id] = slices.Clone(packet)
}

// Closed implements Inspector.
func (l *look) Closed(conn int) {
	l.mu.Lock()
	also := l.also
	l.mu.Unlock()
	if also != nil {
		also.Closed(conn)
	}
}
