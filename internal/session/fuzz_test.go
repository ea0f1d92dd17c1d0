package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// noConn is a connection that nobody is at the other end of.
type noConn struct{ net.Conn }

func (noConn) Read([]byte) (int, error)         { return 0, io.EOF }
func (noConn) Write(p []byte) (int, error)      { return len(p), nil }
func (noConn) Close() error                     { return nil }
func (noConn) SetReadDeadline(time.Time) error  { return nil }
func (noConn) SetWriteDeadline(time.Time) error { return nil }

// cutConn gives a stream in pieces; cuts are the lengths of those, in turn.
type cutConn struct {
	noConn
	stream []byte
	cuts   []byte
	next   int
}

func (c *cutConn) Read(p []byte) (int, error) {
	if len(c.stream) == 0 {
		return 0, io.EOF
	}
	n := len(c.stream)
	if len(c.cuts) > 0 {
		n = int(c.cuts[c.next%len(c.cuts)])%16 + 1
		c.next++
	}
	n = copy(p, c.stream[:min(n, len(c.stream))])
	c.stream = c.stream[n:]
	return n, nil
}

// readAll has a connection of the engine's read a stream, as paho does, and
// tells what came of it: the messages, what paho got, and how it ended.
func readAll(stream, cuts []byte) (got, paho []string, end string) {
	cfg := testConfig("mqtt://x").Engine
	cfg.MaximumPacketSize, cfg.WriteTimeout = 4096, time.Millisecond
	cfg.Completed = func([]Completion) {}
	cfg.Received = func(batch []*Delivery) {
		for _, d := range batch {
			got = append(got, fmt.Sprintf("%d %t %v %#v", d.packetID, d.Dup, d.SubscriptionIDs, d.Message))
			d.Ack(0)
		}
	}
	e := NewEngine(cfg)
	c := newConn(&cutConn{stream: bytes.Clone(stream), cuts: cuts}, e)
	e.conn, e.gen, c.begun = c, 1, true
	e.cfg.ReceiveMaximum = 1 << 20 // acknowledgements are not written here
	for {
		p, err := packets.ReadPacket(c)
		if err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
				err = io.EOF // paho's reading of a packet may end in its middle
			}
			return got, paho, fmt.Sprint(err, " ", e.replies)
		}
		paho = append(paho, p.PacketType())
		if p.Type == packets.DISCONNECT {
			return got, paho, "DISCONNECT"
		}
	}
}

func streamSeeds() [][]byte {
	var all [][]byte
	for _, p := range []brokertest.Packet{
		{Type: brokertest.PUBLISH, Topic: "t", Payload: []byte("m")},
		{Type: brokertest.PUBLISH, Topic: "a/b", QoS: 1, PacketID: 1, DUP: true, Properties: brokertest.Properties{
			brokertest.UserProperty("message-id", "1"), brokertest.MessageExpiryInterval(1), brokertest.SubscriptionIdentifier(300),
			brokertest.Str(brokertest.PropCorrelationData, "\x00"), brokertest.Num(brokertest.PropPayloadFormatIndicator, 1),
		}},
		{Type: brokertest.PUBLISH, Topic: strings.Repeat("x", 200), QoS: 2, PacketID: 2, Payload: make([]byte, 3000)},
		{Type: brokertest.PUBACK, PacketID: 1, Properties: brokertest.Properties{brokertest.ReasonString("r")}},
		{Type: brokertest.PUBREC, PacketID: 1, Code: 0x97},
		{Type: brokertest.PUBREL, PacketID: 2},
		{Type: brokertest.PUBCOMP, PacketID: 1},
		{Type: brokertest.SUBACK, PacketID: 3, Codes: []byte{0, 0x80}},
		{Type: brokertest.UNSUBACK, PacketID: 3, Codes: []byte{0}},
		{Type: brokertest.PINGRESP},
		{Type: brokertest.DISCONNECT, Code: 0x8E},
		{Type: brokertest.CONNACK},
		{Type: brokertest.AUTH, Code: 0x18},
	} {
		all = append(all, p.Encode())
	}
	return append(all, []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, []byte{0x40, 4, 0, 1, 0, 1}, []byte{0xe0, 0})
}

// FuzzReader: whatever comes in, cut as it may be, the same packets arrive and
// the same fault is found; nothing panics, paho's decoder included.
func FuzzReader(f *testing.F) {
	for _, s := range streamSeeds() {
		f.Add(s, []byte{0})
	}
	f.Add(slices.Concat(streamSeeds()...), []byte{3, 0, 7, 15})
	f.Add(slices.Concat(slices.Concat(streamSeeds()[:10]...), slices.Concat(streamSeeds()...)), []byte{1})
	f.Fuzz(func(t *testing.T, stream, cuts []byte) {
		got, paho, end := readAll(stream, nil)
		cutGot, cutPaho, cutEnd := readAll(stream, slices.Concat(cuts, []byte{5}))
		require.Equal(t, got, cutGot)
		require.Equal(t, paho, cutPaho)
		require.Equal(t, end, cutEnd)
	})
}

