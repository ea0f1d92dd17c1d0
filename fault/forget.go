package fault

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// ForgetSessions has the broker forget the sessions of all clients that have
// connected so far, with what it keeps in them: it cuts the connections, takes each
// session over under its Client Identifier with Clean Start, and has it end with
// that connection. It needs nothing but what clients said in their own CONNECT;
// those who log in by AUTH cannot be taken over like that. Clients may connect again
// when it returns.
//
// The error is the first of a session that could not be taken over, or the
// context's; others are tried all the same.
func (m *MQTT) ForgetSessions(ctx context.Context) error {
	if err := m.Refuse(true); err != nil {
		return err
	}
	m.CutAll(RST)
	m.look.mu.Lock()
	connects := maps.Clone(m.look.connects)
	m.look.mu.Unlock()
	var first error
	for _, id := range slices.Sorted(maps.Keys(connects)) {
		if err := m.takeOver(ctx, connects[id]); err != nil && first == nil {
			first = fmt.Errorf("fault proxy: take over the session of %q: %w", id, err)
		}
	}
	if err := m.Refuse(false); err != nil {
		return err
	}
	return first
}

// takeOver connects to the broker as a client did, with Clean Start, and leaves with
// a Session Expiry Interval of 0 (section 3.14.2.2.2).
func (m *MQTT) takeOver(ctx context.Context, connect []byte) error {
	const most = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	nc, err := m.dial(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = nc.Close() }()
	stop := context.AfterFunc(ctx, func() { nc.reset() })
	defer stop()
	connect = slices.Clone(connect)
	_, flags, err := connectFields(connect)
	if err != nil {
		return err
	}
	connect[flags] |= cleanStart
	if _, err := nc.Write(connect); err != nil {
		return err
	}
	connack, err := readPacket(nc)
	if err != nil {
		return fmt.Errorf("no answer to CONNECT: %w", err)
	}
	const code = 3 // after the flags
	if TypeOf(connack) != CONNACK || len(connack) <= code || connack[code] >= 0x80 {
		return fmt.Errorf("the answer to CONNECT is % X", connack[:min(len(connack), code+1)])
	}
	if _, err := nc.Write([]byte{byte(DISCONNECT) << 4, 7, 0, 5, 0x11, 0, 0, 0, 0}); err != nil {
		return err
	}
	// The server closes once it has seen that (section 3.14.4).
	if err := nc.CloseWrite(); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, nc) // by FIN or RST
	return ctx.Err()
}

// readPacket reads one short packet.
func readPacket(r io.Reader) ([]byte, error) {
	var packet []byte
	for size := 0; size == 0 || len(packet) < size; size = packetSize(packet) {
		const most = 64 << 10
		if len(packet) > most {
			return nil, fmt.Errorf("it is longer than %d bytes", most)
		}
		one := make([]byte, 1)
		if _, err := io.ReadFull(r, one); err != nil {
			return nil, err
		}
		packet = append(packet, one...)
	}
	return packet, nil
}
