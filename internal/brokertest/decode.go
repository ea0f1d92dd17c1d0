package brokertest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// ErrMalformed is wrapped by the error of a packet that breaks the
// specification's rules of form (MQTT 5, 1.2 "Malformed Packet").
var ErrMalformed = errors.New("malformed packet")

// ReadRaw reads one packet, as bytes. The body is read as it comes in, so that
// a header which announces more than follows costs no memory. A remaining
// length that is not encoded in the fewest bytes is malformed [MQTT-1.5.5-1].
func ReadRaw(r io.Reader) ([]byte, error) {
	raw := make([]byte, 1, 64)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	var length, shift uint32
	for {
		n := len(raw)
		raw = append(raw, 0)
		if _, err := io.ReadFull(r, raw[n:]); err != nil {
			return raw[:n], noEOF(err)
		}
		length |= uint32(raw[n]&0x7F) << shift
		if raw[n]&0x80 == 0 {
			if raw[n] == 0 && n > 1 {
				return raw, fmt.Errorf("%w: remaining length in more bytes than it needs", ErrMalformed)
			}
			break
		}
		if shift += 7; shift > 21 {
			return raw, fmt.Errorf("%w: remaining length has more than four bytes", ErrMalformed)
		}
	}
	const atOnce = 64 << 10
	if length <= atOnce {
		n := len(raw)
		raw = append(raw, make([]byte, length)...)
		got, err := io.ReadFull(r, raw[n:])
		if err != nil {
			return raw[:n+got], noEOF(err)
		}
		return raw, nil
	}
	body := bytes.NewBuffer(raw)
	if _, err := io.CopyN(body, r, int64(length)); err != nil {
		return body.Bytes(), noEOF(err)
	}
	return body.Bytes(), nil
}

