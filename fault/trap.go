package fault

// Trap waits for a packet, does something to it, and is done.
type Trap struct {
	// Direction and Type tell for which packets it waits. Type zero is any but
	// CONNECT and CONNACK.
	Direction Direction
	Type      PacketType
	// After is how many of them pass before it is the turn of one.
	After int
	// Keep has the packet passed on. Without it the packet is lost, or Instead is
	// in its place if there is any.
	Keep    bool
	Instead []byte
	// Cut ends the connection after that: by FIN if the packet was the server's,
	// so that the client surely gets what is passed on, else by RST.
	Cut bool
}

// waitsFor tells whether a packet is of those that the trap waits for.
func (t *Trap) waitsFor(d Direction, packet []byte) bool {
	is := TypeOf(packet)
	if t.Type == 0 {
		return d == t.Direction && is != CONNECT && is != CONNACK
	}
	return d == t.Direction && is == t.Type
}

// spring is what becomes of the packet.
func (t *Trap) spring(packet []byte) (forward []byte, cut bool) {
	if t.Keep {
		return packet, t.Cut
	}
	return t.Instead, t.Cut
}
