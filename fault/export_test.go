package fault

import "time"

// LostFor is what the next segment of a direction loses.
func LostFor(p *Proxy, d Direction) time.Duration { return p.lostFor(d) }

// ConnectFields reads a CONNECT packet.
func ConnectFields(packet []byte) (clientID string, flags int, err error) {
	return connectFields(packet)
}

// Split cuts a stream that comes in two pieces into packets.
func Split(first, second []byte) (packets [][]byte) {
	var s splitter
	for _, piece := range [][]byte{first, second} {
		s.add(piece, func(packet []byte) bool {
			packets = append(packets, packet)
			return true
		})
	}
	return packets
}