// noEOF tells the end of the stream within a packet from its end between two.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Decode reads a whole packet, of either side. What it returns with an error
// holds Type, Flags, Raw and the fields up to the fault; the error wraps
// ErrMalformed.
func Decode(raw []byte) (*Packet, error) {
	p := &Packet{Raw: raw}
	if len(raw) < 2 {
		return p, fmt.Errorf("%w: %d bytes", ErrMalformed, len(raw))
	}
	p.Type, p.Flags = Type(raw[0]>>4), raw[0]&0x0F
	d := &decoder{b: raw[1:]}
	if n := d.varint(); d.err == nil && int(n) != len(d.b) {
		d.fail("remaining length %d, but %d bytes follow", n, len(d.b))
	}
	p.checkFlags(d)
	if d.err == nil {
		p.decodeBody(d)
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	if d.err != nil {
		return p, fmt.Errorf("%w: %s: %w", ErrMalformed, p.Type, d.err)
	}
	return p, nil
}

// checkFlags holds the first byte against table 2-2 [MQTT-2.1.3-1].
func (p *Packet) checkFlags(d *decoder) {
	want := byte(0)
	switch p.Type {
	case PUBLISH:
		p.DUP, p.QoS, p.Retain = p.Flags&8 != 0, p.Flags>>1&3, p.Flags&1 != 0
		switch {
		case p.QoS == 3:
			d.fail("QoS 3 [MQTT-3.3.1-4]")
		case p.QoS == 0 && p.DUP:
			d.fail("DUP with QoS 0 [MQTT-3.3.1-2]")
		}
		return
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		want = 2
	case 0:
		d.fail("type 0 is reserved")
	default:
		// The others have none.
	}
	if p.Flags != want {
		d.fail("flags are 0x%X, not 0x%X [MQTT-2.1.3-1]", p.Flags, want)
	}
}

func (p *Packet) decodeBody(d *decoder) {
	switch p.Type {
	case CONNECT:
		p.decodeConnect(d)
	case CONNACK:
		flags := d.byte()
		if flags > 1 {
			d.fail("acknowledge flags are 0x%02X", flags)
		}
		p.SessionPresent, p.Code = flags == 1, d.byte()
		p.Properties = d.properties(CONNACK)
	case PUBLISH:
		p.decodePublish(d)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		p.PacketID = d.packetID()
		p.decodeTail(d)
	case SUBSCRIBE, UNSUBSCRIBE:
		p.decodeFilters(d)
	case SUBACK, UNSUBACK:
		p.PacketID = d.packetID()
		p.Properties = d.properties(p.Type)
		p.Codes = d.rest()
	case DISCONNECT, AUTH:
		p.decodeTail(d)
	default:
		// PINGREQ and PINGRESP have no body.
	}
}

func (p *Packet) decodePublish(d *decoder) {
	p.Topic = d.string()
	if strings.ContainsAny(p.Topic, "#+") {
		d.fail("topic name with a wildcard [MQTT-3.3.2-2]")
	}
	if p.QoS > 0 {
		p.PacketID = d.packetID()
	}
	p.Properties = d.properties(PUBLISH)
	if _, aliased := p.Properties.Num(PropTopicAlias); d.err == nil && p.Topic == "" && !aliased {
		d.fail("neither topic name nor topic alias")
	}
	if t, ok := p.Properties.Str(PropResponseTopic); ok && strings.ContainsAny(t, "#+") {
		d.fail("response topic with a wildcard [MQTT-3.3.2-14]")
	}
	p.Payload = d.rest()
}

// decodeTail reads the reason code and the properties that may be left out.
func (p *Packet) decodeTail(d *decoder) {
	p.Form = FormShort
	if len(d.b) > 0 {
		p.Form, p.Code = FormCode, d.byte()
	}
	if len(d.b) > 0 {
		p.Form, p.Properties = FormFull, d.properties(p.Type)
	}
}

func (p *Packet) decodeFilters(d *decoder) {
	p.PacketID = d.packetID()
	p.Properties = d.properties(p.Type)
	for len(d.b) > 0 && d.err == nil {
		f := Filter{Topic: d.string()}
		if f.Topic == "" {
			d.fail("empty topic filter [MQTT-4.7.3-1]")
		}
		if p.Type == SUBSCRIBE {
			o := d.byte()
			f.QoS, f.NoLocal, f.RetainAsPublished, f.RetainHandling = o&3, o&4 != 0, o&8 != 0, o>>4&3
			if o&0xC0 != 0 || f.QoS == 3 || f.RetainHandling == 3 {
				d.fail("subscription options are 0x%02X", o)
			}
		}
		p.Filters = append(p.Filters, f)
	}
	if d.err == nil && len(p.Filters) == 0 {
		d.fail("no topic filter [MQTT-3.8.3-2]")
	}
}

func (p *Packet) decodeConnect(d *decoder) {
	c := &Connect{ProtocolName: d.string(), ProtocolVersion: d.byte()}
	p.Connect = c
	if d.err == nil && (c.ProtocolName != "MQTT" || c.ProtocolVersion != 5) {
		d.fail("protocol %q version %d", c.ProtocolName, c.ProtocolVersion)
	}
	flags := d.byte()
	c.CleanStart, c.KeepAlive = flags&2 != 0, d.uint16()
	p.Properties = d.properties(CONNECT)
	c.ClientID = d.string()
	if flags&1 != 0 {
		d.fail("reserved connect flag is set [MQTT-3.1.2-3]")
	}
	if flags&4 != 0 {
		w := &Will{QoS: flags >> 3 & 3, Retain: flags&0x20 != 0, Properties: d.properties(willProperties)}
		w.Topic, w.Payload = d.string(), d.binary()
		c.Will = w
		if w.QoS == 3 {
			d.fail("will QoS 3 [MQTT-3.1.2-12]")
		}
	} else if flags&0x38 != 0 {
		d.fail("will flags without a will [MQTT-3.1.2-11]")
	}
	if flags&0x80 != 0 {
		c.Username = new(d.string())
	}
	if flags&0x40 != 0 {
		c.Password = new(string(d.binary()))
	}
}

// decoder reads from the front of b until the first fault.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
}

func (d *decoder) take(n int) []byte {
	if d.err == nil && n > len(d.b) {
		d.fail("%d bytes wanted, %d left", n, len(d.b))
	}
	if d.err != nil {
		return nil
	}
	taken := d.b[:n:n]
	d.b = d.b[n:]
	return taken
}

func (d *decoder) rest() []byte { return d.take(len(d.b)) }

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if b := d.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) packetID() uint16 {
	id := d.uint16()
	if d.err == nil && id == 0 {
		d.fail("packet identifier 0 [MQTT-2.2.1-3]")
	}
	return id
}

func (d *decoder) varint() uint32 {
	var n uint32
	for i := range 4 {
		b := d.byte()
		n |= uint32(b&0x7F) << (7 * i)
		if b&0x80 == 0 {
			if b == 0 && i > 0 {
				d.fail("variable byte integer in more bytes than it needs [MQTT-1.5.5-1]")
			}
			return n
		}
	}
	d.fail("variable byte integer of more than four bytes")
	return 0
}

func (d *decoder) binary() []byte { return d.take(int(d.uint16())) }

func (d *decoder) string() string {
	b := d.binary()
	if !utf8.Valid(b) {
		d.fail("string is not UTF-8 [MQTT-1.5.4-1]")
	}
	if bytes.IndexByte(b, 0) >= 0 {
		d.fail("string with a NUL character [MQTT-1.5.4-2]")
	}
	return string(b)
}
