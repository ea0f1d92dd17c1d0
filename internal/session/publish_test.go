package session

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// The tests whose names begin with two digits are cases of mosquitto's test
// suite, done again by behaviour for MQTT 5.

func Test03PublishC2BQoS1Disconnect(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	o := p.send(message("pub/qos1", 1, "m"))[0]
	first := c.ExpectPublish(brokertest.HasQoS(1), brokertest.HasDUP(false), brokertest.HasPayload("m"))
	c.Reset()

	c = l.Accept(t.Context())
	c.Resume()
	again := c.ExpectPublish(brokertest.HasDUP(true), brokertest.HasID(first.PacketID), brokertest.HasPayload("m"))
	require.Equal(t, first.MessageID(), again.MessageID())
	c.SendPuback(first.PacketID, 0)
	require.Equal(t, qos.Success, p.end(o).Class)
}

// ackForms are the ways to write an acknowledgement without saying anything
// else than success.
func ackForms() map[string]func(*brokertest.Conn, brokertest.Type, uint16) {
	form := func(f brokertest.Form, props ...brokertest.Property) func(*brokertest.Conn, brokertest.Type, uint16) {
		return func(c *brokertest.Conn, typ brokertest.Type, id uint16) { c.SendAck(typ, f, id, 0, props...) }
	}
	return map[string]func(*brokertest.Conn, brokertest.Type, uint16){
		"two bytes":               form(brokertest.FormShort),
		"with a code":             form(brokertest.FormCode),
		"with a property length":  form(brokertest.FormFull),
		"with a reason string":    form(brokertest.FormFull, brokertest.ReasonString("fine")),
		"with user properties":    form(brokertest.FormFull, brokertest.UserProperty("a", "b"), brokertest.UserProperty("a", "")),
		"with all sorts of those": form(brokertest.FormFull, brokertest.UserProperty("", ""), brokertest.ReasonString("fine")),
	}
}

func Test03PublishC2BQoS1Len(t *testing.T) {
	t.Parallel()
	for name, ack := range ackForms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.Handshake()
			o := p.send(message("t", 1, "m"))[0]
			ack(c, brokertest.PUBACK, c.ExpectPublish().PacketID)
			require.Equal(t, qos.Success, p.end(o).Class)
		})
	}
}

func Test03PublishC2BQoS2Len(t *testing.T) {
	t.Parallel()
	for name, ack := range ackForms() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.Handshake()
			o := p.send(message("t", 2, "m"))[0]
			id := c.ExpectPublish().PacketID
			ack(c, brokertest.PUBREC, id)
			c.ExpectPubrel(brokertest.HasID(id), brokertest.HasCode(0))
			ack(c, brokertest.PUBCOMP, id)
			require.Equal(t, qos.Success, p.end(o).Class)
		})
	}
}

func Test03PublishC2BQoS1ReceiveMaximum(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake(brokertest.ReceiveMaximum(3))
	all := p.send(messages(1, 0, 12)...)
	var open []uint16
	for i := range all {
		if len(open) == 3 {
			// The fourth would come before this answer, if it came at all.
			flushed(c)
			c.SendPuback(open[0], 0)
			open = open[1:]
		}
		open = append(open, c.ExpectPublish(brokertest.HasPayload(fmt.Sprint(i))).PacketID)
	}
	for _, id := range open {
		c.SendPuback(id, 0)
	}
	p.allEnd(all)
}

func Test03PublishC2BQoS2ReceiveMaximum(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 2} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.Handshake(brokertest.ReceiveMaximum(uint16(limit)))
			all := p.send(messages(2, 0, 6)...)
			for done := 0; done < len(all); done += limit {
				var ids []uint16
				for range limit {
					ids = append(ids, c.ExpectPublish().PacketID)
				}
				for _, id := range ids {
					c.SendPubrec(id, 0)
				}
				for _, id := range ids {
					c.ExpectPubrel(brokertest.HasID(id)) // PUBREC gives no quota back, so no PUBLISH
				}
				flushed(c)
				for _, id := range ids {
					c.SendPubcomp(id, 0)
				}
			}
			p.allEnd(all)
		})
	}
}

