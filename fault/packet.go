package fault

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// PacketType is the type of an MQTT control packet (MQTT 5, table 2-1).
type PacketType byte

// The control packets, under the specification's names.
const (
	CONNECT     PacketType = 1
	CONNACK     PacketType = 2
	PUBLISH     PacketType = 3
	PUBACK      PacketType = 4
	PUBREC      PacketType = 5
	PUBREL      PacketType = 6
	PUBCOMP     PacketType = 7
	SUBSCRIBE   PacketType = 8
	SUBACK      PacketType = 9
	UNSUBSCRIBE PacketType = 10
	UNSUBACK    PacketType = 11
	PINGREQ     PacketType = 12
	PINGRESP    PacketType = 13
	DISCONNECT  PacketType = 14
	AUTH        PacketType = 15
)

// TypeOf is the type of a packet; zero for none.
func TypeOf(packet []byte) PacketType {
	if len(packet) == 0 {
		return 0
	}
	return PacketType(packet[0] >> 4)
}

// splitter cuts a stream into MQTT packets (section 2.1).
type splitter struct{ rest []byte }

// add takes the next bytes, and calls each with every packet that is whole until
// it returns false.
func (s *splitter) add(data []byte, each func(packet []byte) bool) {
	s.rest = append(s.rest, data...)
	for {
		size := packetSize(s.rest)
		if size == 0 || size > len(s.rest) {
			return
		}
		packet := s.rest[:size:size]
		s.rest = s.rest[size:]
		if !each(packet) {
			return
		}
	}
}

// packetSize is the length of the packet in front, 0 if that is not known yet.
func packetSize(b []byte) int {
	length, header := remaining(b)
	if header == 0 {
		return 0
	}
	return header + length
}

// remaining is the Remaining Length of the packet in front, and the length of what
// comes before it; that is 0 if it is not known yet.
func remaining(b []byte) (length, header int) {
	for i := 1; i < len(b) && i <= 4; i++ {
		length |= int(b[i]&0x7F) << (7 * (i - 1))
		if b[i]&0x80 == 0 {
			return length, 1 + i
		}
	}
	return 0, 0
}

const cleanStart = 0x02 // of the Connect Flags (section 3.1.2.4)

// connectFields are the Client Identifier of a CONNECT packet (section 3.1), and
// where its Connect Flags are.
func connectFields(packet []byte) (clientID string, flags int, err error) {
	short := errors.New("CONNECT is too short")
	_, at := remaining(packet)
	name, rest, ok := text(packet, at)
	if !ok || len(packet) < rest+4 {
		return "", 0, short
	}
	if version := packet[rest]; name != "MQTT" || version != 5 {
		return "", 0, fmt.Errorf("CONNECT is of %q, version %d, not of MQTT 5", name, version)
	}
	flags = rest + 1
	at = rest + 4 // after the Keep Alive
	properties, size := binary.Uvarint(packet[at:])
	if size <= 0 || properties > uint64(len(packet)) {
		return "", 0, short
	}
	clientID, _, ok = text(packet, at+size+int(properties))
	if !ok {
		return "", 0, short
	}
	return clientID, flags, nil
}

// text reads a UTF-8 Encoded String (section 1.5.4) at a place, and tells where it
// ends.
func text(packet []byte, at int) (s string, end int, ok bool) {
	if at < 0 || len(packet) < at+2 {
		return "", 0, false
	}
	end = at + 2 + int(binary.BigEndian.Uint16(packet[at:]))
	if len(packet) < end {
		return "", 0, false
	}
	return string(packet[at+2 : end]), end, true
}
