package session

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

func publish(id uint16, level byte, payload string) brokertest.Packet {
	return brokertest.Packet{Topic: "t", QoS: level, PacketID: id, Payload: []byte(payload)}
}

// The acknowledgement leaves when the owner says so, not before.
func Test03PublishB2CQoS1(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	c.SendPublish(brokertest.Packet{Topic: "pub/qos1/receive", QoS: 1, PacketID: 123, Payload: []byte("message")})
	d := p.delivery(0)
	require.Equal(t, "pub/qos1/receive", d.Message.Topic)
	require.Equal(t, byte(1), d.Message.QoS)
	require.Equal(t, 1, p.link.Engine().Snapshot().Unacked)
	flushed(c) // and no PUBACK before the answer
	d.Ack(0)
	d.Ack(0x80) // only the first counts
	c.ExpectPuback(brokertest.HasID(123), brokertest.HasCode(0))
	flushed(c)
	require.Zero(t, p.link.Engine().Snapshot().Unacked)
}

func Test03PublishB2CQoS1UnexpectedPuback(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	c.SendPuback(13423, 0)
	c.SendPublish(publish(123, 1, "m"))
	p.delivery(0).Ack(0)
	c.ExpectPuback(brokertest.HasID(123))
}

// One effect, however often the PUBLISH comes before its PUBREL.
func Test03PublishB2CQoS2(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	m := publish(13423, 2, "message")
	c.SendPublish(m)
	d := p.delivery(0)
	m.DUP = true
	c.SendPublish(m) // still in work
	flushed(c)
	d.Ack(0)
	c.ExpectPubrec(brokertest.HasID(13423), brokertest.HasCode(0))
	c.SendPublish(m) // PUBREC was late, or lost
	c.ExpectPubrec(brokertest.HasID(13423), brokertest.HasCode(0))
	c.SendPubrel(13423, 0)
	c.ExpectPubcomp(brokertest.HasID(13423), brokertest.HasCode(0))
	m.DUP, m.Payload = false, []byte("another")
	c.SendPublish(m) // the identifier is free again
	require.Equal(t, "another", string(p.delivery(1).Message.Payload))
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Len(t, p.got, 2)
}

func Test03PublishB2CQoS2Len(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	id := uint16(0)
	for name, ack := range ackForms() {
		id++
		c.SendPublish(publish(id, 2, name))
		p.delivery(int(id) - 1).Ack(0)
		c.ExpectPubrec(brokertest.HasID(id))
		ack(c, brokertest.PUBREL, id)
		c.ExpectPubcomp(brokertest.HasID(id), brokertest.HasCode(0))
	}
}

func Test03PublishB2CQoS2UnexpectedPubcomp(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	c.SendPubcomp(12345, 0)
	// Neither does one end an exchange of ours that has had no PUBREC.
	o := p.send(message("t", 2, "m"))[0]
	id := c.ExpectPublish().PacketID
	c.SendPubcomp(id, 0)
	flushed(c)
	require.True(t, p.open(o))
	c.SendPubrec(id, 0)
	c.ExpectPubrel()
	c.SendPubcomp(id, 0)
	p.end(o)
}

func Test03PublishB2CQoS2UnexpectedPubrel(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	c.SendPubrel(13423, 0)
	c.ExpectPubcomp(brokertest.HasID(13423), brokertest.HasCode(0x92))
}

// A PUBREC for nothing is answered with 0x92, one that comes twice with the
// same PUBREL, and a doubled PUBACK, PUBREC or PUBCOMP touches no other message.
func TestDoubledAcknowledgements(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	c.SendPubrec(777, 0)
	c.ExpectPubrel(brokertest.HasID(777), brokertest.HasCode(0x92))
	all := p.send(message("t", 1, "one"), message("t", 2, "two"), message("t", 1, "other"))
	one, two, other := c.ExpectPublish().PacketID, c.ExpectPublish().PacketID, c.ExpectPublish().PacketID
	c.SendPuback(one, 0)
	c.SendPuback(one, 0x97)
	c.SendPubrec(two, 0)
	c.ExpectPubrel(brokertest.HasID(two))
	c.SendPubrec(two, 0)
	c.ExpectPubrel(brokertest.HasID(two), brokertest.HasCode(0))
	c.SendPubrec(two, 0x97) // too late to refuse
	c.ExpectPubrel(brokertest.HasID(two), brokertest.HasCode(0))
	c.SendPubcomp(two, 0)
	c.SendPubcomp(two, 0)
	c.SendPubrec(two, 0)
	c.ExpectPubrel(brokertest.HasID(two), brokertest.HasCode(0x92))
	p.allEnd(all[:2])
	require.True(t, p.open(all[2]))
	c.SendPuback(other, 0)
	p.allEnd(all)
}

