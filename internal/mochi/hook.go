package mochi

import (
	"math"
	"slices"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook is in mochi's way of every packet: it lets everybody in, watches the
// wire, holds packets up at the gate, and queues what the members of a shared
// subscription cannot take yet. There is one group.
//
// The queue is ours because mochi's (v2.7.9) does not survive a consumer slower
// than its Receive Maximum: each message that had to wait costs one of the send
// quota for ever, is forgotten before it was acknowledged, and is sent without
// regard to the Receive Maximum when the session is resumed; and looking for it
// takes a read lock twice, which blocks for ever if a writer comes between.
type hook struct {
	mqtt.HookBase
	broker *Broker
	server *mqtt.Server
	relay  *mqtt.Client // publishes what came at QoS 2

	mu      sync.Mutex // guards the following; no call to the server under it
	maximum map[string]int
	latest  map[string]*mqtt.Client // whose session it is now
	members map[string]*member
	waiting []packets.Packet
	head    int
}

// member is the session of a client that has a shared subscription.
type member struct {
	client   *mqtt.Client      // nil while it is away
	reserved int               // chosen for it: on the way, or in ids
	ids      map[uint16]string // message IDs by packet identifier
}

// relayID is the origin of what came at QoS 2.
const relayID = "relay of QoS 2"

func newHook(b *Broker, s *mqtt.Server) *hook {
	return &hook{
		broker: b, server: s, relay: s.NewClient(nil, "local", relayID, true),
		maximum: make(map[string]int), latest: make(map[string]*mqtt.Client), members: make(map[string]*member),
	}
}

// ID and Provides are asked for by the server.
func (h *hook) ID() string { return "oncemq" }

func (h *hook) Provides(b byte) bool {
	return slices.Contains([]byte{
		mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished,
		mqtt.OnSubscribed, mqtt.OnDisconnect, mqtt.OnPacketRead, mqtt.OnPacketProcessed, mqtt.OnPublish,
		mqtt.OnSelectSubscribers, mqtt.OnQosPublish, mqtt.OnPacketSent,
	}, b)
}

func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }
func (h *hook) OnACLCheck(*mqtt.Client, string, bool) bool              { return true }

// OnPacketRead holds up what comes from gated clients while the gate is shut. A
// packet that waited when its connection was closed is dropped. (It is the only
// error that the server heeds; the connection ends with it.)
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type == packets.Connect {
		h.mu.Lock()
		h.maximum[pk.Connect.ClientIdentifier] = int(pk.Properties.ReceiveMaximum)
		h.mu.Unlock()
		// No client may say this (section 3.1.2.11.3), and to mochi it means
		// that there is no limit: it never queues, and never looks whether it
		// has.
		pk.Properties.ReceiveMaximum = 0
		// A message that goes back to the queue has its topic.
		pk.Properties.TopicAliasMaximum = 0
		return pk, nil
	}
	c, ours := cl.Net.Conn.(*conn)
	if gated := h.broker.options.Gated; !ours || gated == nil || !gated(cl.ID) {
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

// OnSessionEstablish comes before the new connection takes the session of the one
// before: see OnQosPublish.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, pk packets.Packet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latest[cl.ID] = cl
	if pk.Connect.Clean {
		delete(h.members, cl.ID)
	} else if m := h.members[cl.ID]; m != nil {
		m.client = nil
	}
}

// OnSessionEstablished leaves the first packet identifiers to the client's
// SUBSCRIBE: mochi takes those of both directions for one set, and would refuse
// it for an identifier that one of its own messages has.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, _ packets.Packet) {
	const spare = 32
	for range spare {
		_, _ = cl.NextPacketID() // none is in use but for a resumed session's, which it skips
	}
}

// OnSubscribed makes the member of a shared subscription ready for messages.
func (h *hook) OnSubscribed(cl *mqtt.Client, pk packets.Packet, _ []byte) {
	if !slices.ContainsFunc(pk.Filters, func(s packets.Subscription) bool { return mqtt.IsSharedFilter(s.Filter) }) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.members[cl.ID]
	if m == nil {
		m = &member{ids: make(map[uint16]string)}
		h.members[cl.ID] = m
	}
	m.client = cl
}

// OnDisconnect takes a member out; its session, with what it has not
// acknowledged, stays unless it ends.
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, expire bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.latest[cl.ID] != cl {
		return
	}
	if expire {
		delete(h.members, cl.ID)
		delete(h.latest, cl.ID)
	} else if m := h.members[cl.ID]; m != nil {
		m.client = nil
	}
}

// OnPublish publishes what comes at QoS 2 before the server writes PUBREC: mochi
// does it afterwards, and not at all if PUBREC cannot be written, though the
// session remembers it as sent.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline || pk.FixedHeader.Qos < 2 {
		return pk, nil
	}
	whole := pk // with its topic, whatever the alias
	whole.Properties.TopicAlias, whole.Properties.TopicAliasFlag = 0, false
	if err := h.server.InjectPacket(h.relay, whole); err != nil {
		return pk, packets.ErrUnspecifiedError
	}
	return pk, packets.CodeSuccessIgnore
}

