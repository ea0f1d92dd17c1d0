package demo

import (
	"slices"
	"strings"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/oncemq/oncemq/autopaho"
)

// hook is in mochi's way of every packet: it lets everybody in, watches the
// wire, holds the replicas' packets up at the gate, and queues what the replicas
// cannot take yet.
//
// The queue is ours because mochi's (v2.7.9) does not survive a consumer slower
// than its Receive Maximum: each message that had to wait costs one of the send
// quota for ever, is forgotten before it was acknowledged, and is sent without
// regard to the Receive Maximum when the session is resumed; and looking for it
// takes a read lock twice, which blocks for ever if a writer comes between.
type hook struct {
	mqtt.HookBase
	broker *broker
	server *mqtt.Server

	mu      sync.Mutex // guards the following; no call to the server under it
	ready   map[string]*mqtt.Client
	sent    map[string]*unacked
	waiting []packets.Packet
	head    int
}

// unacked is what a replica's session has not acknowledged.
type unacked struct {
	reserved int               // chosen for it, on the way or sent
	ids      map[uint16]string // message IDs by packet identifier
}

func newHook(b *broker, s *mqtt.Server) *hook {
	return &hook{
		broker: b, server: s,
		ready: make(map[string]*mqtt.Client), sent: make(map[string]*unacked),
	}
}

// ID and Provides are asked for by the server.
func (h *hook) ID() string { return "demo" }

func (h *hook) Provides(b byte) bool {
	return slices.Contains([]byte{
		mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablished, mqtt.OnSubscribed,
		mqtt.OnDisconnect, mqtt.OnPacketRead, mqtt.OnPacketProcessed, mqtt.OnSelectSubscribers,
		mqtt.OnQosPublish, mqtt.OnPacketSent,
	}, b)
}

func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }
func (h *hook) OnACLCheck(*mqtt.Client, string, bool) bool              { return true }

// OnPacketRead holds up what comes from a replica while the gate is shut. A
// packet that waited when its connection was closed is dropped. (It is the only
// error that the server heeds; the connection ends with it.)
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	c, ours := cl.Net.Conn.(*conn)
	if pk.FixedHeader.Type == packets.Connect {
		// No client may say this (section 3.1.2.11.3), and to mochi it means
		// that there is no limit: it never queues, and never looks whether it
		// has.
		pk.Properties.ReceiveMaximum = 0
		return pk, nil
	}
	if !ours || !strings.HasPrefix(cl.ID, replicaPrefix) {
		return pk, nil
	}
	if !h.broker.replies.pass(c.closed) {
		return pk, packets.ErrRejectPacket
	}
	select {
	case <-c.closed: // what is left in the buffer of a connection that was cut
		return pk, packets.ErrRejectPacket
	default:
		return pk, nil
	}
}

// OnSessionEstablished leaves the first packet identifiers to the replica's
// SUBSCRIBE: mochi takes those of both directions for one set, and would refuse
// it for an identifier that one of its own messages has.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	const spare = 32
	if isReplica(cl.ID) {
		for range spare {
			_, _ = cl.NextPacketID() // none is in use but for a resumed session's, which it skips
		}
	}
}

// OnSubscribed makes a replica ready for messages.
func (h *hook) OnSubscribed(cl *mqtt.Client, _ packets.Packet, _ []byte) {
	if !isReplica(cl.ID) {
		return
	}
	h.mu.Lock()
	h.ready[cl.ID] = cl
	h.unacked(cl.ID)
	h.mu.Unlock()
}

// OnDisconnect takes a replica out; its session, with what it has not
// acknowledged, stays.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, _ bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ready[cl.ID] == cl {
		delete(h.ready, cl.ID)
	}
}

// unacked is the entry of a replica; h.mu is held.
func (h *hook) unacked(id string) *unacked {
	u := h.sent[id]
	if u == nil {
		u = &unacked{ids: make(map[uint16]string)}
		h.sent[id] = u
	}
	return u
}

