package session

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

func Test01ConDisconSuccess(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	connect := c.Handshake()
	require.Equal(t, "MQTT", connect.Connect.ProtocolName)
	require.Equal(t, byte(5), connect.Connect.ProtocolVersion)
	require.Equal(t, "client", connect.Connect.ClientID)
	require.Equal(t, uint16(30), connect.Connect.KeepAlive)
	require.Nil(t, connect.Connect.Will)
	require.Nil(t, connect.Connect.Username)
	require.Nil(t, connect.Connect.Password)
	require.ElementsMatch(t, brokertest.Properties{
		brokertest.SessionExpiryInterval(3600),
		brokertest.ReceiveMaximum(20),
		brokertest.MaximumPacketSize(1 << 20),
	}, connect.Properties)

	// An acknowledgement that is due leaves before DISCONNECT.
	c.SendPublish(brokertest.Packet{Topic: "t", QoS: 1, PacketID: 7})
	p.delivery(0).Ack(0)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = p.link.Close(context.WithoutCancel(t.Context()))
	}()
	c.ExpectPuback(brokertest.HasID(7))
	c.ExpectDisconnect(brokertest.HasCode(0))
	c.ExpectClosed()
	c.Close()
	<-closed
	require.ErrorIs(t, p.link.Err(), ErrClosed)
}

// The first CONNECT may ask for a clean start; the ones after it must not, or
// what is in flight would be lost.
func Test01NoCleanSession(t *testing.T) {
	t.Parallel()
	for _, clean := range []bool{false, true} {
		t.Run(fmt.Sprint(clean), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			start(t, l.URL(), func(c *Config) { c.CleanStart = clean })
			c := l.Accept(t.Context())
			require.Equal(t, clean, c.Handshake().Connect.CleanStart)
			c.Reset()
			c = l.Accept(t.Context())
			connect := c.Resume()
			require.False(t, connect.Connect.CleanStart)
			expiry, _ := connect.Properties.Num(brokertest.PropSessionExpiryInterval)
			require.Equal(t, uint32(3600), expiry)
		})
	}
}

func Test01WillUnpwdSet(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	start(t, l.URL(), func(c *Config) {
		c.Username, c.Password = "oibvvwqw", []byte("#'^2hg9a&nm38*us")
		m := message("will-topic", 2, "will message")
		m.Retain, m.Expiry = true, time.Minute-time.Millisecond
		m.Properties = persist.Properties{
			UTF8: true, ContentType: "text/plain", ResponseTopic: "r", CorrelationData: []byte("c"),
			User: []persist.UserProperty{{Name: "a", Value: "b"}},
		}
		c.Will, c.WillProperties = Will(m, 10*time.Second)
	})
	c := l.Accept(t.Context())
	connect := c.Handshake().Connect
	require.Equal(t, "oibvvwqw", *connect.Username)
	require.Equal(t, "#'^2hg9a&nm38*us", *connect.Password)
	require.Equal(t, "will-topic", connect.Will.Topic)
	require.Equal(t, "will message", string(connect.Will.Payload))
	require.Equal(t, byte(2), connect.Will.QoS)
	require.True(t, connect.Will.Retain)
	require.ElementsMatch(t, brokertest.Properties{
		brokertest.Num(brokertest.PropWillDelayInterval, 10),
		brokertest.Num(brokertest.PropPayloadFormatIndicator, 1),
		brokertest.MessageExpiryInterval(60),
		brokertest.Str(brokertest.PropContentType, "text/plain"),
		brokertest.Str(brokertest.PropResponseTopic, "r"),
		brokertest.Str(brokertest.PropCorrelationData, "c"),
		brokertest.UserProperty("a", "b"),
	}, connect.Will.Properties)
}

// What the server grants in CONNACK is what the owner sees.
func TestConnackLimits(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	require.Equal(t, 65535, p.up(0).Limits.ReceiveMaximum)
	require.Equal(t, time.Hour, p.up(0).Limits.SessionExpiry)
	c.Reset()
	c = l.Accept(t.Context())
	c.Resume(brokertest.ReceiveMaximum(5), brokertest.MaximumQoS(1), brokertest.RetainAvailable(false),
		brokertest.MaximumPacketSize(1000), brokertest.ServerKeepAlive(7), brokertest.SessionExpiryInterval(60),
		brokertest.AssignedClientIdentifier("other"),
		brokertest.Num(brokertest.PropSharedSubscriptionAvailable, 0),
		brokertest.Num(brokertest.PropWildcardSubscriptionAvailable, 0),
		brokertest.Num(brokertest.PropSubscriptionIdentifierAvailable, 0))
	s := p.up(1)
	require.True(t, s.Present)
	require.Equal(t, Limits{
		ReceiveMaximum: 5, MaximumQoS: 1, MaximumPacketSize: 1000, ServerKeepAlive: 7 * time.Second,
		SessionExpiry: time.Minute, AssignedClientID: "other",
	}, s.Limits)
}