// Acknowledgements leave in the order in which the messages came, whatever the
// order in which the work is done, and with their reason codes [MQTT-4.6.0-2].
func TestAcknowledgementsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	for id := uint16(1); id <= 6; id++ {
		c.SendPublish(publish(id, byte(id%2)+1, fmt.Sprint(id)))
	}
	p.delivery(5)
	for _, i := range []int{5, 3, 1, 4, 2} {
		p.delivery(i).Ack(0)
	}
	flushed(c) // the first holds all others up
	p.delivery(0).Ack(0x83)
	c.ExpectPubrec(brokertest.HasID(1), brokertest.HasCode(0x83))
	c.ExpectPuback(brokertest.HasID(2))
	c.ExpectPubrec(brokertest.HasID(3))
	c.ExpectPuback(brokertest.HasID(4))
	c.ExpectPubrec(brokertest.HasID(5))
	c.ExpectPuback(brokertest.HasID(6))
	// 0x83 has ended the exchange: the identifier is free without a PUBREL.
	c.SendPublish(publish(1, 2, "new"))
	require.Equal(t, "new", string(p.delivery(6).Message.Payload))
}

// C6 of the failure catalogue: after the session was lost the server uses its
// packet identifiers again, for other messages.
func TestSamePacketIdentifierInANewSession(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{1, 2} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.Handshake()
			c.SendPublish(publish(5, level, "old"))
			old := p.delivery(0)
			c.Reset()
			c = l.Accept(t.Context())
			c.Handshake()
			p.up(1)
			require.True(t, old.Stale())
			c.SendPublish(publish(5, level, "new"))
			fresh := p.delivery(1)
			require.Equal(t, "new", string(fresh.Message.Payload))
			old.Ack(0) // late: it must not acknowledge the new one
			flushed(c)
			fresh.Ack(0)
			c.Next()
		})
	}
}

// C7: an acknowledgement that comes after its connection is dropped, even if
// the server uses the identifier for something else meanwhile.
func TestLateAcknowledgementQoS1(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	c.SendPublish(publish(5, 1, "slow"))
	slow := p.delivery(0)
	require.False(t, slow.Stale())
	c.Reset()
	_ = p.down(0)
	require.True(t, slow.Stale())
	c = l.Accept(t.Context())
	c.Resume()
	p.up(1)
	require.True(t, slow.Stale())
	slow.Ack(0)
	flushed(c)
	c.SendPublish(brokertest.Packet{Topic: "t", QoS: 1, PacketID: 5, DUP: true, Payload: []byte("slow")})
	again := p.delivery(1)
	require.True(t, again.Dup)
	flushed(c)
	again.Ack(0)
	c.ExpectPuback(brokertest.HasID(5))
}

// A QoS 2 message belongs to the session, not to the connection: who works on
// it when the link goes is not given it again, and what it acknowledges
// meanwhile is answered when the server asks again.
func TestLateAcknowledgementQoS2(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	c.SendPublish(publish(1, 2, "acked while down"))
	c.SendPublish(publish(2, 2, "acked later"))
	c.SendPublish(publish(3, 2, "PUBREC lost"))
	first, second := p.delivery(0), p.delivery(1)
	p.delivery(2)
	c.Reset()
	_ = p.down(0)
	first.Ack(0)
	require.False(t, first.Stale())

	c = l.Accept(t.Context())
	c.Resume()
	p.up(1)
	for id := uint16(1); id <= 2; id++ {
		m := publish(id, 2, "x")
		m.DUP = true
		c.SendPublish(m)
	}
	c.ExpectPubrec(brokertest.HasID(1))
	flushed(c)
	second.Ack(0)
	c.ExpectPubrec(brokertest.HasID(2))
	c.SendPubrel(1, 0)
	c.ExpectPubcomp(brokertest.HasID(1), brokertest.HasCode(0))
	c.Reset() // before PUBREL of 2

	c = l.Accept(t.Context())
	c.Resume()
	m := publish(2, 2, "x")
	m.DUP = true
	c.SendPublish(m)
	c.ExpectPubrec(brokertest.HasID(2))
	c.SendPubrel(2, 0)
	c.ExpectPubcomp(brokertest.HasID(2), brokertest.HasCode(0))
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Len(t, p.got, 3, "nobody is handed a message twice")
}

