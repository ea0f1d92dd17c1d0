package autopaho

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/memory"
)

// What is kept of a message that may have to be sent once more, because its receipt may
// not come, goes with it: if the receipt is there before the broker's answer, and if the
// message ends without one. It stayed, and with 65536 of them no more was kept of
// messages that needed it.
func TestStampsGoWithTheirMessages(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	l := brokertest.Listen(t)
	c, err := New(ctx, Config{Servers: []string{l.URL()}, Store: memory.New(memory.Options{})})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.cfg.Store.Close(t.Context())) })
	send := func(id string) { // an ID that tells no time
		_, err := c.Enqueue(ctx, Message{ID: id, Topic: "a", Payload: []byte(id), Receipt: true})
		require.NoError(t, err)
	}
	send("answered early")
	conn := l.Accept(ctx)
	conn.Handshake()
	sub := conn.ExpectSubscribe()
	conn.SendSuback(sub.PacketID, 1)
	receipt := func(id string) {
		conn.SendPublish(brokertest.Packet{
			Topic: sub.Filters[0].Topic, QoS: 1, PacketID: 1,
			Properties: brokertest.Properties{brokertest.Str(brokertest.PropCorrelationData, id), brokertest.UserProperty("receipt", "processed")},
		})
		conn.ExpectPuback()
	}
	stamps := func() int {
		c.relay.mu.Lock()
		d := c.relay.drains[0]
		c.relay.mu.Unlock()
		d.mu.Lock()
		defer d.mu.Unlock()
		return len(d.stamps)
	}
	counted := func(n uint64, what func(*Counters) uint64) {
		require.Eventually(t, func() bool { now := c.Counters(); return what(&now) == n }, 30*time.Second, time.Millisecond)
	}
	delivered := func(n *Counters) uint64 { return n.Delivered }

	id := conn.ExpectPublish().PacketID
	receipt("answered early")
	conn.SendPuback(id, 0)
	counted(1, delivered)
	require.Zero(t, stamps())

	send("answered late")
	conn.SendPuback(conn.ExpectPublish().PacketID, 0)
	counted(2, delivered)
	require.Equal(t, 1, stamps())
	receipt("answered late")
	require.Eventually(t, func() bool { return stamps() == 0 }, 30*time.Second, time.Millisecond) // after the PUBACK

	send("refused")
	conn.SendPuback(conn.ExpectPublish().PacketID, 0x87)
	counted(1, func(n *Counters) uint64 { return n.Failed })
	require.Zero(t, stamps())

	closed := make(chan error, 1)
	go func() { closed <- c.Close(ctx) }()
	conn.ExpectDisconnect()
	conn.Close()
	require.NoError(t, <-closed)
}
