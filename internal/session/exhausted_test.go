package session

import (
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// A server that would have as many messages in flight as there are packet
// identifiers, and never acknowledges one, with no window of ours below that: the
// identifiers end before the messages do. Those that are left wait in the source,
// no identifier is used twice, and requests still have theirs.
func TestPacketIdentifiersRunOut(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{1, 2} {
		t.Run(fmt.Sprintf("qos%d", level), func(t *testing.T) {
			t.Parallel()
			const full, more = math.MaxUint16 - spareIDs, 100
			l := brokertest.Listen(t)
			p := start(t, l.URL(), func(c *Config) {
				c.Engine.Window = math.MaxUint16
				c.AckTimeout = 10 * patience
			})
			c := l.Accept(t.Context())
			c.Handshake(brokertest.ReceiveMaximum(math.MaxUint16))
			all := p.send(messages(level, 0, full+more)...)

			var used [math.MaxUint16 + 1]bool
			ids := make([]uint16, full)
			for i := range ids {
				publish := c.ExpectPublish(brokertest.HasDUP(false), brokertest.HasPayload(strconv.Itoa(i)))
				if used[publish.PacketID] {
					require.FailNow(t, "a packet identifier is used twice", "%d, by message %d", publish.PacketID, i)
				}
				used[publish.PacketID], ids[i] = true, publish.PacketID
			}
			flushed(c)
			p.link.Engine().Wake()
			subscribed := make(chan error, 1)
			go func() {
				_, err := p.link.Subscribe(t.Context(), []Subscription{{Filter: "f", QoS: level}}, 0)
				subscribed <- err
			}()
			subscribe := c.ExpectSubscribe() // and no PUBLISH before it
			require.False(t, used[subscribe.PacketID])
			c.SendSuback(subscribe.PacketID, level)
			require.NoError(t, <-subscribed)
			flushed(c)
			p.mu.Lock()
			require.Len(t, p.queue, more)
			require.Empty(t, p.order)
			p.mu.Unlock()

			// Room for one is room for one, and only the end of an exchange makes it.
			// More often than there are identifiers left, so that the search for one
			// comes upon those in use.
			over := make([]bool, full)
			for i := range more {
				ended := i * (full / more)
				id := ids[ended]
				if level == 2 {
					c.SendPubrec(id, 0)
					c.ExpectPubrel(brokertest.HasID(id))
					flushed(c)
					c.SendPubcomp(id, 0)
				} else {
					c.SendPuback(id, 0)
				}
				used[id] = false
				publish := c.ExpectPublish(brokertest.HasDUP(false), brokertest.HasPayload(strconv.Itoa(full+i)))
				require.False(t, used[publish.PacketID], "packet identifier %d is used twice", publish.PacketID)
				used[publish.PacketID] = true
				p.allEnd(all[ended : ended+1])
				over[ended] = true
			}
			flushed(c)
			c.Reset()

			// The same identifiers in the same order, as far as the pace of a link
			// that was cut lets it.
			c = l.Accept(t.Context())
			c.Resume(brokertest.ReceiveMaximum(math.MaxUint16))
			for i, again := 0, 0; again < math.MaxUint16/2; i++ {
				if !over[i] {
					c.ExpectPublish(brokertest.HasDUP(true), brokertest.HasID(ids[i]), brokertest.HasPayload(strconv.Itoa(i)))
					again++
				}
			}
			flushed(c)
			require.Equal(t, 2, l.Connections())
			require.NoError(t, p.link.Err())
		})
	}
}
