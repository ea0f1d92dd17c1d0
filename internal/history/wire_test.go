package history_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/history"
)

// traffic plays packets to a Wire.
type traffic struct {
	wire  *history.Wire
	found []string
}

func newTraffic() *traffic {
	tr := &traffic{}
	tr.wire = history.NewWire(func(violation string) { tr.found = append(tr.found, violation) })
	return tr
}

// connect begins a connection of the client "c".
func (tr *traffic) connect(conn int, present bool, quota uint16) {
	tr.wire.ToServer(conn, &brokertest.Packet{Type: brokertest.CONNECT, Connect: &brokertest.Connect{ClientID: "c"}})
	tr.wire.ToClient(conn, &brokertest.Packet{
		Type: brokertest.CONNACK, SessionPresent: present, Properties: brokertest.Properties{brokertest.ReceiveMaximum(quota)},
	})
}

func publish(id uint16, level byte, message string) *brokertest.Packet {
	return &brokertest.Packet{
		Type: brokertest.PUBLISH, PacketID: id, QoS: level,
		Properties: brokertest.Properties{brokertest.UserProperty("message-id", message)},
	}
}

func answer(kind brokertest.Type, id uint16, code byte) *brokertest.Packet {
	return &brokertest.Packet{Type: kind, PacketID: id, Code: code}
}

func TestWireFindsPublishAfterPubrec(t *testing.T) {
	t.Parallel()
	for name, present := range map[string]bool{"session kept": true, "session lost": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := newTraffic()
			tr.connect(1, false, 10)
			tr.wire.ToServer(1, publish(5, 2, "1-2-3"))
			tr.wire.ToClient(1, answer(brokertest.PUBREC, 5, 0))
			tr.wire.ToServer(1, answer(brokertest.PUBREL, 5, 0))
			tr.wire.Gone(1)
			tr.connect(2, present, 10)
			tr.wire.ToServer(2, publish(5, 2, "1-2-3"))
			if present {
				require.Len(t, tr.found, 1)
				require.Contains(t, tr.found[0], `PUBLISH 5 of "1-2-3" after its PUBREL`)
			} else {
				require.Empty(t, tr.found)
			}
		})
	}
}

// A PUBREC that the client may not have read is no reason.
func TestWireAcceptsPublishAgain(t *testing.T) {
	t.Parallel()
	tr := newTraffic()
	tr.connect(1, false, 10)
	tr.wire.ToServer(1, publish(5, 2, "1-2-3"))
	tr.wire.ToClient(1, answer(brokertest.PUBREC, 5, 0))
	tr.wire.Gone(1)
	tr.connect(2, true, 10)
	tr.wire.ToServer(2, publish(5, 2, "1-2-3"))
	tr.wire.ToClient(2, answer(brokertest.PUBREC, 5, 0))
	tr.wire.ToServer(2, answer(brokertest.PUBREL, 5, 0))
	tr.wire.ToClient(2, answer(brokertest.PUBCOMP, 5, 0))
	tr.wire.ToServer(2, publish(5, 2, "1-2-4")) // the identifier is free
	require.Empty(t, tr.found)
	sent, repeated := tr.wire.Counts()
	require.Equal(t, []int{3, 1}, []int{sent, repeated})
}

func TestWireFindsPubrelAfterRefusal(t *testing.T) {
	t.Parallel()
	tr := newTraffic()
	tr.connect(1, false, 10)
	tr.wire.ToServer(1, publish(5, 2, "1-2-3"))
	tr.wire.ToClient(1, answer(brokertest.PUBREC, 5, 0x97))
	tr.wire.ToServer(1, answer(brokertest.PUBREL, 5, 0))
	require.Len(t, tr.found, 1)
	require.Contains(t, tr.found[0], "PUBREC that refused")
}

func TestWireFindsQuotaAndUseOfAnIdentifier(t *testing.T) {
	t.Parallel()
	tr := newTraffic()
	tr.connect(1, false, 2)
	tr.wire.ToServer(1, publish(1, 1, "a"))
	tr.wire.ToServer(1, publish(2, 2, "b"))
	tr.wire.ToClient(1, answer(brokertest.PUBREC, 2, 0)) // frees nothing
	require.Empty(t, tr.found)
	tr.wire.ToServer(1, publish(3, 1, "c"))
	require.Len(t, tr.found, 1)
	require.Contains(t, tr.found[0], "3 exchanges are open, and the Receive Maximum is 2")
	tr.wire.ToClient(1, answer(brokertest.PUBACK, 1, 0))
	tr.wire.ToServer(1, publish(3, 1, "c"))
	require.Len(t, tr.found, 2)
	require.Contains(t, tr.found[1], "in use on this connection")
}

func TestWireFindsAcknowledgementsOutOfOrder(t *testing.T) {
	t.Parallel()
	tr := newTraffic()
	tr.connect(1, false, 2)
	for id := range uint16(3) {
		tr.wire.ToClient(1, publish(id+1, 1, ""))
	}
	tr.wire.ToServer(1, answer(brokertest.PUBACK, 1, 0))
	require.Empty(t, tr.found)
	tr.wire.ToServer(1, answer(brokertest.PUBACK, 3, 0))
	require.Len(t, tr.found, 1)
	require.Contains(t, tr.found[0], "PUBACK 3 before that of 2")
}
