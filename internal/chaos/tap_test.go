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
// specification, and does what the nemesis has asked for with one of them.
type tap struct {
	wire *history.Wire
	bad  func(violation string)
	// again counts deliveries to a client of what it had processed.
	again atomic.Int64

	mu      sync.Mutex // guards the following
	clients map[int]string
	trap    *trap
	sprung  int
	done    map[string]*history.Set // by client, what it has processed
}

// trap is a fault that waits for its packet.
type trap struct {
	kind  string
	after int // how many such packets pass before
	code  byte
}

// The traps.
const (
	losePuback    = "lose puback"   // the n-th never arrives, and the connection ends
	cutPubrec     = "cut at pubrec" // the connection ends after the n-th
	cutPubrel     = "cut at pubrel" // the n-th is read, but not by the broker
	sayDisconnect = "disconnect"    // the server ends the connection with a code
	sayConnack    = "connack"       // the server refuses the next connection with a code
)

func newTap(record func(history.Op)) *tap {
	bad := func(violation string) {
		record(history.Op{Type: history.Fail, Kind: history.Packet, Text: violation})
	}
	return &tap{wire: history.NewWire(bad), bad: bad, clients: make(map[int]string), done: make(map[string]*history.Set)}
}

// set arms a trap in place of the one before; nil disarms it.
func (t *tap) set(tr *trap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trap = tr
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

// springs tells whether a packet is the one that the trap waits for.
func (t *tap) springs(d fault.Direction, p *brokertest.Packet) (tr trap, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.trap == nil {
		return trap{}, false
	}
	toClient := d == fault.ToClient
	switch t.trap.kind {
	case losePuback:
		ok = toClient && p.Type == brokertest.PUBACK
	case cutPubrec:
		ok = toClient && p.Type == brokertest.PUBREC
	case cutPubrel:
		ok = !toClient && p.Type == brokertest.PUBREL
	case sayDisconnect:
		ok = toClient && p.Type != brokertest.CONNACK
	case sayConnack:
		ok = toClient && p.Type == brokertest.CONNACK
	}
	if !ok {
		return trap{}, false
	}
	if t.trap.after--; t.trap.after >= 0 {
		return trap{}, false
	}
	tr, t.trap = *t.trap, nil
	t.sprung++
	return tr, true
}

// Packet is shown each packet.
func (t *tap) Packet(conn int, d fault.Direction, raw []byte) (forward []byte, cut bool) {
	p, err := brokertest.Decode(raw)
	if err != nil {
		t.bad(fmt.Sprintf("connection %d: %v", conn, err))
		return raw, false
	}
	tr, sprung := t.springs(d, p)
	if d == fault.ToServer {
		if p.Type == brokertest.CONNECT {
			t.mu.Lock()
			t.clients[conn] = p.Connect.ClientID
			t.mu.Unlock()
		}
		t.wire.ToServer(conn, p)
		if sprung {
			return nil, true
		}
		return raw, false
	}
	switch {
	case !sprung:
	case tr.kind == cutPubrec:
		t.wire.ToClient(conn, p)
		return raw, true
	case tr.kind == losePuback:
		return nil, true
	case tr.kind == sayDisconnect:
		return (&brokertest.Packet{Type: brokertest.DISCONNECT, Code: tr.code}).Encode(), true
	default:
		return (&brokertest.Packet{Type: brokertest.CONNACK, Code: tr.code}).Encode(), true
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