// Several packets in one segment, and one packet in many, are the same stream.
func TestPacketsInOneReadAndInMany(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	var stream []byte
	for id := uint16(1); id <= 10; id++ {
		packet := publish(id, 1, fmt.Sprint(id))
		packet.Type = brokertest.PUBLISH
		stream = append(stream, packet.Encode()...)
	}
	c.SendRaw(stream)
	for i := range 10 {
		d := p.delivery(i)
		require.Equal(t, fmt.Sprint(i+1), string(d.Message.Payload))
		d.Ack(0)
		c.ExpectPuback(brokertest.HasID(uint16(i + 1)))
	}
	for _, b := range stream[:len(stream)/5] {
		c.SendRaw([]byte{b})
	}
	require.Equal(t, "2", string(p.delivery(11).Message.Payload))
}

// Payloads that are larger than the buffers, both ways, and what comes after.
func TestLargePayloads(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.Engine.MaximumPacketSize = 8 << 20 })
	c := l.Accept(t.Context())
	c.Handshake()
	large := make([]byte, 3<<20)
	for i := range large {
		large[i] = byte(i * i >> 3)
	}
	for range 2 {
		c.SendPublish(brokertest.Packet{Topic: "t", Payload: large})
		c.SendPublish(publish(0, 0, "small"))
	}
	require.Equal(t, large, p.delivery(2).Message.Payload)
	require.Equal(t, "small", string(p.delivery(3).Message.Payload))
	all := p.send(&persist.Message{Topic: "t", QoS: 1, Payload: large}, message("t", 1, "small"))
	got := c.ExpectPublish()
	require.Equal(t, large, got.Payload)
	c.SendPuback(got.PacketID, 0)
	c.SendPuback(c.ExpectPublish(brokertest.HasPayload("small")).PacketID, 0)
	p.allEnd(all)
}

// Everything that a PUBLISH can carry arrives.
func Test11PropRecv(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	for level := byte(0); level <= 2; level++ {
		packet := publish(uint16(level), level, "{}")
		packet.Retain = true
		packet.Properties = brokertest.Properties{
			brokertest.UserProperty("message-id", "one"),
			brokertest.SubscriptionIdentifier(1),
			brokertest.Num(brokertest.PropPayloadFormatIndicator, 1),
			brokertest.MessageExpiryInterval(60),
			brokertest.Str(brokertest.PropContentType, "application/json"),
			brokertest.Str(brokertest.PropResponseTopic, "r"),
			brokertest.Str(brokertest.PropCorrelationData, "\x00\xff"),
			brokertest.SubscriptionIdentifier(268_435_455),
			brokertest.UserProperty("ordering-key", "k"),
			brokertest.UserProperty("a", ""),
		}
		c.SendPublish(packet)
		d := p.delivery(int(level))
		require.Equal(t, []uint32{1, 268_435_455}, d.SubscriptionIDs)
		require.False(t, d.Dup)
		require.Equal(t, persist.Message{
			ID: "one", Topic: "t", Payload: []byte("{}"), QoS: level, Retain: true, OrderingKey: "k", Expiry: time.Minute,
			Properties: persist.Properties{
				UTF8: true, ContentType: "application/json", ResponseTopic: "r", CorrelationData: []byte("\x00\xff"),
				User: []persist.UserProperty{{Name: "message-id", Value: "one"}, {Name: "ordering-key", Value: "k"}, {Name: "a"}},
			},
		}, d.Message)
		d.Ack(0)
	}
}
