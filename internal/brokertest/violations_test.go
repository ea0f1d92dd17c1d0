package brokertest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// step is one thing that the client does.
type step func(t *testing.T, b *brokertest.Broker, c *client)

func pub(id uint16, qos byte, dup bool, payload string) step {
	return func(_ *testing.T, _ *brokertest.Broker, c *client) { c.publish(id, qos, dup, payload) }
}

func rel(id uint16) step {
	return func(_ *testing.T, _ *brokertest.Broker, c *client) { c.SendPubrel(id, 0) }
}

// expect waits for an answer of the broker.
func expect(typ brokertest.Type, checks ...brokertest.Check) step {
	return func(_ *testing.T, _ *brokertest.Broker, c *client) { c.Expect(typ, checks...) }
}

// away resets the connection and connects again.
func away(t *testing.T, b *brokertest.Broker, c *client) {
	t.Helper()
	c.Reset()
	require.NoError(t, b.Wait(timeout(t), func() bool { return len(b.Connected()) == 0 }))
	*c = hand(t, b, "c", 0, 60)
}

func hold(_ *testing.T, b *brokertest.Broker, _ *client)    { b.HoldAcks() }
func release(_ *testing.T, b *brokertest.Broker, _ *client) { b.ReleaseAcks() }

// forget makes the broker lose the session.
func forget(t *testing.T, b *brokertest.Broker, c *client) {
	t.Helper()
	b.Forget()
	*c = hand(t, b, "c", 0, 60)
}

// arrived waits until the broker has read so many PUBLISH packets.
func arrived(n int) step {
	return func(t *testing.T, b *brokertest.Broker, _ *client) {
		t.Helper()
		require.NoError(t, b.Wait(timeout(t), func() bool { return len(b.Arrivals()) >= n }))
	}
}

// subscribed has the client subscribe, and gives it two messages.
func subscribed(qos byte) step {
	return func(_ *testing.T, b *brokertest.Broker, c *client) {
		c.subscribe("in", qos)
		for _, payload := range []string{"first", "second"} {
			b.Publish(brokertest.Packet{Topic: "in", QoS: qos, Payload: []byte(payload)})
			c.ExpectPublish(brokertest.HasPayload(payload))
		}
	}
}

func ack(typ brokertest.Type, id uint16) step {
	return func(_ *testing.T, _ *brokertest.Broker, c *client) { c.SendAck(typ, brokertest.FormAuto, id, 0) }
}

func raw(bytes ...byte) step {
	return func(_ *testing.T, _ *brokertest.Broker, c *client) { c.SendRaw(bytes) }
}

func packet(p brokertest.Packet) step {
	return func(_ *testing.T, _ *brokertest.Broker, c *client) { c.Send(&p) }
}

const (
	puback  = brokertest.PUBACK
	pubrec  = brokertest.PUBREC
	pubrel  = brokertest.PUBREL
	pubcomp = brokertest.PUBCOMP
)

