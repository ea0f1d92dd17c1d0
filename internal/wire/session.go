package wire

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/oncemq/oncemq/persist"
)

// sessionVersion1 is the first byte of an encoded session. Its layout:
//
//	byte      version, 1
//	...       runs, until the checksum
//	4 bytes   CRC-32C of all before it, little-endian
//
// A run is a number of exchanges of one step whose packet identifiers and
// positions both go up by one, which is what they nearly always do:
//
//	byte      step
//	uvarint   how many exchanges
//	varint    packet identifier of the first, less that of the exchange before it
//	varint    position of the first, less that of the exchange before it
//
// No exchange at all is no byte at all.
const sessionVersion1 = 1

// AppendSession appends the encoding of packet state to dst. Its error tells of a
// step that there is not.
func AppendSession(dst []byte, states []persist.PacketState) ([]byte, error) {
	if len(states) == 0 {
		return dst, nil
	}
	start := len(dst)
	dst = append(dst, sessionVersion1)
	var id, position int64 // of the exchange before
	for len(states) > 0 {
		first := &states[0]
		if first.Step < persist.StepPublished || first.Step > persist.StepReceived {
			return nil, fmt.Errorf("packet %d has step %d; use %d to %d",
				first.PacketID, first.Step, persist.StepPublished, persist.StepReceived)
		}
		n := 1
		for n < len(states) && states[n].Step == first.Step &&
			states[n].Position == states[n-1].Position+1 && int(states[n].PacketID) == int(states[n-1].PacketID)+1 {
			n++
		}
		dst = append(dst, byte(first.Step))
		dst = binary.AppendUvarint(dst, uint64(n))
		dst = binary.AppendVarint(dst, int64(first.PacketID)-id)
		dst = binary.AppendVarint(dst, first.Position-position)
		id, position = int64(states[n-1].PacketID), states[n-1].Position
		states = states[n:]
	}
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[start:])), nil
}

// maxStates is how many exchanges a session may have: each identifier once in each
// direction.
const maxStates = 2 * (math.MaxUint16 + 1)

// DecodeSession reads what [AppendSession] wrote. Its error wraps
// [persist.ErrCorrupt]. It reads any input without panicking.
func DecodeSession(b []byte) ([]persist.PacketState, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if b[0] != sessionVersion1 {
		return nil, fmt.Errorf("%w: packet state has version %d, this program reads version %d",
			persist.ErrCorrupt, b[0], sessionVersion1)
	}
	if len(b) < 1+checksumSize {
		return nil, fmt.Errorf("%w: packet state is cut short", persist.ErrCorrupt)
	}
	end := len(b) - checksumSize
	if binary.LittleEndian.Uint32(b[end:]) != checksum(b[:end]) {
		return nil, fmt.Errorf("%w: packet state has a wrong checksum", persist.ErrCorrupt)
	}
	var states []persist.PacketState
	var id, position int64
	r := reader{b: b[:end], at: 1}
	for r.at < end && !r.bad {
		step := persist.PacketStep(r.b[r.at])
		r.at++
		n := int(r.uvarintTo(uint64(maxStates - len(states))))
		id += r.varint()
		position += r.varint()
		if r.bad || n == 0 || step < persist.StepPublished || step > persist.StepReceived ||
			id < 0 || id+int64(n-1) > math.MaxUint16 {
			return nil, fmt.Errorf("%w: packet state has a field out of range", persist.ErrCorrupt)
		}
		for i := range n {
			states = append(states, persist.PacketState{
				PacketID: uint16(id + int64(i)), Step: step, Position: position + int64(i),
			})
		}
		id, position = id+int64(n-1), position+int64(n-1)
	}
	return states, nil
}

func (r *reader) varint() int64 {
	if r.bad {
		return 0
	}
	v, n := binary.Varint(r.b[r.at:])
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.at += n
	return v
}