// FuzzDecode: no input makes the decoders panic, or hold on to more than a few
// times its length; what they take is what our encoder would write.
func FuzzDecode(f *testing.F) {
	for _, s := range streamSeeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		header, size, err := splitFrame(b)
		if err != nil || size == 0 || size > len(b) {
			return
		}
		if a, err := decodeAck(b[header:size]); err == nil {
			require.LessOrEqual(t, len(a.reason), size)
			again, err := decodeAck(appendAck(nil, typePuback, a.packetID, a.code)[2:])
			require.NoError(t, err)
			require.Equal(t, ack{packetID: a.packetID, code: a.code}, again)
		}
		d, err := decodePublish(b[0], b[header:size])
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(d.SubscriptionIDs)*2+len(d.Message.Properties.User)*5, size)
		d.SubscriptionIDs = nil // ours to receive, not to send
		m := d.Message
		m.ID, m.OrderingKey = "", "" // among the user properties
		o := &Outgoing{Message: &m, packetID: d.packetID}
		props, remaining := publishSizes(o)
		raw := appendPublish(nil, o, props, remaining, d.Dup, uint32(m.Expiry/time.Second))
		header, size, err = splitFrame(raw)
		require.NoError(t, err)
		require.Len(t, raw, size)
		again, err := decodePublish(raw[0], raw[header:])
		require.NoError(t, err)
		require.Equal(t, d, again)
	})
}

// FuzzPublish: what our encoder writes is read the same by two decoders that are
// not ours.
func FuzzPublish(f *testing.F) {
	f.Add("t", []byte("m"), byte(1), "id", "key", "text/plain", "r", []byte("c"), "name", "value", uint32(9), "")
	f.Add("a/b", []byte{}, byte(0), "", "", "", "", []byte{}, "", "", uint32(0), "receipts/1")
	f.Add("a/b", make([]byte, 200), byte(14), strings.Repeat("i", 300), "k", "", "r", []byte{0}, "a", "", uint32(1), "receipts/1")
	f.Fuzz(func(t *testing.T, topic string, payload []byte, bits byte, id, key, contentType, response string, correlation []byte, name, value string, expiry uint32, receipt string) {
		for _, s := range []*string{&topic, &id, &key, &contentType, &response, &name, &value, &receipt} {
			*s = strings.ToValidUTF8(strings.NewReplacer("\x00", "", "#", "", "+", "").Replace((*s)[:min(len(*s), 65_535)]), "")
		}
		if topic == "" || (receipt != "" && id == "") {
			return
		}
		m := &persist.Message{
			ID: id, Topic: topic, Payload: payload, QoS: bits % 3, Retain: bits&4 != 0, OrderingKey: key,
			Expiry: time.Duration(expiry) * time.Second,
			Properties: persist.Properties{
				UTF8: bits&8 != 0, ContentType: contentType, ResponseTopic: response,
				CorrelationData: correlation[:min(len(correlation), 65_535)],
				User:            []persist.UserProperty{{Name: name, Value: value}},
			},
		}
		o := &Outgoing{Message: m, packetID: 7, ReceiptTopic: receipt}
		props, remaining := publishSizes(o)
		raw := appendPublish(nil, o, props, remaining, m.QoS > 0 && bits&16 != 0, expiry)
		require.Len(t, raw, 1+varintLen(remaining)+remaining)
		require.Equal(t, m.QoS > 0 && bits&16 != 0, raw[0]&8 != 0)

		p, err := brokertest.Decode(raw)
		require.NoError(t, err)
		require.Equal(t, topic, p.Topic)
		require.True(t, bytes.Equal(payload, p.Payload))
		require.Equal(t, m.Retain, p.Retain)
		require.Equal(t, id, p.MessageID())

		read, err := packets.ReadPacket(bytes.NewReader(raw))
		require.NoError(t, err)
		other := read.Content.(*packets.Publish)
		require.Equal(t, topic, other.Topic)
		require.Equal(t, m.QoS, other.QoS)
		require.True(t, bytes.Equal(payload, other.Payload))
		if m.QoS > 0 {
			require.Equal(t, uint16(7), other.PacketID)
		}
		require.Equal(t, contentType, other.Properties.ContentType)
		wantTopic, wantData := response, m.Properties.CorrelationData
		if receipt != "" {
			wantTopic, wantData = receipt, []byte(id)
		}
		require.Equal(t, wantTopic, other.Properties.ResponseTopic)
		require.True(t, bytes.Equal(wantData, other.Properties.CorrelationData))
		require.Equal(t, m.Properties.UTF8, other.Properties.PayloadFormat != nil)
		require.Equal(t, expiry != 0, other.Properties.MessageExpiry != nil)
		last := other.Properties.User[len(other.Properties.User)-1]
		require.Equal(t, packets.User{Key: name, Value: value}, last)
	})
}
