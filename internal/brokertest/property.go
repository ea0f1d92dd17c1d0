package brokertest

import (
	"encoding/binary"
	"fmt"
)

// PropertyID is the identifier of a property (MQTT 5, table 2-4).
type PropertyID byte

// The properties of MQTT 5, under the specification's names.
const (
	PropPayloadFormatIndicator          PropertyID = 0x01
	PropMessageExpiryInterval           PropertyID = 0x02
	PropContentType                     PropertyID = 0x03
	PropResponseTopic                   PropertyID = 0x08
	PropCorrelationData                 PropertyID = 0x09
	PropSubscriptionIdentifier          PropertyID = 0x0B
	PropSessionExpiryInterval           PropertyID = 0x11
	PropAssignedClientIdentifier        PropertyID = 0x12
	PropServerKeepAlive                 PropertyID = 0x13
	PropAuthenticationMethod            PropertyID = 0x15
	PropAuthenticationData              PropertyID = 0x16
	PropRequestProblemInformation       PropertyID = 0x17
	PropWillDelayInterval               PropertyID = 0x18
	PropRequestResponseInformation      PropertyID = 0x19
	PropResponseInformation             PropertyID = 0x1A
	PropServerReference                 PropertyID = 0x1C
	PropReasonString                    PropertyID = 0x1F
	PropReceiveMaximum                  PropertyID = 0x21
	PropTopicAliasMaximum               PropertyID = 0x22
	PropTopicAlias                      PropertyID = 0x23
	PropMaximumQoS                      PropertyID = 0x24
	PropRetainAvailable                 PropertyID = 0x25
	PropUserProperty                    PropertyID = 0x26
	PropMaximumPacketSize               PropertyID = 0x27
	PropWildcardSubscriptionAvailable   PropertyID = 0x28
	PropSubscriptionIdentifierAvailable PropertyID = 0x29
	PropSharedSubscriptionAvailable     PropertyID = 0x2A
)

// Property is one property on the wire. Which field holds the value depends
// on the property: Num for every number, Str for strings and binary data, Key
// and Str for a User Property.
type Property struct {
	ID  PropertyID
	Num uint32
	Key string
	Str string
}

// Properties are in the order in which they are on the wire. A list to be sent
// is written as it is, doubled or misplaced properties included.
type Properties []Property

// Num returns the value of the first numeric property with that identifier.
func (ps Properties) Num(id PropertyID) (value uint32, ok bool) {
	for _, p := range ps {
		if p.ID == id {
			return p.Num, true
		}
	}
	return 0, false
}

// Str returns the value of the first string or binary property with that
// identifier.
func (ps Properties) Str(id PropertyID) (value string, ok bool) {
	for _, p := range ps {
		if p.ID == id {
			return p.Str, true
		}
	}
	return "", false
}

// User returns the value of the first User Property with that name, or "".
func (ps Properties) User(key string) string {
	for _, p := range ps {
		if p.ID == PropUserProperty && p.Key == key {
			return p.Str
		}
	}
	return ""
}

// SubscriptionIdentifiers returns all of them, in their order.
func (ps Properties) SubscriptionIdentifiers() []uint32 {
	var ids []uint32
	for _, p := range ps {
		if p.ID == PropSubscriptionIdentifier {
			ids = append(ids, p.Num)
		}
	}
	return ids
}

// Num makes a numeric property that has no constructor below.
func Num(id PropertyID, value uint32) Property { return Property{ID: id, Num: value} }

// Str makes a string or binary property that has no constructor below.
func Str(id PropertyID, value string) Property { return Property{ID: id, Str: value} }

// UserProperty makes a User Property.
func UserProperty(key, value string) Property {
	return Property{ID: PropUserProperty, Key: key, Str: value}
}

// ReceiveMaximum makes the Receive Maximum of a CONNECT or CONNACK.
func ReceiveMaximum(n uint16) Property { return Num(PropReceiveMaximum, uint32(n)) }

// MaximumQoS makes the Maximum QoS of a CONNACK.
func MaximumQoS(q byte) Property { return Num(PropMaximumQoS, uint32(q)) }

