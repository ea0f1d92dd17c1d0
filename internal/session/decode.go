package session

import (
	"encoding/binary"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// protocolError is what the server did against the specification; code is what
// our DISCONNECT answers (section 4.13).
type protocolError struct {
	code byte
	text string
}

func (e *protocolError) Error() string { return "server broke the protocol: " + e.text }

func malformed(text string) error { return &protocolError{code: 0x81, text: text} }

func protocolFault(text string) error { return &protocolError{code: 0x82, text: text} }

// checkHeader refuses packets that a server must not send: such as are only a
// client's or reserved, such as have other flags than the specification gives
// them [MQTT-2.1.3-1], and AUTH, which answers an Authentication Method that we
// never name (section 4.12).
func checkHeader(first byte) error {
	flags := first & 0x0f
	switch first >> 4 {
	case typePublish:
		return nil // the flags are decodePublish's
	case typePubrel:
		flags ^= 2
	case typeConnack, typePuback, typePubrec, typePubcomp, typeSuback, typeUnsuback, typePingresp, typeDisconnect:
	default:
		return protocolFault("packet of a type that we did not ask for, or that only clients send")
	}
	if flags != 0 {
		return malformed("flags of the fixed header are not those of the packet's type")
	}
	return nil
}

// splitFrame looks for one whole control packet at the start of b. It returns
// the length of the fixed header and of the packet; size is zero if more bytes
// are needed to know it.
func splitFrame(b []byte) (header, size int, err error) {
	if len(b) == 0 {
		return 0, 0, nil
	}
	if err := checkHeader(b[0]); err != nil {
		return 0, 0, err
	}
	n, shift := 0, 0
	for i := 1; i < len(b); i++ {
		n |= int(b[i]&0x7f) << shift
		if b[i] < 0x80 {
			if b[i] == 0 && i > 1 {
				return 0, 0, malformed("Remaining Length in more bytes than it needs") // [MQTT-1.5.5-1]
			}
			return i + 1, i + 1 + n, nil
		}
		if i == 4 {
			return 0, 0, malformed("Remaining Length of more than four bytes") // section 1.5.5
		}
		shift += 7
	}
	return 0, 0, nil
}

// cursor reads the fields of a packet; after an overrun bad is set and all
// further reads give zero values.
type cursor struct {
	s   string
	bad bool
}

func (c *cursor) take(n int) string {
	if c.bad || n > len(c.s) {
		c.bad = true
		return ""
	}
	v := c.s[:n]
	c.s = c.s[n:]
	return v
}

func (c *cursor) byte() byte {
	if v := c.take(1); v != "" {
		return v[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if v := c.take(2); v != "" {
		return uint16(v[0])<<8 | uint16(v[1])
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	hi := c.uint16()
	return uint32(hi)<<16 | uint32(c.uint16())
}

func (c *cursor) binary() string { return c.take(int(c.uint16())) }

// text reads a UTF-8 string; one that is none is as bad as an overrun
// [MQTT-1.5.4-1], [MQTT-1.5.4-2].
func (c *cursor) text() string {
	v := c.binary()
	if !utf8.ValidString(v) || strings.IndexByte(v, 0) >= 0 {
		c.bad = true
	}
	return v
}

func (c *cursor) varint() int {
	n := 0
	for shift := 0; shift < 28; shift += 7 {
		d := c.byte()
		n |= int(d&0x7f) << shift
		if d < 0x80 {
			return n
		}
	}
	c.bad = true
	return 0
}

// ack is a decoded PUBACK, PUBREC, PUBREL or PUBCOMP.
type ack struct {
	packetID uint16
	code     byte
	reason   string
}

// decodeAck reads an acknowledgement without allocating, but for properties.
func decodeAck(body []byte) (ack, error) {
	if len(body) < 2 {
		return ack{}, malformed("acknowledgement without a packet identifier")
	}
	a := ack{packetID: binary.BigEndian.Uint16(body)}
	if a.packetID == 0 {
		return ack{}, malformed("packet identifier zero") // [MQTT-2.2.1-3]
	}
	if len(body) > 2 {
		a.code = body[2]
	}
	if len(body) <= 3 {
		return a, nil
	}
	c := cursor{s: string(body[3:])}
	props := cursor{s: c.take(c.varint())}
	if c.bad || c.s != "" {
		return ack{}, malformed("acknowledgement of a wrong length")
	}
	reasons := 0
	for props.s != "" && !props.bad {
		switch props.byte() {
		case propReasonString:
			a.reason = strings.Clone(props.text())
			reasons++
		case propUser:
			props.text()
			props.text()
		default:
			return ack{}, malformed("property that an acknowledgement cannot have")
		}
	}
	if props.bad {
		return ack{}, malformed("properties of an acknowledgement are cut short or not UTF-8")
	}
	if reasons > 1 {
		return ack{}, protocolFault("acknowledgement with two reason strings")
	}
	return a, nil
}

// decodePublish reads a PUBLISH and checks what a server could get wrong. The
// Delivery does not refer to body.
func decodePublish(flags byte, body []byte) (*Delivery, error) {
	d := &Delivery{Dup: flags&8 != 0}
	m := &d.Message
	m.QoS = flags >> 1 & 3
	m.Retain = flags&1 != 0
	if m.QoS == 3 {
		return nil, malformed("PUBLISH with QoS 3") // [MQTT-3.3.1-4]
	}
	head, err := publishHead(body, m.QoS)
	if err != nil {
		return nil, err
	}
	// One string for the topic and all properties, one slice for the payload:
	// the fields share them.
	c := cursor{s: string(body[:head])}
	if head < len(body) {
		m.Payload = append([]byte(nil), body[head:]...)
	}
	m.Topic = c.binary() // ValidateTopic looks at its form
	if m.QoS > 0 {
		d.packetID = c.uint16()
		if d.packetID == 0 {
			return nil, malformed("PUBLISH with packet identifier zero") // [MQTT-2.2.1-3]
		}
	}
	c.varint() // the length of the properties, which publishHead has used
	if c.bad {
		return nil, malformed("PUBLISH is cut short")
	}
	if err := d.readProperties(&c); err != nil {
		return nil, err
	}
	// A topic alias would need a Topic Alias Maximum, which we do not send.
	if err := qos.ValidateTopic(m.Topic); err != nil {
		return nil, malformed("PUBLISH with a topic that is none") // [MQTT-3.3.2-1], [MQTT-3.3.2-2]
	}
	m.ID, _ = m.Properties.Get(PropertyMessageID)
	m.OrderingKey, _ = m.Properties.Get(PropertyOrderingKey)
	return d, nil
}

// publishHead finds where the payload begins.
func publishHead(body []byte, level byte) (int, error) {
	if len(body) < 2 {
		return 0, malformed("PUBLISH is cut short")
	}
	head := 2 + int(binary.BigEndian.Uint16(body))
	if level > 0 {
		head += 2
	}
	props, shift := 0, 0
	for {
		if head >= len(body) || shift > 21 {
			return 0, malformed("PUBLISH is cut short")
		}
		v := body[head]
		head++
		props |= int(v&0x7f) << shift
		if v < 0x80 {
			break
		}
		shift += 7
	}
	if head+props > len(body) {
		return 0, malformed("properties of PUBLISH are cut short")
	}
	return head + props, nil
}

// readProperties reads what is left in c.
func (d *Delivery) readProperties(c *cursor) error {
	p := &d.Message.Properties
	seen := uint64(0)
	for c.s != "" && !c.bad {
		id := c.byte()
		if id != propUser && id != propSubscriptionID && id < 64 {
			if seen&(1<<id) != 0 {
				return protocolFault("PUBLISH with one property twice")
			}
			seen |= 1 << id
		}
		switch id {
		case propPayloadFormat:
			v := c.byte()
			if v > 1 {
				return protocolFault("Payload Format Indicator that is neither 0 nor 1")
			}
			p.UTF8 = v == 1
		case propMessageExpiry:
			d.Message.Expiry = time.Duration(c.uint32()) * time.Second
		case propContentType:
			p.ContentType = c.text()
		case propResponseTopic:
			p.ResponseTopic = c.text()
		case propCorrelationData:
			p.CorrelationData = []byte(c.binary())
		case propSubscriptionID:
			v := c.varint()
			if v == 0 && !c.bad {
				return protocolFault("Subscription Identifier zero")
			}
			d.SubscriptionIDs = append(d.SubscriptionIDs, uint32(v))
		case propUser:
			if p.User == nil {
				p.User = make([]persist.UserProperty, 0, 2)
			}
			name := c.text()
			p.User = append(p.User, persist.UserProperty{Name: name, Value: c.text()})
		case propTopicAlias:
			return &protocolError{code: 0x94, text: "topic alias although we allowed none"} // [MQTT-3.1.2-26]
		default:
			return malformed("property that PUBLISH cannot have")
		}
	}
	if c.bad {
		return malformed("properties of PUBLISH are cut short or not UTF-8")
	}
	return nil
}