// Cut at each of the three steps of the exchange, with the session kept.
func Test03PublishC2BQoS2Disconnect(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	o := p.send(message("t", 2, "m"))[0]
	id := c.ExpectPublish(brokertest.HasDUP(false)).PacketID
	c.Reset()

	c = l.Accept(t.Context())
	c.Resume()
	c.ExpectPublish(brokertest.HasDUP(true), brokertest.HasID(id))
	c.SendPubrec(id, 0)
	c.ExpectPubrel(brokertest.HasID(id))
	c.Reset()

	c = l.Accept(t.Context())
	c.Resume()
	c.ExpectPubrel(brokertest.HasID(id)) // never the PUBLISH again [MQTT-4.3.3-7]
	flushed(c)
	c.Reset()

	c = l.Accept(t.Context())
	c.Resume()
	c.ExpectPubrel(brokertest.HasID(id))
	require.True(t, p.open(o))
	c.SendPubcomp(id, 0)
	require.Equal(t, qos.Success, p.end(o).Class)
}

// A message over the server's Maximum QoS, which the server would answer by
// ending the connection, fails by itself; others flow.
func Test03PublishC2BQoS2MaximumQoS(t *testing.T) {
	t.Parallel()
	for _, limit := range []byte{0, 1} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.Handshake(brokertest.MaximumQoS(limit))
			all := p.send(message("t", 2, "over"), message("t", limit, "fits"))
			publish := c.ExpectPublish(brokertest.HasPayload("fits"))
			if limit == 1 {
				c.SendPuback(publish.PacketID, 0)
			}
			end := p.end(all[0])
			require.Equal(t, byte(0x9B), end.Code)
			require.Equal(t, qos.Permanent, end.Class)
			require.Contains(t, end.Reason, "Maximum QoS")
			require.Equal(t, qos.Success, p.end(all[1]).Class)
			require.Equal(t, 1, l.Connections())
		})
	}
}

func Test03PublishC2BQoS2PubrecError(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	all := p.send(messages(2, 0, 2)...)
	refused, taken := c.ExpectPublish(), c.ExpectPublish()
	c.SendPubrec(refused.PacketID, 0x97, brokertest.ReasonString("full"))
	end := p.end(all[0])
	require.Equal(t, byte(0x97), end.Code)
	require.Equal(t, "full", end.Reason)
	require.Equal(t, qos.Retry, end.Class)
	c.SendPubrec(taken.PacketID, 0)
	c.ExpectPubrel(brokertest.HasID(taken.PacketID)) // and none for the refused one
	c.SendPubcomp(taken.PacketID, 0)
	require.Equal(t, qos.Success, p.end(all[1]).Class)
	// The owner may hand the same Outgoing in again; it is a new exchange.
	p.mu.Lock()
	delete(p.ended, all[0])
	p.queue = append(p.queue, all[0])
	p.mu.Unlock()
	p.link.Engine().Wake()
	again := c.ExpectPublish(brokertest.HasPayload("0"), brokertest.HasDUP(false))
	require.NotEqual(t, refused.PacketID, again.PacketID)
	c.SendPubrec(again.PacketID, 0)
	c.ExpectPubrel()
	c.SendPubcomp(again.PacketID, 0)
	require.Equal(t, qos.Success, p.end(all[0]).Class)
}

// What is over the server's Maximum Packet Size is not sent: neither by a byte
// nor by far. What just fits is.
func Test11PropOversizePacket(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	fits := message("t", 1, "fits")
	over := message("t", 1, "fits!")
	over.ID = fits.ID
	c.Handshake(brokertest.MaximumPacketSize(uint32(PacketSize(fits, ""))))
	far := &persist.Message{Topic: "t", QoS: 1, Payload: make([]byte, 100_000)}
	all := p.send(over, far, fits)
	publish := c.ExpectPublish(brokertest.HasPayload("fits"))
	require.Len(t, publish.Raw, PacketSize(fits, ""))
	c.SendPuback(publish.PacketID, 0)
	for _, o := range all[:2] {
		end := p.end(o)
		require.Equal(t, byte(0x95), end.Code)
		require.Equal(t, qos.Permanent, end.Class)
	}
	require.Equal(t, qos.Success, p.end(all[2]).Class)
	require.Equal(t, 1, l.Connections())
}