// RetainAvailable makes the Retain Available of a CONNACK.
func RetainAvailable(yes bool) Property { return Num(PropRetainAvailable, uint32(flag(yes))) }

// MaximumPacketSize makes the Maximum Packet Size of a CONNECT or CONNACK.
func MaximumPacketSize(n uint32) Property { return Num(PropMaximumPacketSize, n) }

// ServerKeepAlive makes the Server Keep Alive of a CONNACK, in seconds.
func ServerKeepAlive(seconds uint16) Property { return Num(PropServerKeepAlive, uint32(seconds)) }

// SessionExpiryInterval makes the Session Expiry Interval, in seconds.
func SessionExpiryInterval(seconds uint32) Property {
	return Num(PropSessionExpiryInterval, seconds)
}

// AssignedClientIdentifier makes the Assigned Client Identifier of a CONNACK.
func AssignedClientIdentifier(id string) Property { return Str(PropAssignedClientIdentifier, id) }

// ReasonString makes the Reason String of a CONNACK, an acknowledgement or a
// DISCONNECT.
func ReasonString(s string) Property { return Str(PropReasonString, s) }

// TopicAlias makes the Topic Alias of a PUBLISH.
func TopicAlias(n uint16) Property { return Num(PropTopicAlias, uint32(n)) }

// SubscriptionIdentifier makes one of the Subscription Identifiers of a
// PUBLISH, or that of a SUBSCRIBE.
func SubscriptionIdentifier(n uint32) Property { return Num(PropSubscriptionIdentifier, n) }

