package brokertest

import (
	"fmt"
	"strings"
)

// Type is the type of a control packet (MQTT 5, table 2-1).
type Type byte

// The control packets, under the specification's names.
const (
	CONNECT     Type = 1
	CONNACK     Type = 2
	PUBLISH     Type = 3
	PUBACK      Type = 4
	PUBREC      Type = 5
	PUBREL      Type = 6
	PUBCOMP     Type = 7
	SUBSCRIBE   Type = 8
	SUBACK      Type = 9
	UNSUBSCRIBE Type = 10
	UNSUBACK    Type = 11
	PINGREQ     Type = 12
	PINGRESP    Type = 13
	DISCONNECT  Type = 14
	AUTH        Type = 15
)

func (t Type) String() string {
	names := [...]string{
		"will", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
		"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
	}
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("type %d", byte(t))
}

// Form is the length in which a PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT or
// AUTH is written; the specification lets a sender leave out the tail.
type Form byte

const (
	// FormAuto is the shortest form that carries the code and the properties.
	FormAuto Form = iota
	// FormShort leaves out reason code and properties: remaining length 2 for
	// an acknowledgement, 0 for DISCONNECT and AUTH.
	FormShort
	// FormCode carries the reason code and no property length.
	FormCode
	// FormFull carries the reason code, the property length (also if it is 0)
	// and the properties.
	FormFull
)

// Packet is a control packet of either side: the one that was read, with Raw
// as it was on the wire, or one to be sent. Fields that the type does not have
// are zero.
type Packet struct {
	Type Type
	// Flags are the low four bits of the first byte. For a packet to be sent,
	// 0 means those that the specification demands.
	Flags byte
	// Raw is the whole packet. In a packet to be sent it is ignored.
	Raw []byte

	PacketID uint16
	// Code is the reason code of CONNACK, the four acknowledgements of
	// PUBLISH, DISCONNECT and AUTH; 0 where the packet leaves it out.
	Code byte
	// Codes are those of SUBACK and UNSUBACK.
	Codes      []byte
	Form       Form
	Properties Properties

	// Of PUBLISH. In a packet to be sent QoS may be 3, Topic anything.
	DUP     bool
	QoS     byte
	Retain  bool
	Topic   string
	Payload []byte

	// SessionPresent is that of CONNACK.
	SessionPresent bool
	// Connect holds what only CONNECT has.
	Connect *Connect
	// Filters are those of SUBSCRIBE and UNSUBSCRIBE.
	Filters []Filter
}

// Connect is what only a CONNECT packet has.
type Connect struct {
	ProtocolName    string
	ProtocolVersion byte
	CleanStart      bool
	KeepAlive       uint16
	ClientID        string
	// Will is nil if there is none.
	Will *Will
	// Username and Password are nil if absent.
	Username *string
	Password *string
}

// Will is the will message of a CONNECT packet.
type Will struct {
	QoS        byte
	Retain     bool
	Topic      string
	Payload    []byte
	Properties Properties
}

// Filter is one entry of SUBSCRIBE, or of UNSUBSCRIBE, which has the Topic only.
type Filter struct {
	Topic             string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte
}

// MessageID is the value of the user property "message-id", or "".
func (p *Packet) MessageID() string { return p.Properties.User("message-id") }

// String shows the packet on one line, long payloads shortened. Credentials are
// left out.
func (p *Packet) String() string {
	var b strings.Builder
	b.WriteString(p.Type.String())
	switch p.Type {
	case CONNECT:
		if c := p.Connect; c != nil {
			fmt.Fprintf(&b, " client %q clean start %t keep alive %d", c.ClientID, c.CleanStart, c.KeepAlive)
		}
	case CONNACK:
		fmt.Fprintf(&b, " code 0x%02X session present %t", p.Code, p.SessionPresent)
	case PUBLISH:
		fmt.Fprintf(&b, " id %d QoS %d DUP %t retain %t topic %q payload %s",
			p.PacketID, p.QoS, p.DUP, p.Retain, p.Topic, shorten(p.Payload))
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		fmt.Fprintf(&b, " id %d code 0x%02X", p.PacketID, p.Code)
	case SUBSCRIBE, UNSUBSCRIBE:
		fmt.Fprintf(&b, " id %d", p.PacketID)
		for _, f := range p.Filters {
			fmt.Fprintf(&b, " %q QoS %d", f.Topic, f.QoS)
		}
	case SUBACK, UNSUBACK:
		fmt.Fprintf(&b, " id %d codes % X", p.PacketID, p.Codes)
	case DISCONNECT, AUTH:
		fmt.Fprintf(&b, " code 0x%02X", p.Code)
	default:
		// PINGREQ and PINGRESP are only a name.
	}
	if len(p.Properties) > 0 {
		fmt.Fprintf(&b, " %v", []Property(p.Properties))
	}
	return b.String()
}

func shorten(payload []byte) string {
	const limit = 64
	if len(payload) <= limit {
		return fmt.Sprintf("%q", payload)
	}
	return fmt.Sprintf("%q… (%d bytes)", payload[:limit], len(payload))
}
