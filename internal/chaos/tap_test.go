package chaos

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/history"
)

// tap is what looks into the packets of a proxy: it holds them against the
// specification, and knows who is connected.
type tap struct {
	wire *history.Wire
	bad  func(violation string)
	// again counts deliveries to a client of what it had processed.
	again atomic.Int64

	mu      sync.Mutex // guards the following
	clients map[int]string
	done    map[string]*history.Set // by client, what it has processed
}

// The traps.
const (
	losePuback    = "lose puback"   // the n-th never arrives, and the connection ends
	cutPubrec     = "cut at pubrec" // the connection ends after the n-th
	cutPubrel     = "cut at pubrel" // the n-th is read, but not by the broker
	sayDisconnect = "disconnect"    // the server ends the connection with a code
	sayConnack    = "connack"       // the server refuses the next connection with a code
)

// trap is the trap of a kind: some packets pass before the one; code is what the
// server says, if it says something.
func trap(kind string, after int, code byte) fault.Trap {
	switch kind {
	case losePuback:
		return fault.Trap{Direction: fault.ToClient, Type: fault.PUBACK, After: after, Cut: true}
	case cutPubrec:
		return fault.Trap{Direction: fault.ToClient, Type: fault.PUBREC, After: after, Keep: true, Cut: true}
	case cutPubrel:
		return fault.Trap{Direction: fault.ToServer, Type: fault.PUBREL, After: after, Cut: true}
	case sayDisconnect:
		said := brokertest.Packet{Type: brokertest.DISCONNECT, Code: code}
		return fault.Trap{Direction: fault.ToClient, Instead: said.Encode(), Cut: true}
	default:
		said := brokertest.Packet{Type: brokertest.CONNACK, Code: code}
		return fault.Trap{Direction: fault.ToClient, Type: fault.CONNACK, Instead: said.Encode(), Cut: true}
	}
}

func newTap(record func(history.Op)) *tap {
	bad := func(violation string) {
		record(history.Op{Type: history.Fail, Kind: history.Packet, Text: violation})
	}
	return &tap{wire: history.NewWire(bad), bad: bad, clients: make(map[int]string), done: make(map[string]*history.Set)}
}

// connected are the clients that are connected now.
func (t *tap) connected() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for _, id := range t.clients {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	return all
}

// Packet is shown each packet that a client sends or gets.
func (t *tap) Packet(conn int, d fault.Direction, raw []byte) (forward []byte, cut bool) {
	p, err := brokertest.Decode(raw)
	if err != nil {
		t.bad(fmt.Sprintf("connection %d: %v", conn, err))
		return raw, false
	}
	if d == fault.ToServer {
		if p.Type == brokertest.CONNECT {
			t.mu.Lock()
			t.clients[conn] = p.Connect.ClientID
			t.mu.Unlock()
		}
		t.wire.ToServer(conn, p)
		return raw, false
	}
	t.wire.ToClient(conn, p)
	if p.Type == brokertest.PUBLISH {
		t.delivered(conn, p.MessageID())
	}
	return raw, false
}

// processed says that a client has processed a message.
func (t *tap) processed(client string, v history.Value) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done[client] == nil {
		t.done[client] = new(history.Set)
	}
	t.done[client].Add(v)
}

func (t *tap) delivered(conn int, id string) {
	v, err := history.ParseID(id)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if done := t.done[t.clients[conn]]; done != nil && done.Has(v) {
		t.again.Add(1)
	}
}

// Closed says that a connection has ended.
func (t *tap) Closed(conn int) {
	t.wire.Gone(conn)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.clients, conn)
}