// Every CONNACK code has its class: stop ends the link with an error that says
// so, all others are tried again.
func TestConnackCodes(t *testing.T) {
	t.Parallel()
	for code := byte(0x80); code <= 0xA2; code++ {
		t.Run(fmt.Sprintf("0x%02X", code), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.ExpectConnect()
			c.SendConnack(false, code, brokertest.ReasonString("because"))
			c.ExpectClosed()
			err := p.failure(0)
			var refused *ConnackError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, code, refused.Code)
			require.Equal(t, "because", refused.Reason)
			if qos.ClassOf(qos.CONNACK, code) == qos.Stop {
				require.ErrorIs(t, p.done(), ErrRefused)
				require.ErrorAs(t, p.link.Err(), &refused)
				return
			}
			require.NotErrorIs(t, err, ErrRefused)
			l.Accept(t.Context()).Handshake()
			require.NoError(t, p.link.Await(t.Context()))
		})
	}
}

// A server of MQTT 3.1.1 refuses the version in its own way, and will do so again.
func TestOldServer(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.ExpectConnect()
	c.SendRaw([]byte{0x20, 2, 0, 1})
	c.ExpectClosed()
	require.ErrorIs(t, p.failure(0), ErrOldProtocol)
	require.ErrorIs(t, p.done(), ErrRefused)
	require.ErrorContains(t, p.link.Err(), l.URL()+": refused by the broker: broker speaks MQTT 3.1.1 only")
}

// Session Present after a clean start is a lie [MQTT-3.2.2-2]: whatever the
// server holds is not what we know of.
func TestSessionPresentAfterCleanStart(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.CleanStart = true })
	o := p.send(message("t", 1, "m"))[0]
	c := l.Accept(t.Context())
	c.Resume()
	c.ExpectClosed() // before any PUBLISH
	require.ErrorContains(t, p.failure(0), "session present")
	c = l.Accept(t.Context())
	require.True(t, c.Handshake().Connect.CleanStart, "there was no clean start yet")
	c.SendPuback(c.ExpectPublish(brokertest.HasDUP(false)).PacketID, 0)
	p.end(o)
}

// A server that says nothing is given up after the connect timeout, and asked
// again.
func TestConnackNever(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.ConnectTimeout = 150 * time.Millisecond })
	began := time.Now()
	c := l.Accept(t.Context())
	c.ExpectConnect()
	require.ErrorIs(t, p.failure(0), context.DeadlineExceeded)
	require.Less(t, time.Since(began), 3*time.Second)
	l.Accept(t.Context()).Handshake()
	p.up(0)
}

// The whole handshake in single bytes.
func TestConnackOneByteAtATime(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.ExpectConnect()
	connack := brokertest.Packet{Type: brokertest.CONNACK, Properties: brokertest.Properties{
		brokertest.ReceiveMaximum(1), brokertest.ReasonString("slowly"),
	}}
	for _, b := range connack.Encode() {
		c.SendRaw([]byte{b})
	}
	require.Equal(t, 1, p.up(0).Limits.ReceiveMaximum)
}

// A PUBLISH may follow CONNACK at once, in the same segment: it belongs to the
// connection that the CONNACK began.
func TestPublishBehindConnack(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.ExpectConnect()
	connack := brokertest.Packet{Type: brokertest.CONNACK}
	publish := brokertest.Packet{Type: brokertest.PUBLISH, Topic: "t", QoS: 1, PacketID: 1, Payload: []byte("m")}
	c.SendRaw(append(connack.Encode(), publish.Encode()...))
	d := p.delivery(0)
	require.Equal(t, "m", string(d.Message.Payload))
	d.Ack(0)
	c.ExpectPuback(brokertest.HasID(1))
}

// Before CONNACK a server may send nothing [MQTT-3.2.0-1], on the first
// connection and on every later one.
func TestPacketBeforeConnack(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.ConnectTimeout, c.PacketTimeout = time.Hour, time.Hour })
	for i, packet := range []brokertest.Packet{
		{Type: brokertest.PUBLISH, Topic: "t", QoS: 1, PacketID: 1},
		{Type: brokertest.PUBACK, PacketID: 1},
		{Type: brokertest.SUBACK, PacketID: 1, Codes: []byte{0}},
	} {
		c := l.Accept(t.Context())
		c.ExpectConnect()
		c.Send(&packet)
		c.ExpectClosed()
		_ = p.failure(i)
		if i == 0 { // from here on a connection has been up before
			c = l.Accept(t.Context())
			c.Handshake()
			p.up(0)
			c.Reset()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.got)
}

// Several servers are tried in their order until one answers.
func TestSeveralServersFirstDown(t *testing.T) {
	t.Parallel()
	down, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	gone := "mqtt://" + down.Addr().String()
	require.NoError(t, down.Close())
	l := brokertest.Listen(t)
	p := start(t, gone, func(c *Config) { c.Servers = append(c.Servers, l.ParsedURL()) })
	l.Accept(t.Context()).Handshake()
	p.up(0)
	require.ErrorContains(t, p.failure(0), gone)
}