func TestViolations(t *testing.T) {
	t.Parallel()
	limited := brokertest.Options{
		ReceiveMaximum: 2, MaximumQoS: new(byte(1)), MaximumPacketSize: 100, RetainUnavailable: true,
	}
	ends := func(code byte) step { return expect(brokertest.DISCONNECT, brokertest.HasCode(code)) }
	for name, c := range map[string]struct {
		options brokertest.Options
		steps   []step
		want    string // part of the only violation; "" for none
	}{
		"QoS 1, one identifier again and again": {
			steps: []step{pub(1, 1, false, "a"), expect(puback), pub(1, 1, false, "b"), expect(puback)},
		},
		"QoS 1 repeated after a cut": {
			steps: []step{hold, pub(1, 1, false, "a"), pub(2, 1, false, "b"), arrived(2), away, pub(1, 1, true, "a"), pub(2, 1, true, "b"), arrived(4)},
		},
		"never arrived, repeated after a cut": {
			steps: []step{away, pub(1, 1, true, "a"), expect(puback), pub(2, 2, true, "b"), expect(pubrec)},
		},
		"acknowledged, but the client did not see it": {
			steps: []step{pub(1, 1, false, "a"), arrived(1), away, pub(1, 1, true, "a"), expect(puback)},
		},
		"QoS 2 repeated after a cut": {
			steps: []step{pub(1, 2, false, "a"), arrived(1), away, pub(1, 2, true, "a"), expect(pubrec), rel(1), expect(pubcomp, brokertest.HasCode(0))},
		},
		"PUBREL repeated after a cut": {
			steps: []step{pub(1, 2, false, "a"), expect(pubrec), rel(1), expect(pubcomp), away, rel(1), expect(pubcomp, brokertest.HasCode(0x92))},
		},
		"new message in a new session": {
			steps: []step{hold, pub(1, 1, false, "a"), arrived(1), forget, pub(1, 1, false, "a"), arrived(2)},
		},
		"QoS 1 repeated on a live connection": {
			steps: []step{hold, pub(1, 1, false, "a"), pub(1, 1, true, "a"), arrived(2)},
			want:  "[MQTT-4.4.0-1]",
		},
		"identifier in use": {
			steps: []step{hold, pub(1, 1, false, "a"), pub(1, 1, false, "b"), arrived(2)},
			want:  "[MQTT-2.2.1-4]",
		},
		"identifier of the other QoS in use": {
			steps: []step{pub(1, 2, false, "a"), expect(pubrec), pub(1, 1, false, "b"), arrived(2)},
			want:  "[MQTT-2.2.1-4]",
		},
		"identifier in use since before a cut": {
			steps: []step{hold, pub(1, 1, false, "a"), arrived(1), away, pub(1, 1, false, "b"), arrived(2)},
			want:  "[MQTT-2.2.1-4]",
		},
		"PUBLISH after PUBREC on a live connection": {
			steps: []step{pub(1, 2, false, "a"), expect(pubrec), pub(1, 2, true, "a"), expect(pubrec)},
			want:  "[MQTT-4.3.3-6]",
		},
		"PUBLISH after PUBREL, after a cut": {
			steps: []step{pub(1, 2, false, "a"), expect(pubrec), rel(1), expect(pubcomp), away, pub(1, 2, true, "a"), expect(pubrec)},
			want:  "[MQTT-4.3.3-6]",
		},
		"repeated without DUP": {
			steps: []step{hold, pub(1, 1, false, "a"), arrived(1), away, pub(1, 1, false, "a"), arrived(2)},
			want:  "without DUP [MQTT-3.3.1-1]",
		},
		"QoS 2 repeated without DUP": {
			steps: []step{pub(1, 2, false, "a"), arrived(1), away, pub(1, 2, false, "a"), arrived(2)},
			want:  "without DUP [MQTT-3.3.1-1]",
		},
		"DUP in a new session": {
			steps: []step{hold, pub(1, 1, false, "a"), arrived(1), forget, pub(1, 1, true, "a"), arrived(2)},
			want:  "DUP in a new session",
		},
		"repeated out of order": {
			steps: []step{hold, pub(1, 1, false, "a"), pub(2, 1, false, "b"), arrived(2), away, pub(2, 1, true, "b"), pub(1, 1, true, "a"), arrived(4)},
			want:  "[MQTT-4.6.0-1]",
		},
		"PUBREL out of order": {
			steps: []step{pub(1, 2, false, "a"), expect(pubrec), pub(2, 2, false, "b"), expect(pubrec), rel(2), expect(pubcomp), rel(1), expect(pubcomp)},
			want:  "[MQTT-4.6.0-4]",
		},
		"PUBREL without an exchange": {
			steps: []step{rel(5), expect(pubcomp, brokertest.HasCode(0x92))},
			want:  "PUBREL without an exchange",
		},
		"Receive Maximum kept": {
			options: limited,
			steps:   []step{hold, pub(1, 1, false, "a"), pub(2, 1, false, "b"), arrived(2), release, expect(puback), expect(puback), hold, pub(3, 1, false, "c"), pub(4, 1, false, "d"), arrived(4)},
		},
		"Receive Maximum exceeded": {
			options: limited,
			steps:   []step{hold, pub(1, 1, false, "a"), pub(2, 1, false, "b"), pub(3, 1, false, "c"), ends(0x93)},
			want:    "[MQTT-3.3.4-9]",
		},
		"Receive Maximum exceeded by repeating": {
			options: limited,
			steps:   []step{hold, away, pub(1, 1, true, "a"), pub(2, 1, true, "b"), pub(3, 1, true, "c"), ends(0x93)},
			want:    "[MQTT-3.3.4-9]",
		},
		"QoS 2 holds the quota after PUBREC": {
			options: brokertest.Options{ReceiveMaximum: 1},
			steps:   []step{pub(1, 2, false, "a"), expect(pubrec), pub(2, 2, false, "b"), ends(0x93)},
			want:    "[MQTT-3.3.4-9]",
		},
		"QoS 2 gives the quota back": {
			options: brokertest.Options{ReceiveMaximum: 1},
			steps:   []step{pub(1, 2, false, "a"), expect(pubrec), rel(1), expect(pubcomp), pub(2, 2, false, "b"), expect(pubrec)},
		},
		"refused QoS 2 gives the quota back": {
			options: brokertest.Options{ReceiveMaximum: 1, Answers: []brokertest.Answer{{Topic: "t", Code: 0x97, Times: 1}}},
			steps:   []step{pub(1, 2, false, "a"), expect(pubrec, brokertest.HasCode(0x97)), pub(2, 2, false, "a"), expect(pubrec)},
		},
		"over the Maximum QoS": {
			options: limited,
			steps:   []step{pub(1, 2, false, "a"), ends(0x9B)},
			want:    "[MQTT-3.2.2-11]",
		},
		"over the Maximum Packet Size": {
			options: limited,
			steps:   []step{packet(brokertest.Packet{Type: brokertest.PUBLISH, Topic: "t", Payload: make([]byte, 100)}), ends(0x95)},
			want:    "[MQTT-3.2.2-15]",
		},
		"retain not available": {
			options: limited,
			steps:   []step{packet(brokertest.Packet{Type: brokertest.PUBLISH, Topic: "t", Retain: true}), ends(0x9A)},
			want:    "[MQTT-3.2.2-14]",
		},
		"topic alias": {
			steps: []step{packet(brokertest.Packet{Type: brokertest.PUBLISH, Topic: "t", Properties: brokertest.Properties{brokertest.TopicAlias(1)}}), ends(0x94)},
			want:  "[MQTT-3.2.2-17]",
		},
		"subscription identifier": {
			steps: []step{packet(brokertest.Packet{Type: brokertest.PUBLISH, Topic: "t", Properties: brokertest.Properties{brokertest.SubscriptionIdentifier(1)}}), ends(0x82)},
			want:  "[MQTT-3.3.4-6]",
		},
		"malformed":      {steps: []step{raw(0x36, 0), ends(0x81)}, want: "QoS 3"},
		"second CONNECT": {steps: []step{packet(brokertest.Packet{Type: brokertest.CONNECT}), ends(0x82)}, want: "may not send"},
		"filter not well formed": {
			steps: []step{packet(brokertest.Packet{Type: brokertest.SUBSCRIBE, PacketID: 1, Filters: []brokertest.Filter{{Topic: "a/#/b"}}}), expect(brokertest.SUBACK)},
			want:  "topic filter",
		},
		"No Local in a shared subscription": {
			steps: []step{packet(brokertest.Packet{Type: brokertest.SUBSCRIBE, PacketID: 1, Filters: []brokertest.Filter{{Topic: "$share/g/b", NoLocal: true}}}), expect(brokertest.SUBACK)},
			want:  "[MQTT-3.8.3-4]",
		},
		"acks in order":    {steps: []step{subscribed(1), ack(puback, 1), ack(puback, 2)}},
		"PUBRECs in order": {steps: []step{subscribed(2), ack(pubrec, 1), ack(pubrec, 2), expect(pubrel), expect(pubrel), ack(pubcomp, 2), ack(pubcomp, 1)}},
		"PUBACK out of order": {
			steps: []step{subscribed(1), ack(puback, 2), ack(puback, 1)},
			want:  "[MQTT-4.6.0-2]",
		},
		"PUBREC out of order": {
			steps: []step{subscribed(2), ack(pubrec, 2), ack(pubrec, 1)},
			want:  "[MQTT-4.6.0-3]",
		},
		"PUBACK twice": {
			steps: []step{subscribed(1), ack(puback, 1), ack(puback, 2), ack(puback, 2)},
			want:  "acknowledgement of nothing",
		},
		"PUBCOMP without PUBREC": {
			steps: []step{subscribed(2), ack(pubcomp, 1)},
			want:  "PUBCOMP without a PUBREL",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t, c.options)
			conn := hand(t, b, "c", 0, 60)
			for _, s := range c.steps {
				s(t, b, &conn)
			}
			if conn.Log().Select(brokertest.In, brokertest.DISCONNECT) == nil {
				// What was sent is processed when its answer comes.
				conn.Send(&brokertest.Packet{Type: brokertest.PINGREQ})
				for conn.Next().Type != brokertest.PINGRESP { // the answers before it do not matter
				}
			}
			violations := b.Violations()
			if c.want == "" {
				require.Empty(t, violations)
				return
			}
			require.Len(t, violations, 1)
			require.Contains(t, violations[0], c.want)
		})
	}
}

func TestFirstPacketMustBeConnect(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{})
	c := brokertest.Dial(t, b.Addr())
	c.Send(&brokertest.Packet{Type: brokertest.PINGREQ})
	c.ExpectClosed()
	require.Len(t, b.Violations(), 1)
	require.Contains(t, b.Violations()[0], "[MQTT-3.1.0-1]")
}
