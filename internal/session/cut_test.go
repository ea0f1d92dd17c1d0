package session

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/qos"
)

// The server gets the first n bytes of a PUBLISH and then a reset, for every n. If
// it kept the session the PUBLISH comes again, whole, with DUP and under the packet
// identifier that is in use [MQTT-4.4.0-1]; if not, it is published as new. Either
// way the server has one copy to acknowledge.
func TestPublishCutAfterEachByte(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{1, 2} {
		for name, kept := range map[string]bool{"kept": true, "lost": false} {
			t.Run(fmt.Sprintf("qos%d/session %s", level, name), func(t *testing.T) {
				t.Parallel()
				l := brokertest.Listen(t)
				proxy := fault.Start(t, l.Addr())
				p := start(t, proxy.URL())
				c := l.Accept(t.Context())
				c.Handshake()
				size := PacketSize(message("t", level, "000"), "")
				for n := 1; n < size; n++ {
					// The client says nothing by itself, so that these are the next bytes.
					proxy.CutAfter(fault.ToServer, int64(n), fault.RST)
					payload := fmt.Sprintf("%03d", n)
					o := p.send(message("t", level, payload))[0]
					part, err := c.ReadPacket(t.Context())
					require.Nil(t, part)
					if n > 1 {
						require.ErrorContains(t, err, fmt.Sprintf("after the first %d bytes of a packet", n))
					} else {
						require.Error(t, err)
					}

					c = l.Accept(t.Context())
					checks := []brokertest.Check{brokertest.HasPayload(payload), brokertest.HasDUP(kept)}
					if kept {
						checks = append(checks, brokertest.HasID(p.identifier(o)))
						c.Resume()
					} else {
						c.Handshake()
					}
					id := c.ExpectPublish(checks...).PacketID
					require.True(t, p.open(o))
					if level == 1 {
						c.SendPuback(id, 0)
					} else {
						c.SendPubrec(id, 0)
						c.ExpectPubrel(brokertest.HasID(id))
						c.SendPubcomp(id, 0)
					}
					require.Equal(t, qos.Success, p.end(o).Class)
					flushed(c) // and nothing of it comes after that
				}
				copies := map[string]int{}
				for _, e := range l.Log().Select(brokertest.In, brokertest.PUBLISH) {
					copies[e.Packet.MessageID()]++
				}
				require.Len(t, copies, size-1)
				for id, n := range copies {
					require.Equal(t, 1, n, "whole copies of %s", id)
				}
			})
		}
	}
}

// identifier is the packet identifier that o has in the engine's books.
func (p *peer) identifier(o *Outgoing) uint16 {
	p.t.Helper()
	e := p.link.Engine()
	e.mu.Lock()
	defer e.mu.Unlock()
	require.NotZero(p.t, o.packetID, "it was never sent")
	return o.packetID
}
