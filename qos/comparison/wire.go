package comparison

import (
	"encoding/binary"
	"sync"
)

// Packets counts MQTT packets of a publisher, both ways.
type Packets struct {
	Publish int `json:"publish"`
	Puback  int `json:"puback"`
	Pubrec  int `json:"pubrec"`
	Pubrel  int `json:"pubrel"`
	Pubcomp int `json:"pubcomp"`
}

// Handshake is how many packets were not the message itself.
func (p Packets) Handshake() int { return p.Puback + p.Pubrec + p.Pubrel + p.Pubcomp }

// The first four bits of a control packet (section 2.1.2).
const (
	typePublish = 3
	typePuback  = 4
	typePubrec  = 5
	typePubrel  = 6
	typePubcomp = 7
)

// wire counts the packets of one publisher, and decides which of them are lost
// with the connection. Packets that are lost count too: they were sent.
type wire struct {
	cutEvery int // 0: never

	mu      sync.Mutex // guards the following
	packets Packets
	again   int // PUBLISH and PUBREL beyond the first of each message
	seen    map[string]struct{}
	// released are the packet identifiers whose message has had its PUBREL.
	released map[uint16]struct{}
	answers  int // acknowledgements of the broker
	cuts     int
}

func newWire() *wire {
	return &wire{seen: make(map[string]struct{}), released: make(map[uint16]struct{})}
}

// packet counts one and tells whether the connection is cut at it.
func (w *wire) packet(toServer bool, p []byte) (cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch kind := p[0] >> 4; {
	case toServer && kind == typePublish:
		w.packets.Publish++
		w.publish(p)
		cut = w.due(w.packets.Publish)
	case toServer && kind == typePubrel:
		w.packets.Pubrel++
		if id, ok := packetID(p); ok {
			if _, before := w.released[id]; before {
				w.again++
			}
			w.released[id] = struct{}{}
		}
	case toServer:
	case kind == typePuback:
		w.packets.Puback++
		cut = w.answer()
	case kind == typePubrec:
		w.packets.Pubrec++
		cut = w.answer()
	case kind == typePubcomp:
		w.packets.Pubcomp++
		cut = w.answer()
	}
	if cut {
		w.cuts++
	}
	return cut
}

func (w *wire) answer() (cut bool) {
	w.answers++
	return w.due(w.answers)
}

// due is whether the n-th of its kind is one to cut at.
func (w *wire) due(n int) bool { return w.cutEvery > 0 && n%w.cutEvery == 0 }

// publish notes a PUBLISH; w.mu is held.
func (w *wire) publish(p []byte) {
	body, ok := rest(p)
	if !ok || len(body) < 2 {
		return
	}
	topic := int(binary.BigEndian.Uint16(body))
	if level := p[0] >> 1 & 3; level > 0 && len(body) >= 4+topic {
		delete(w.released, binary.BigEndian.Uint16(body[2+topic:]))
	}
	// The payload stands at the end, and tells which message it is.
	name := string(body[max(0, len(body)-payloadSize):])
	if _, before := w.seen[name]; before {
		w.again++
	}
	w.seen[name] = struct{}{}
}

// rest is what follows the fixed header.
func rest(p []byte) ([]byte, bool) {
	for i := 1; i < len(p) && i <= 4; i++ {
		if p[i]&0x80 == 0 {
			return p[i+1:], true
		}
	}
	return nil, false
}

func packetID(p []byte) (uint16, bool) {
	body, ok := rest(p)
	if !ok || len(body) < 2 {
		return 0, false
	}
	return binary.BigEndian.Uint16(body), true
}

// counts are the packets, how many of them were sent again, and how often the
// link was cut.
func (w *wire) counts() (p Packets, again, cuts int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.packets, w.again, w.cuts
}
