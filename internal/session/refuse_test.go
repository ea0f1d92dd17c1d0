package session

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// bytesOf is a PUBLISH with a body that no encoder would write.
func bytesOf(flags byte, body string) []byte {
	return brokertest.Frame(brokertest.PUBLISH, flags, []byte(body))
}

// encoded is a packet as it would be on the wire.
func encoded(p brokertest.Packet) []byte { return p.Encode() }

// What no server may send ends the connection with the reason code that the
// specification asks for, and never reaches a handler (H14 of the hazards). The
// link then connects again.
func TestMalformedPackets(t *testing.T) {
	t.Parallel()
	pub := func(props ...brokertest.Property) []byte {
		return encoded(brokertest.Packet{Type: brokertest.PUBLISH, Topic: "t", Properties: props})
	}
	for _, test := range []struct {
		name  string
		bytes []byte
		code  byte
	}{
		{"QoS 3", bytesOf(6, "\x00\x01t\x00\x01\x00"), 0x81},
		{"empty topic", bytesOf(0, "\x00\x00\x00m"), 0x81},
		{"topic with #", bytesOf(0, "\x00\x03a/#\x00"), 0x81},
		{"topic with +", bytesOf(0, "\x00\x03+/a\x00"), 0x81},
		{"topic with NUL", bytesOf(0, "\x00\x03a\x00b\x00"), 0x81},
		{"topic that is not UTF-8", bytesOf(0, "\x00\x02\xc3\x28\x00"), 0x81},
		{"topic that is longer than the packet", bytesOf(0, "\x00\xffa\x00"), 0x81},
		{"PUBLISH without a body", bytesOf(0, ""), 0x81},
		{"PUBLISH without a property length", bytesOf(0, "\x00\x01t"), 0x81},
		{"QoS 1 without a packet identifier", bytesOf(2, "\x00\x01t"), 0x81},
		{"packet identifier zero", bytesOf(2, "\x00\x01t\x00\x00\x00"), 0x81},
		{"properties longer than the packet", bytesOf(0, "\x00\x01t\x7f"), 0x81},
		{"property length of five bytes", bytesOf(0, "\x00\x01t\x80\x80\x80\x80\x01"), 0x81},
		{"property cut short", bytesOf(0, "\x00\x01t\x03\x02\x00\x00"), 0x81},
		{"property of another packet", pub(brokertest.ReceiveMaximum(1)), 0x81},
		{"content type that is not UTF-8", pub(brokertest.Str(brokertest.PropContentType, "\xff")), 0x81},
		{"response topic that is not UTF-8", pub(brokertest.Str(brokertest.PropResponseTopic, "a\x00")), 0x81},
		{"user property that is not UTF-8", pub(brokertest.UserProperty("a", "\xed\xa0\x80")), 0x81},
		{"user property whose name is not UTF-8", pub(brokertest.UserProperty("\xff", "")), 0x81},
		{"content type twice", pub(brokertest.Str(brokertest.PropContentType, "a"), brokertest.Str(brokertest.PropContentType, "a")), 0x82},
		{"payload format 2", pub(brokertest.Num(brokertest.PropPayloadFormatIndicator, 2)), 0x82},
		{"subscription identifier zero", pub(brokertest.SubscriptionIdentifier(0)), 0x82},
		{"topic alias", pub(brokertest.TopicAlias(1)), 0x94},
		{"topic alias without a topic", encoded(brokertest.Packet{
			Type: brokertest.PUBLISH, Properties: brokertest.Properties{brokertest.TopicAlias(1)},
		}), 0x94},

		{"PUBACK without a packet identifier", []byte{0x40, 1, 0}, 0x81},
		{"PUBACK of packet identifier zero", []byte{0x40, 2, 0, 0}, 0x81},
		{"PUBACK with flags", []byte{0x41, 2, 0, 1}, 0x81},
		{"PUBACK with a property length beyond its end", []byte{0x40, 4, 0, 1, 0, 1}, 0x81},
		{"PUBACK with bytes behind its properties", []byte{0x40, 5, 0, 1, 0, 0, 0}, 0x81},
		{"PUBACK with a property of another packet", []byte{0x40, 6, 0, 1, 0, 2, 0x01, 0}, 0x81},
		{"PUBACK with two reason strings", encoded(brokertest.Packet{
			Type: brokertest.PUBACK, PacketID: 1,
			Properties: brokertest.Properties{brokertest.ReasonString("a"), brokertest.ReasonString("b")},
		}), 0x82},
		{"PUBACK with a reason string that is not UTF-8", encoded(brokertest.Packet{
			Type: brokertest.PUBACK, PacketID: 1, Properties: brokertest.Properties{brokertest.ReasonString("\xff")},
		}), 0x81},
		{"PUBREL without its flags", []byte{0x60, 2, 0, 1}, 0x81},
		{"PINGRESP with flags", []byte{0xd1, 0}, 0x81},

		{"remaining length of five bytes", []byte{0x30, 0x80, 0x80, 0x80, 0x80, 0x01}, 0x81},
		{"remaining length in more bytes than it needs", []byte{0xd0, 0x80, 0x00}, 0x81},
		{"type zero", []byte{0x00, 0}, 0x82},
		{"CONNECT", encoded(brokertest.Packet{Type: brokertest.CONNECT, Connect: &brokertest.Connect{}}), 0x82},
		{"SUBSCRIBE", encoded(brokertest.Packet{Type: brokertest.SUBSCRIBE, PacketID: 1}), 0x82},
		{"UNSUBSCRIBE", encoded(brokertest.Packet{Type: brokertest.UNSUBSCRIBE, PacketID: 1}), 0x82},
		{"PINGREQ", []byte{0xc0, 0}, 0x82},
		{"a second CONNACK", []byte{0x20, 3, 0, 0, 0}, 0x82},
		{"AUTH that nobody asked for", []byte{0xf0, 2, 0x18, 0}, 0x82},
		{"AUTH that says success", []byte{0xf0, 0}, 0x82},
		{"AUTH to authenticate again", []byte{0xf0, 2, 0x19, 0}, 0x82},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.Handshake()
			c.SendPublish(publish(9, 1, "before")) // what came before the fault is received
			c.SendRaw(test.bytes)
			c.ExpectDisconnect(brokertest.HasCode(test.code))
			c.ExpectClosed()
			c.Close()
			require.ErrorContains(t, p.down(0), "server broke the protocol")
			l.Accept(t.Context()).Resume()
			p.up(1)
			p.mu.Lock()
			defer p.mu.Unlock()
			require.Len(t, p.got, 1)
			require.Equal(t, "before", string(p.got[0].Message.Payload))
		})
	}
}

