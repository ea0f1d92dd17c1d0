package session

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/qos"
)

// PUBREC may say that nobody subscribes (0x10); PUBCOMP, which ends the
// exchange, cannot, and the owner wants to know.
func TestNoSubscribersOfPubrecReachesTheCompletion(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	o := p.send(message("t", 2, "m"))[0]
	id := c.ExpectPublish().PacketID
	c.SendPubrec(id, 0x10)
	c.ExpectPubrel(brokertest.HasID(id))
	c.Reset() // also across connections
	c = l.Accept(t.Context())
	c.Resume()
	c.ExpectPubrel(brokertest.HasID(id))
	c.SendPubcomp(id, 0)
	end := p.end(o)
	require.Equal(t, byte(0x10), end.Code)
	require.Equal(t, qos.NoSubscribers, end.Class)
}

// The server has forgotten the exchange: that ends it, and the message has
// arrived.
func TestPubcompWithPacketIdentifierNotFound(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	o := p.send(message("t", 2, "m"))[0]
	id := c.ExpectPublish().PacketID
	c.SendPubrec(id, 0)
	c.ExpectPubrel()
	c.SendPubcomp(id, 0x92)
	require.Equal(t, qos.Success, p.end(o).Class)
}

// Each reason code reaches the owner with its class, and takes nothing else
// with it.
func TestReasonCodesOfPubackAndPubrec(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{1, 2} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL(), func(c *Config) { c.Engine.Window = 1 })
			c := l.Accept(t.Context())
			c.Handshake()
			for code := 0x80; code <= 0xA2; code++ {
				o := p.send(message("t", level, fmt.Sprint(code)))[0]
				id := c.ExpectPublish().PacketID
				want := qos.ClassOf(qos.PUBACK, byte(code))
				if level == 1 {
					c.SendPuback(id, byte(code))
				} else {
					c.SendPubrec(id, byte(code))
					want = qos.ClassOf(qos.PUBREC, byte(code))
				}
				end := p.end(o)
				require.Equal(t, byte(code), end.Code)
				require.Equal(t, want, end.Class)
			}
			require.Equal(t, 1, l.Connections())
		})
	}
}
