package brokertest

import "encoding/binary"

// Encode writes the packet as it would be on the wire. Nothing is checked: what
// is wrong in the fields is wrong on the wire.
func (p *Packet) Encode() []byte {
	var body []byte
	flags := p.Flags
	switch p.Type {
	case CONNECT:
		body = p.appendConnect(body)
	case CONNACK:
		body = append(body, flag(p.SessionPresent), p.Code)
		body = p.Properties.append(body)
	case PUBLISH:
		if flags == 0 {
			flags = flag(p.DUP)<<3 | p.QoS&3<<1 | flag(p.Retain)
		}
		body = appendString(body, p.Topic)
		if p.QoS > 0 {
			body = binary.BigEndian.AppendUint16(body, p.PacketID)
		}
		body = append(p.Properties.append(body), p.Payload...)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		if p.Type == PUBREL && flags == 0 {
			flags = 2
		}
		body = p.appendTail(binary.BigEndian.AppendUint16(body, p.PacketID))
	case SUBSCRIBE, UNSUBSCRIBE:
		if flags == 0 {
			flags = 2
		}
		body = p.Properties.append(binary.BigEndian.AppendUint16(body, p.PacketID))
		for _, f := range p.Filters {
			body = appendString(body, f.Topic)
			if p.Type == SUBSCRIBE {
				body = append(body, f.options())
			}
		}
	case SUBACK, UNSUBACK:
		body = p.Properties.append(binary.BigEndian.AppendUint16(body, p.PacketID))
		body = append(body, p.Codes...)
	case DISCONNECT, AUTH:
		body = p.appendTail(body)
	default:
		// PINGREQ and PINGRESP have no body.
	}
	return Frame(p.Type, flags, body)
}

// Frame puts a fixed header before the body of a packet, for packets that
// Encode cannot express.
func Frame(t Type, flags byte, body []byte) []byte {
	b := make([]byte, 0, len(body)+5)
	b = append(b, byte(t)<<4|flags&0x0F)
	return append(appendVarint(b, len(body)), body...)
}

// appendTail writes reason code and properties in the packet's form.
func (p *Packet) appendTail(body []byte) []byte {
	form := p.Form
	if form == FormAuto {
		switch {
		case len(p.Properties) > 0:
			form = FormFull
		case p.Code != 0:
			form = FormCode
		default:
			form = FormShort
		}
	}
	if form >= FormCode {
		body = append(body, p.Code)
	}
	if form == FormFull {
		body = p.Properties.append(body)
	}
	return body
}

func (p *Packet) appendConnect(b []byte) []byte {
	c := p.Connect
	if c == nil {
		c = &Connect{}
	}
	name, version := c.ProtocolName, c.ProtocolVersion
	if name == "" {
		name = "MQTT"
	}
	if version == 0 {
		version = 5
	}
	flags := flag(c.CleanStart) << 1
	if c.Will != nil {
		flags |= 1<<2 | c.Will.QoS&3<<3 | flag(c.Will.Retain)<<5
	}
	if c.Password != nil {
		flags |= 1 << 6
	}
	if c.Username != nil {
		flags |= 1 << 7
	}
	b = append(appendString(b, name), version, flags)
	b = binary.BigEndian.AppendUint16(b, c.KeepAlive)
	b = appendString(p.Properties.append(b), c.ClientID)
	if c.Will != nil {
		b = appendString(c.Will.Properties.append(b), c.Will.Topic)
		b = appendString(b, string(c.Will.Payload))
	}
	if c.Username != nil {
		b = appendString(b, *c.Username)
	}
	if c.Password != nil {
		b = appendString(b, *c.Password)
	}
	return b
}

func (f Filter) options() byte {
	return f.QoS&3 | flag(f.NoLocal)<<2 | flag(f.RetainAsPublished)<<3 | f.RetainHandling&3<<4
}

func appendVarint(b []byte, n int) []byte {
	for n > 0x7F {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

// appendString writes a length of two bytes and the bytes; a longer string is
// cut, since it has no encoding.
func appendString(b []byte, s string) []byte {
	if len(s) > 0xFFFF {
		s = s[:0xFFFF]
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}