// MessageExpiryInterval makes the Message Expiry Interval, in seconds.
func MessageExpiryInterval(seconds uint32) Property {
	return Num(PropMessageExpiryInterval, seconds)
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

type propertyKind byte

const (
	kindByte propertyKind = iota + 1
	kindUint16
	kindUint32
	kindVarint
	kindString
	kindBinary
	kindPair
)

// willProperties stands in the table below for the properties of a will, which
// are no packet's.
const willProperties Type = 0

// propertyRule is how a property is encoded, and the packets in which it may
// stand: bit n for type n.
type propertyRule struct {
	kind propertyKind
	in   uint16
}

const (
	inWill       = 1 << willProperties
	inMessages   = 1<<PUBLISH | inWill
	inHandshake  = 1<<CONNECT | 1<<CONNACK
	inAuth       = inHandshake | 1<<AUTH
	inResponses  = 1<<CONNACK | 1<<PUBACK | 1<<PUBREC | 1<<PUBREL | 1<<PUBCOMP | 1<<SUBACK | 1<<UNSUBACK | 1<<DISCONNECT | 1<<AUTH
	inEverything = inResponses | inMessages | 1<<CONNECT | 1<<SUBSCRIBE | 1<<UNSUBSCRIBE
)

// rule is table 2-4 of the specification.
func (id PropertyID) rule() (propertyRule, bool) {
	switch id {
	case PropPayloadFormatIndicator:
		return propertyRule{kindByte, inMessages}, true
	case PropMessageExpiryInterval:
		return propertyRule{kindUint32, inMessages}, true
	case PropContentType, PropResponseTopic:
		return propertyRule{kindString, inMessages}, true
	case PropCorrelationData:
		return propertyRule{kindBinary, inMessages}, true
	case PropSubscriptionIdentifier:
		return propertyRule{kindVarint, 1<<PUBLISH | 1<<SUBSCRIBE}, true
	case PropSessionExpiryInterval:
		return propertyRule{kindUint32, inHandshake | 1<<DISCONNECT}, true
	case PropAssignedClientIdentifier, PropResponseInformation:
		return propertyRule{kindString, 1 << CONNACK}, true
	case PropServerKeepAlive:
		return propertyRule{kindUint16, 1 << CONNACK}, true
	case PropAuthenticationMethod:
		return propertyRule{kindString, inAuth}, true
	case PropAuthenticationData:
		return propertyRule{kindBinary, inAuth}, true
	case PropRequestProblemInformation, PropRequestResponseInformation:
		return propertyRule{kindByte, 1 << CONNECT}, true
	case PropWillDelayInterval:
		return propertyRule{kindUint32, inWill}, true
	case PropServerReference:
		return propertyRule{kindString, 1<<CONNACK | 1<<DISCONNECT}, true
	case PropReasonString:
		return propertyRule{kindString, inResponses}, true
	case PropReceiveMaximum, PropTopicAliasMaximum:
		return propertyRule{kindUint16, inHandshake}, true
	case PropTopicAlias:
		return propertyRule{kindUint16, 1 << PUBLISH}, true
	case PropMaximumQoS, PropRetainAvailable, PropWildcardSubscriptionAvailable,
		PropSubscriptionIdentifierAvailable, PropSharedSubscriptionAvailable:
		return propertyRule{kindByte, 1 << CONNACK}, true
	case PropUserProperty:
		return propertyRule{kindPair, inEverything}, true
	case PropMaximumPacketSize:
		return propertyRule{kindUint32, inHandshake}, true
	default:
		return propertyRule{}, false
	}
}

// append writes the property length and the properties. An unknown identifier
// is written as a byte followed by Str, so that a test can send what no
// specification knows.
func (ps Properties) append(b []byte) []byte {
	var body []byte
	for _, p := range ps {
		body = append(body, byte(p.ID))
		r, _ := p.ID.rule()
		switch r.kind {
		case kindByte:
			body = append(body, byte(p.Num))
		case kindUint16:
			body = binary.BigEndian.AppendUint16(body, uint16(p.Num))
		case kindUint32:
			body = binary.BigEndian.AppendUint32(body, p.Num)
		case kindVarint:
			body = appendVarint(body, int(p.Num))
		case kindString, kindBinary:
			body = appendString(body, p.Str)
		case kindPair:
			body = appendString(appendString(body, p.Key), p.Str)
		default:
			body = append(body, p.Str...)
		}
	}
	return append(appendVarint(b, len(body)), body...)
}

// properties reads a property length and that many bytes of properties, of a
// packet of type where.
func (d *decoder) properties(where Type) Properties {
	length := d.varint()
	if d.err != nil {
		return nil
	}
	in := decoder{b: d.take(int(length))}
	if d.err != nil {
		return nil
	}
	var ps Properties
	seen := map[PropertyID]bool{}
	for len(in.b) > 0 && in.err == nil {
		p := Property{ID: PropertyID(in.byte())}
		r, known := p.ID.rule()
		switch {
		case !known:
			in.fail("property 0x%02X is unknown", byte(p.ID))
		case r.in&(1<<where) == 0:
			in.fail("property 0x%02X may not stand in %s", byte(p.ID), where)
		case seen[p.ID] && p.ID != PropUserProperty &&
			(p.ID != PropSubscriptionIdentifier || where != PUBLISH):
			in.fail("property 0x%02X stands twice", byte(p.ID))
		}
		seen[p.ID] = true
		switch r.kind {
		case kindByte:
			p.Num = uint32(in.byte())
			if p.Num > 1 {
				in.fail("property 0x%02X has the value %d, not 0 or 1", byte(p.ID), p.Num)
			}
		case kindUint16:
			p.Num = uint32(in.uint16())
		case kindUint32:
			p.Num = in.uint32()
		case kindVarint:
			p.Num = in.varint()
		case kindString:
			p.Str = in.string()
		case kindBinary:
			p.Str = string(in.binary())
		case kindPair:
			p.Key, p.Str = in.string(), in.string()
		}
		switch p.ID {
		case PropReceiveMaximum, PropMaximumPacketSize, PropTopicAlias, PropSubscriptionIdentifier:
			if in.err == nil && p.Num == 0 {
				in.fail("property 0x%02X is zero", byte(p.ID))
			}
		default:
			// The others may be.
		}
		ps = append(ps, p)
	}
	if in.err != nil {
		d.err = in.err
		return nil
	}
	return ps
}

// String shows the property as it stands in a failure message.
func (p Property) String() string {
	switch r, _ := p.ID.rule(); r.kind {
	case kindPair:
		return fmt.Sprintf("user %q=%q", p.Key, p.Str)
	case kindString, kindBinary, 0:
		return fmt.Sprintf("0x%02X=%q", byte(p.ID), p.Str)
	default:
		return fmt.Sprintf("0x%02X=%d", byte(p.ID), p.Num)
	}
}
