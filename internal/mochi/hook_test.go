package mochi

import (
	"context"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
)

// published is a message that the server puts into a session.
func published(id string, packetID uint16) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: 1}, PacketID: packetID, TopicName: topicPrefix + "a",
		Properties: packets.Properties{User: []packets.UserProperty{{Key: autopaho.PropertyMessageID, Val: id}}},
	}
}

// shared is the SUBSCRIBE of a member.
func shared() packets.Packet {
	return packets.Packet{Filters: packets.Subscriptions{{Filter: "$share/orders/" + topicPrefix + "#", Qos: 1}}}
}

// What is put into the session of a connection from which another one has just taken
// it goes back to the queue, before what waits there.
func TestTakenOverWhileSending(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 4)
	h := b.life.hook
	before := b.life.server.NewClient(nil, "test", "replica-1", false)
	after := b.life.server.NewClient(nil, "test", "replica-1", false)
	h.OnSessionEstablish(before, packets.Packet{})
	h.OnSubscribed(before, shared(), nil)
	h.waiting = append(h.waiting, published("2", 2))
	h.OnQosPublish(before, published("0", 5), 0, 0)
	require.Equal(t, []string{"0"}, b.Outstanding("replica-1"))
	h.OnSessionEstablish(after, packets.Packet{})
	h.members["replica-1"].reserved++ // it was chosen a moment ago
	h.OnQosPublish(before, published("1", 6), 0, 0)
	require.Equal(t, []string{"1", "2"}, b.Held())
	require.Equal(t, []string{"0"}, b.Outstanding("replica-1"))
	require.Zero(t, h.members["replica-1"].reserved)
	h.waiting, h.head = nil, 0 // nobody comes for them
}

// A PUBACK is not kept for another connection.
func TestAcknowledgementIsNotKept(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 4)
	c := b.life.server.NewClient(nil, "test", "publisher", false)
	ack := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: 7}
	c.State.Inflight.Set(ack)
	b.life.hook.OnQosPublish(c, ack, 0, 0)
	require.Zero(t, c.State.Inflight.Len())
}

// A session that begins with Clean Start, or ends, owes nothing.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 4)
	h := b.life.hook
	first := b.life.server.NewClient(nil, "test", "replica-1", false)
	second := b.life.server.NewClient(nil, "test", "replica-1", false)
	h.OnSessionEstablish(first, packets.Packet{})
	h.OnSubscribed(first, shared(), nil)
	h.OnQosPublish(first, published("0", 5), 0, 0)
	h.OnSessionEstablish(second, packets.Packet{Connect: packets.ConnectParams{Clean: true}})
	require.Empty(t, b.Outstanding(""))
	h.OnDisconnect(first, nil, true) // too late to matter
	h.OnSubscribed(second, shared(), nil)
	require.Equal(t, 1, b.Subscribed())
	h.OnDisconnect(second, nil, true)
	require.Zero(t, b.Subscribed())
}

// What comes at QoS 2 is passed on once, to a member whose Receive Maximum is smaller
// than what comes.
func TestQoS2(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 0)
	c, err := autopaho.New(t.Context(), autopaho.Config{Servers: []string{b.URL()}, ClientID: "replica-1", ReceiveMaximum: 2})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close(context.Background())) })
	arrived, goOn := subscribe(t, c)
	publisher := connect(t, b, "publisher")
	for _, id := range []string{"0", "1", "2", "3"} {
		_, err := publisher.Publish(t.Context(), autopaho.Message{ID: id, Topic: topicPrefix + "a", QoS: 2})
		require.NoError(t, err)
	}
	require.Len(t, collect(t, arrived, 2), 2)
	require.Len(t, b.Held(), 2)
	close(goOn)
	require.Len(t, collect(t, arrived, 2), 2)
	require.Zero(t, b.Redelivered())
}
