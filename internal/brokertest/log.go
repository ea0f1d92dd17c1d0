package brokertest

import (
	"strings"
	"sync"
)

// Direction tells who sent a packet, as seen from the end that keeps the log.
type Direction byte

const (
	// In is a packet that was read.
	In Direction = iota + 1
	// Out is a packet that was written.
	Out
)

// Entry is one packet in a log.
type Entry struct {
	// Seq counts the packets of all connections of a listener, from 1.
	Seq int
	// Conn counts the connections of the listener, from 1.
	Conn      int
	Direction Direction
	Packet    *Packet
}

// Log is what was sent and received, in order.
type Log []Entry

// Select returns the entries of one direction and type; a direction of 0 means
// both, a type of 0 any.
func (l Log) Select(d Direction, t Type) Log {
	var out Log
	for _, e := range l {
		if (d == 0 || e.Direction == d) && (t == 0 || e.Packet.Type == t) {
			out = append(out, e)
		}
	}
	return out
}

// PacketIDs returns the packet identifiers, in the order of the log.
func (l Log) PacketIDs() []uint16 {
	var ids []uint16
	for _, e := range l {
		ids = append(ids, e.Packet.PacketID)
	}
	return ids
}

// String shows one packet on a line, "<-" those that came in.
func (l Log) String() string {
	var b strings.Builder
	for _, e := range l {
		arrow := "<-"
		if e.Direction == Out {
			arrow = "->"
		}
		b.WriteString(arrow + " " + e.Packet.String() + "\n")
	}
	return b.String()
}

// recorder keeps the log of a listener.
type recorder struct {
	mu      sync.Mutex
	entries Log
}

func (r *recorder) add(conn int, d Direction, p *Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, Entry{Seq: len(r.entries) + 1, Conn: conn, Direction: d, Packet: p})
}

// log copies the entries of one connection, or of all if conn is 0.
func (r *recorder) log(conn int) Log {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out Log
	for _, e := range r.entries {
		if conn == 0 || e.Conn == conn {
			out = append(out, e)
		}
	}
	return out
}
