package brokertest_test

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// pair connects a client by hand to a listener.
func pair(t *testing.T) (l *brokertest.Listener, client, server *brokertest.Conn) {
	t.Helper()
	l = brokertest.Listen(t)
	client = brokertest.Dial(t, l.Addr())
	return l, client, l.Accept(t.Context())
}

func TestScriptOfAQoS2Exchange(t *testing.T) {
	t.Parallel()
	l, client, server := pair(t)
	client.Send(&brokertest.Packet{
		Type:       brokertest.CONNECT,
		Connect:    &brokertest.Connect{ClientID: "c1", KeepAlive: 30},
		Properties: brokertest.Properties{brokertest.SessionExpiryInterval(60)},
	})
	connect := server.Handshake(brokertest.ReceiveMaximum(3), brokertest.MaximumQoS(1))
	require.Equal(t, "c1", connect.Connect.ClientID)
	connack := client.ExpectConnack(brokertest.HasCode(0))
	limit, ok := connack.Properties.Num(brokertest.PropReceiveMaximum)
	require.True(t, ok)
	require.EqualValues(t, 3, limit)

	client.Send(&brokertest.Packet{Type: brokertest.PINGREQ})
	client.SendPublish(brokertest.Packet{
		PacketID: 7, QoS: 2, DUP: true, Retain: true, Topic: "a/b", Payload: []byte("hello"),
		Properties: brokertest.Properties{brokertest.UserProperty("message-id", "m1")},
	})
	p := server.ExpectPublish(brokertest.HasID(7), brokertest.HasQoS(2), brokertest.HasDUP(true),
		brokertest.HasRetain(true), brokertest.HasTopic("a/b"), brokertest.HasPayload("hello"),
		brokertest.HasUserProperty("message-id", "m1"))
	require.Equal(t, "m1", p.MessageID())
	client.Expect(brokertest.PINGRESP)

	server.SendPubrec(7, 0)
	client.ExpectPubrec(brokertest.HasID(7))
	client.SendPubrel(7, 0)
	server.ExpectPubrel(brokertest.HasID(7))
	server.SendPubcomp(7, 0)
	client.ExpectPubcomp(brokertest.HasID(7))
	client.SendDisconnect(0)
	server.ExpectDisconnect()
	client.Close()
	server.ExpectClosed()

	var types []string
	for _, e := range l.Log() {
		types = append(types, e.Packet.Type.String())
	}
	require.Equal(t, "CONNECT CONNACK PINGREQ PINGRESP PUBLISH PUBREC PUBREL PUBCOMP DISCONNECT", strings.Join(types, " "))
}

func TestResetReachesTheClientAsReset(t *testing.T) {
	t.Parallel()
	_, client, server := pair(t)
	client.SendRaw([]byte{0xC0, 0})
	server.Reset()
	_, err := client.ReadPacket(t.Context())
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestResetNeedsNoUnreadBytes(t *testing.T) {
	t.Parallel()
	_, client, server := pair(t)
	server.Reset()
	_, err := client.ReadPacket(t.Context())
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestCloseWriteReachesTheClientAsEnd(t *testing.T) {
	t.Parallel()
	_, client, server := pair(t)
	server.CloseWrite()
	_, err := client.ReadPacket(t.Context())
	require.ErrorIs(t, err, io.EOF)
}

func TestQuietAndClosed(t *testing.T) {
	t.Parallel()
	_, client, server := pair(t)
	server.ExpectQuiet(10 * time.Millisecond)
	client.Reset()
	server.ExpectClosed()
}