// A CONNACK that names an Authentication Method, which we have not, made paho
// call a handler that was nil: the process was gone.
func TestConnackWithAuthenticationMethod(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake(brokertest.Str(brokertest.PropAuthenticationMethod, "SCRAM"))
	p.up(0)
	flushed(c)
}

// An acknowledgement of a QoS that the message has not is a fault of the server
// that may cost a message if it is guessed about.
func TestAcknowledgementOfTheOtherQoS(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		level byte
		ack   brokertest.Type
	}{{1, brokertest.PUBREC}, {1, brokertest.PUBCOMP}, {2, brokertest.PUBACK}} {
		t.Run(fmt.Sprint(test.level, test.ack), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.Handshake()
			o := p.send(message("t", test.level, "m"))[0]
			id := c.ExpectPublish().PacketID
			c.Send(&brokertest.Packet{Type: test.ack, PacketID: id})
			c.ExpectDisconnect(brokertest.HasCode(0x82))
			c.Close()
			c = l.Accept(t.Context())
			c.Resume()
			c.ExpectPublish(brokertest.HasID(id), brokertest.HasDUP(true))
			require.True(t, p.open(o))
		})
	}
}

// More messages than our Receive Maximum allows [MQTT-3.3.4-9]: some are taken in, as
// mosquitto sends them, the others wait in the socket until there is room, for longer
// than anything may take that the server is to do. It is bounded what there is in
// memory, by number and by size.
func TestPublishFloodOverReceiveMaximum(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ excess, size int }{
		"number": {excessMessages, 1},
		"bytes":  {2, excessBytes / 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const limit = 500 * time.Millisecond
			l := brokertest.Listen(t)
			p := start(t, l.URL(), func(c *Config) {
				c.Engine.ReceiveMaximum, c.Engine.WriteTimeout, c.AckTimeout = 3, limit, limit
				c.Engine.MaximumPacketSize = excessBytes
			})
			c := l.Accept(t.Context())
			c.Handshake()
			most := 3 + test.excess
			for i := range most + 3 {
				m := publish(uint16(i+1), byte(i%2+1), "")
				if i >= 3 && i < most {
					m.Payload = make([]byte, test.size)
				}
				c.SendPublish(m)
			}
			p.delivery(most - 1)
			require.Eventually(t, func() bool { return p.link.Engine().Snapshot().Crowded }, patience, time.Millisecond)
			o := p.send(message("t", 1, "m"))[0]
			c.SendPuback(c.ExpectPublish().PacketID, 0)
			c.ExpectQuiet(2 * limit) // no DISCONNECT
			p.mu.Lock()
			require.Len(t, p.got, most)
			p.mu.Unlock()
			require.True(t, p.open(o), "its answer stands behind them")
			// With room comes the rest, and the answer.
			for i := range most + 3 {
				p.delivery(i).Ack(0)
			}
			for i := range most + 3 {
				if i%2 == 0 {
					c.ExpectPuback(brokertest.HasID(uint16(i + 1)))
				} else {
					c.ExpectPubrec(brokertest.HasID(uint16(i + 1)))
				}
			}
			p.end(o)
			require.False(t, p.link.Engine().Snapshot().Crowded)
		})
	}
}

