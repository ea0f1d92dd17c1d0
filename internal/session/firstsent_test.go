package session

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// When a message was sent first travels with it, in decimal digits, and is counted
// into the lengths.
func TestFirstSentOnTheWire(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 1, 9, 10, 99, 100, 1_700_000_000_000, math.MaxInt64} {
		m := &persist.Message{ID: "id", Topic: "a", QoS: 1, Payload: []byte("p")}
		o := &Outgoing{Message: m, FirstSent: n, packetID: 1}
		props, remaining := publishSizes(o)
		raw := appendPublish(nil, o, props, remaining, false, 0)
		require.Len(t, raw, 1+varintLen(remaining)+remaining)
		d, err := decodePublish(raw[0], raw[1+varintLen(remaining):])
		require.NoError(t, err)
		value, given := d.Message.Properties.Get(PropertyFirstSent)
		require.Equal(t, n > 0, given)
		if given {
			require.Equal(t, decimal(n), value)
		}
		require.Equal(t, "p", string(d.Message.Payload))
	}
}

func decimal(n int64) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append([]byte{byte('0' + n%10)}, b...)
	}
	return string(b)
}

// A message that fits without it goes without it.
func TestFirstSentGivesWay(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	fits := message("t", 1, "payload")
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake(brokertest.MaximumPacketSize(uint32(PacketSize(fits, ""))))
	out := &Outgoing{Message: fits, FirstSent: 1_700_000_000_000}
	p.mu.Lock()
	p.queue, p.given = append(p.queue, out), append(p.given, out)
	p.mu.Unlock()
	p.link.Engine().Wake()
	publish := c.ExpectPublish(brokertest.HasPayload("payload"))
	c.SendPuback(publish.PacketID, 0)
	require.Empty(t, publish.Properties.User(PropertyFirstSent))
	require.Len(t, publish.Raw, PacketSize(fits, ""))
	p.end(out)
}
