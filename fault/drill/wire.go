package drill

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
)

// wire counts the PUBLISH packets with a message ID that pass a proxy in a
// direction.
type wire struct {
	direction fault.Direction

	mu     sync.Mutex // guards the following
	seen   map[string]struct{}
	copies int
}

func newWire(d fault.Direction) *wire { return &wire{direction: d, seen: make(map[string]struct{})} }

// Packet implements fault.Inspector.
func (w *wire) Packet(_ int, d fault.Direction, packet []byte) (forward []byte, cut bool) {
	if d != w.direction || fault.TypeOf(packet) != fault.PUBLISH {
		return packet, false
	}
	if id := messageID(packet); id != "" {
		w.mu.Lock()
		w.seen[id] = struct{}{}
		w.copies++
		w.mu.Unlock()
	}
	return packet, false
}

// messageID is the message ID of a PUBLISH packet of ours, whose topic and payload
// do not look like one; empty if there is none.
func messageID(packet []byte) string {
	const userProperty = 0x26 // then two strings (section 2.2.2.2)
	mark := binary.BigEndian.AppendUint16([]byte{userProperty}, uint16(len(autopaho.PropertyMessageID)))
	_, rest, found := bytes.Cut(packet, append(mark, autopaho.PropertyMessageID...))
	if !found || len(rest) < 2 {
		return ""
	}
	n := int(binary.BigEndian.Uint16(rest))
	if len(rest) < 2+n {
		return ""
	}
	return string(rest[2 : 2+n])
}

// Closed implements fault.Inspector.
func (w *wire) Closed(int) {}

// again is how many copies passed beyond the first of each message.
func (w *wire) again() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.copies - len(w.seen)
}

// total is how many packets have passed.
func (w *wire) total() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.copies
}