// OnSelectSubscribers chooses the replica that has the least to do, or keeps the
// message if none can take one or others wait already.
func (h *hook) OnSelectSubscribers(subs *mqtt.Subscribers, pk packets.Packet) *mqtt.Subscribers {
	fromQueue := pk.Origin == mqtt.InlineClientId
	h.mu.Lock()
	defer h.mu.Unlock()
	chosen := ""
	if fromQueue || h.head == len(h.waiting) {
		chosen = h.choose()
	}
	if chosen != "" {
		for _, members := range subs.Shared {
			if sub, ok := members[chosen]; ok {
				h.unacked(chosen).reserved++
				subs.SharedSelected = map[string]packets.Subscription{chosen: sub}
				return subs
			}
		}
	}
	if fromQueue { // it goes back to its place
		h.head--
		h.waiting[h.head] = pk
	} else {
		h.waiting = append(h.waiting, pk)
	}
	subs.Shared = nil
	return subs
}

// choose is the connected replica with the least unacknowledged messages, if it
// is below the quota; h.mu is held.
func (h *hook) choose() string {
	best, least := "", h.broker.quota
	for id := range h.ready {
		if n := h.unacked(id).reserved; n < least || n == least && best != "" && id < best {
			best, least = id, n
		}
	}
	return best
}

// OnQosPublish learns under which packet identifier a message goes to a replica.
func (h *hook) OnQosPublish(cl *mqtt.Client, pk packets.Packet, _ int64, _ int) {
	if !isReplica(cl.ID) || pk.FixedHeader.Type != packets.Publish {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unacked(cl.ID).ids[pk.PacketID] = messageID(pk)
}

// OnPacketSent counts what went to a replica.
func (h *hook) OnPacketSent(cl *mqtt.Client, pk packets.Packet, _ []byte) {
	if isReplica(cl.ID) && pk.FixedHeader.Type == packets.Publish {
		h.broker.wire.count(messageID(pk))
	}
}

// OnPacketProcessed makes room for the next message once one is acknowledged.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, _ error) {
	if !isReplica(cl.ID) {
		return
	}
	switch pk.FixedHeader.Type {
	case packets.Puback:
		h.mu.Lock()
		u := h.unacked(cl.ID)
		if _, known := u.ids[pk.PacketID]; known {
			delete(u.ids, pk.PacketID)
			u.reserved--
		}
		h.mu.Unlock()
	case packets.Subscribe:
	default:
		return
	}
	h.pump()
}

// pump sends what waits, as far as there is room.
func (h *hook) pump() {
	for {
		h.mu.Lock()
		if h.head == len(h.waiting) || h.choose() == "" {
			h.mu.Unlock()
			return
		}
		pk := h.waiting[h.head]
		h.waiting[h.head] = packets.Packet{}
		h.head++
		h.mu.Unlock()
		inline, ok := h.server.Clients.Get(mqtt.InlineClientId)
		if !ok {
			return
		}
		// It comes back to OnSelectSubscribers, and if somebody was faster,
		// into the queue. No error is possible for a packet that was valid.
		_ = h.server.InjectPacket(inline, pk)
	}
}

// held are the IDs of the messages that wait.
func (h *hook) held() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	ids := make([]string, 0, len(h.waiting)-h.head)
	for _, pk := range h.waiting[h.head:] {
		ids = append(ids, messageID(pk))
	}
	return ids
}

func (h *hook) subscribed() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ready)
}

// outstanding are the message IDs that a replica has not acknowledged; those of
// all replicas for the empty name.
func (h *hook) outstanding(replica string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var ids []string
	for id, u := range h.sent {
		if replica != "" && id != replica {
			continue
		}
		for _, m := range u.ids {
			ids = append(ids, m)
		}
	}
	return ids
}

// cut closes the connections of a replica, as they close when its machine is
// gone: what it sent and was held up at the gate never arrives.
func (l *life) cut(replica string) {
	for _, id := range []string{replica, replica + receiptSuffix} {
		if cl, ok := l.server.Clients.Get(id); ok {
			if c, ours := cl.Net.Conn.(*conn); ours {
				_ = c.Close()
			}
		}
	}
}

// replicaPrefix begins the client IDs of replicas. The client that publishes a
// replica's receipts has receiptSuffix in the end.
const (
	replicaPrefix = "replica-"
	receiptSuffix = "-pub"
)

// isReplica tells whether the client ID is a replica's that receives.
func isReplica(id string) bool {
	return strings.HasPrefix(id, replicaPrefix) && !strings.HasSuffix(id, receiptSuffix)
}

func messageID(pk packets.Packet) string {
	for _, u := range pk.Properties.User {
		if u.Key == autopaho.PropertyMessageID {
			return u.Val
		}
	}
	return ""
}
