package fault

import "time"

// LostFor is what the next segment of a direction loses.
func LostFor(p *Proxy, d Direction) time.Duration { return p.lostFor(d) }

// ConnectFields reads a CONNECT packet.
func ConnectFields(packet []byte) (clientID string, flags int, err error) {
	return connectFields(packet)
}