// MQTT 5 turns these two cases around: on a connection that lives nothing is
// sent again [MQTT-4.4.0-1].
func Test03PublishC2BTimeout(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{1, 2} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.Handshake()
			o := p.send(message("t", level, "m"))[0]
			c.ExpectPublish()
			for range 3 {
				p.link.Engine().Wake()
				flushed(c)
			}
			require.True(t, p.open(o))
		})
	}
}

func Test03RequestResponseCorrelation(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	m := message("request", 0, "?")
	m.Properties.ResponseTopic = "response"
	m.Properties.CorrelationData = []byte("corridor\x00\xff")
	p.send(m)
	publish := c.ExpectPublish(brokertest.HasTopic("request"))
	topic, _ := publish.Properties.Str(brokertest.PropResponseTopic)
	require.Equal(t, "response", topic)
	data, _ := publish.Properties.Str(brokertest.PropCorrelationData)
	require.Equal(t, "corridor\x00\xff", data)

	// A receipt is asked for with the same two properties.
	o := &Outgoing{Message: message("t", 0, "receipt"), ReceiptTopic: "receipts/1"}
	p.mu.Lock()
	p.queue = append(p.queue, o)
	p.mu.Unlock()
	p.link.Engine().Wake()
	publish = c.ExpectPublish(brokertest.HasPayload("receipt"))
	topic, _ = publish.Properties.Str(brokertest.PropResponseTopic)
	require.Equal(t, "receipts/1", topic)
	data, _ = publish.Properties.Str(brokertest.PropCorrelationData)
	require.Equal(t, "id-receipt", data)
}

func Test04RetainQoS0And03PublishQoS0NoPayload(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	retained := message("retain/qos0", 0, "kept")
	retained.Retain = true
	all := p.send(retained, &persist.Message{Topic: "empty"})
	require.Equal(t, byte(0x31), c.ExpectPublish(brokertest.HasRetain(true), brokertest.HasPayload("kept")).Raw[0])
	empty := c.ExpectPublish(brokertest.HasTopic("empty"), brokertest.HasPayload(""))
	require.Equal(t, []byte{0x30, 8, 0, 5, 'e', 'm', 'p', 't', 'y', 0}, empty.Raw)
	p.allEnd(all)
}

func TestRetainIsNotAvailable(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake(brokertest.RetainAvailable(false))
	m := message("t", 1, "kept")
	m.Retain = true
	end := p.end(p.send(m)[0])
	require.Equal(t, byte(0x9A), end.Code)
	require.Equal(t, qos.Permanent, end.Class)
	flushed(c)
}

// Every property goes out as it is, and the rest of the message's life with it.
func Test11PropSend(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	m := message("t", 0, "{}")
	m.Expiry, m.OrderingKey = 90*time.Second, "k"
	m.Properties.UTF8, m.Properties.ContentType = true, "application/json"
	m.Properties.User = []persist.UserProperty{{Name: "a", Value: "1"}, {Name: "a", Value: "2"}}
	p.send(m)
	publish := c.ExpectPublish(brokertest.HasUserProperty("message-id", "id-{}"), brokertest.HasUserProperty("ordering-key", "k"))
	require.Equal(t, brokertest.Properties{
		brokertest.Num(brokertest.PropPayloadFormatIndicator, 1),
		brokertest.MessageExpiryInterval(90),
		brokertest.Str(brokertest.PropContentType, "application/json"),
		brokertest.UserProperty("message-id", "id-{}"),
		brokertest.UserProperty("ordering-key", "k"),
		brokertest.UserProperty("a", "1"),
		brokertest.UserProperty("a", "2"),
	}, publish.Properties)
}
