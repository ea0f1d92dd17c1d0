package fault

// Inspector looks at the MQTT packets of connections. Its methods are called from
// several goroutines, two for each connection, before a packet is passed on: what
// a client sends in answer to a packet comes after it.
type Inspector interface {
	// Packet is shown each whole packet of a connection, counted from 1, and
	// tells what is forwarded in its place: the packet itself, another, or nil for
	// none. With cut the connection ends after that: by FIN if the packet was the
	// server's, so that the client surely gets what is forwarded, else by RST. It
	// must not keep the slice.
	Packet(conn int, d Direction, packet []byte) (forward []byte, cut bool)
	// Closed says that a connection has ended.
	Closed(conn int)
}

// Inspect has the packets of later connections looked at; nil ends it. A packet is
// passed on once it is whole, so that what is no MQTT may wait for ever.
func (p *Proxy) Inspect(i Inspector) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.inspector = i
}

// inspect shows what was read to the inspector, and returns what is to be
// forwarded.
func (c *conn) inspect(d Direction, data []byte) (forward []byte, cut bool) {
	c.packets[d].add(data, func(packet []byte) bool {
		var out []byte
		out, cut = c.inspector.Packet(c.index, d, packet)
		forward = append(forward, out...)
		return !cut
	})
	return forward, cut
}