// OnSelectSubscribers chooses the member that has the least to do, or keeps the
// message if none can take one or others wait already.
func (h *hook) OnSelectSubscribers(subs *mqtt.Subscribers, pk packets.Packet) *mqtt.Subscribers {
	fromQueue := pk.Origin == mqtt.InlineClientId
	h.mu.Lock()
	defer h.mu.Unlock()
	chosen := ""
	if fromQueue {
		clear(subs.Subscriptions) // they have it
	}
	if fromQueue || h.head == len(h.waiting) {
		chosen = h.choose()
	}
	if chosen != "" {
		for _, members := range subs.Shared {
			if sub, ok := members[chosen]; ok {
				h.members[chosen].reserved++
				subs.SharedSelected = map[string]packets.Subscription{chosen: sub}
				return subs
			}
		}
	}
	if fromQueue { // it goes back to its place
		h.putBack(pk)
	} else {
		h.waiting = append(h.waiting, pk)
	}
	subs.Shared = nil
	return subs
}

// putBack makes a message the next one of the queue; h.mu is held.
func (h *hook) putBack(pk packets.Packet) {
	if h.head == 0 {
		h.waiting = slices.Insert(h.waiting, 0, pk)
		return
	}
	h.head--
	h.waiting[h.head] = pk
}

// choose is the connected member with the least unacknowledged messages, if it
// is below its quota; h.mu is held.
func (h *hook) choose() string {
	best, least := "", math.MaxInt
	for id, m := range h.members {
		if m.client == nil || m.reserved >= h.quota(id) {
			continue
		}
		if m.reserved < least || m.reserved == least && id < best {
			best, least = id, m.reserved
		}
	}
	return best
}

// quota is how many messages a member may have; h.mu is held.
func (h *hook) quota(id string) int {
	quota := 4096 // mochi drops what does not fit into its buffer, of twice that
	for _, n := range [...]int{h.broker.options.Quota, h.maximum[id]} {
		if n > 0 {
			quota = min(quota, n)
		}
	}
	return quota
}

// OnQosPublish learns under which packet identifier a message goes to a member.
//
// It also mends two things. A PUBACK is in the session's state while it is
// written, and if that fails mochi sends it with the next connection, although it
// has not published the message. And a message that was put into the session of a
// connection from which another one has taken it meanwhile would be in no session:
// it goes back to the queue. Since OnSessionEstablish came before the session was
// taken, none is missed; one that was taken along as well arrives twice.
func (h *hook) OnQosPublish(cl *mqtt.Client, pk packets.Packet, _ int64, _ int) {
	switch pk.FixedHeader.Type {
	case packets.Puback:
		cl.State.Inflight.Delete(pk.PacketID)
		return
	case packets.Publish:
	default:
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.members[cl.ID]
	if m == nil {
		return
	}
	if h.latest[cl.ID] != cl {
		m.reserved--
		pk.Properties.SubscriptionIdentifier = nil
		h.putBack(pk)
		return
	}
	if _, known := m.ids[pk.PacketID]; !known && pk.FixedHeader.Dup {
		m.reserved++
	}
	m.ids[pk.PacketID] = h.messageID(pk)
}

// OnPacketSent counts what went to members.
func (h *hook) OnPacketSent(cl *mqtt.Client, pk packets.Packet, _ []byte) {
	if pk.FixedHeader.Type != packets.Publish || h.broker.options.MessageID == nil {
		return
	}
	h.mu.Lock()
	counted := h.members[cl.ID] != nil
	h.mu.Unlock()
	if counted {
		h.broker.wire.count(h.messageID(pk))
	}
}

// OnPacketProcessed makes room for the next message once one is acknowledged.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, _ error) {
	switch pk.FixedHeader.Type {
	case packets.Puback, packets.Pubcomp:
		h.mu.Lock()
		m := h.members[cl.ID]
		if m != nil {
			if _, known := m.ids[pk.PacketID]; known {
				delete(m.ids, pk.PacketID)
				m.reserved--
			}
		}
		h.mu.Unlock()
		if m == nil {
			return
		}
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
		ids = append(ids, h.messageID(pk))
	}
	return ids
}

// subscribed is how many members are connected.
func (h *hook) subscribed() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, m := range h.members {
		if m.client != nil {
			n++
		}
	}
	return n
}

// outstanding are the message IDs that a member has not acknowledged; those of
// all members for the empty name.
func (h *hook) outstanding(clientID string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for id, m := range h.members {
		if clientID != "" && id != clientID {
			continue
		}
		for _, messageID := range m.ids {
			all = append(all, messageID)
		}
	}
	return all
}

// messageID is the ID of a message, as the options find it.
func (h *hook) messageID(pk packets.Packet) string {
	find := h.broker.options.MessageID
	if find == nil {
		return ""
	}
	return find(func(key string) string {
		for _, u := range pk.Properties.User {
			if u.Key == key {
				return u.Val
			}
		}
		return ""
	})
}

// cut closes the connections of clients.
func (l *life) cut(clientIDs []string) {
	for _, id := range clientIDs {
		if cl, ok := l.server.Clients.Get(id); ok {
			if c, ours := cl.Net.Conn.(*conn); ours {
				_ = c.Close()
			}
		}
	}
}