// A link whose reader waits for room ends, and drops, as fast as any other.
func TestWaitForRoomEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) {
		c.Engine.ReceiveMaximum, c.Engine.WriteTimeout = 1, time.Hour
		c.Engine.MaximumPacketSize = 2 * excessBytes
	})
	large := publish(1, 1, "")
	large.Payload = make([]byte, excessBytes)
	c := l.Accept(t.Context())
	c.Handshake()
	c.SendPublish(large)
	c.SendPublish(publish(2, 1, "one too many"))
	p.delivery(0)
	p.link.Drop()
	c = l.Accept(t.Context())
	c.Resume()
	c.SendPublish(large)
	c.SendPublish(publish(2, 1, "one too many"))
	p.delivery(1)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = p.link.Close(within(t, patience))
	}()
	c.ExpectDisconnect(brokertest.HasCode(0))
	c.Close()
	select {
	case <-closed:
	case <-time.After(patience / 2):
		require.FailNow(t, "Close waits for room")
	}
}

// A server that sends PUBREL, and does not read the answers, must not fill our
// memory with them.
func TestPubrelFlood(t *testing.T) {
	t.Parallel()
	e := NewEngine(testConfig("mqtt://x").Engine)
	c := newConn(nil, e)
	e.conn, e.gen, c.begun = c, 1, true
	var err error
	n := 0
	for ; err == nil && n < 1<<20; n++ {
		_, err = e.handle(c, 0x62, []byte{byte(n >> 8), byte(n) | 1})
	}
	var fault *protocolError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, byte(0x96), fault.code)
	require.Equal(t, maxReplies+1, n)
}

// A packet of exactly the Maximum Packet Size that we declared is taken; one of
// a byte more is refused, and so is one that only says that it is larger,
// before any room is made for it.
func TestMaximumPacketSize(t *testing.T) {
	t.Parallel()
	const limit = 1000
	packet := brokertest.Packet{Type: brokertest.PUBLISH, Topic: "t"}
	packet.Payload = make([]byte, limit-len(packet.Encode())-1) // the remaining length takes a byte more
	require.Len(t, packet.Encode(), limit)
	larger := packet
	larger.Payload = make([]byte, len(packet.Payload)+1)
	for name, tooLarge := range map[string][]byte{
		"a byte more":      larger.Encode(),
		"256 MiB, at once": {0x30, 0xff, 0xff, 0xff, 0x7f},
		"not a PUBLISH":    append([]byte{0x90, 0xff, 0xff, 0xff, 0x7f}, make([]byte, 100)...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL(), func(c *Config) { c.Engine.MaximumPacketSize = limit })
			c := l.Accept(t.Context())
			c.Handshake()
			c.SendRaw(packet.Encode())
			require.Len(t, p.delivery(0).Message.Payload, len(packet.Payload))
			c.SendRaw(tooLarge)
			c.ExpectDisconnect(brokertest.HasCode(0x95))
			c.Close()
			require.ErrorContains(t, p.down(0), "Maximum Packet Size")
			require.LessOrEqual(t, cap(p.link.latest().in), readBufferSize)
		})
	}
}

// What came in the same segment as the DISCONNECT that ends the connection was
// received before it: neither a message nor an answer waits for the next
// connection, which may never be.
func TestReceivedBeforeDisconnect(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	o := p.send(message("t", 1, "m"))[0]
	id := c.ExpectPublish().PacketID
	c.SendRaw(slices.Concat(
		encoded(brokertest.Packet{Type: brokertest.PUBLISH, Topic: "t", Payload: []byte("last")}),
		encoded(brokertest.Packet{Type: brokertest.PUBACK, PacketID: id}),
		encoded(brokertest.Packet{Type: brokertest.DISCONNECT, Code: 0x8E}),
	))
	require.ErrorIs(t, p.done(), ErrSessionTakenOver)
	require.False(t, p.open(o))
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Len(t, p.got, 1)
}

// The reason for which we leave arrives, though the server has sent more than
// we read: a close with unread bytes in the socket would send RST after it. And
// nothing follows it [MQTT-3.14.4-2], even if there is much to send.
func TestRefusalIsRead(t *testing.T) {
	t.Parallel()
	for range 10 {
		l := brokertest.Listen(t)
		p := start(t, l.URL())
		c := l.Accept(t.Context())
		c.Handshake()
		p.up(0)
		more := make([]byte, 256<<10)
		c.SendRaw(append([]byte{0x30, 0}, more...)) // malformed, and what is behind it
		p.send(messages(0, 0, 100)...)
		for packet := c.Next(); packet.Type != brokertest.DISCONNECT; packet = c.Next() {
			require.Equal(t, brokertest.PUBLISH, packet.Type)
		}
		c.SendRaw(more)
		c.ExpectClosed()
		c.Close()
	}
}
