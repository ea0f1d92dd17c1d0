package brokertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Check looks at a packet that came; its error tells what is wrong.
type Check func(*Packet) error

// HasID demands a packet identifier.
func HasID(id uint16) Check {
	return equal("packet identifier", id, func(p *Packet) uint16 { return p.PacketID })
}

// HasCode demands a reason code.
func HasCode(code byte) Check {
	return equal("reason code", code, func(p *Packet) byte { return p.Code })
}

// HasQoS demands the QoS of a PUBLISH.
func HasQoS(qos byte) Check { return equal("QoS", qos, func(p *Packet) byte { return p.QoS }) }

// HasDUP demands the DUP flag of a PUBLISH.
func HasDUP(dup bool) Check { return equal("DUP", dup, func(p *Packet) bool { return p.DUP }) }

// HasRetain demands the RETAIN flag of a PUBLISH.
func HasRetain(retain bool) Check {
	return equal("RETAIN", retain, func(p *Packet) bool { return p.Retain })
}

// HasTopic demands the topic of a PUBLISH.
func HasTopic(topic string) Check {
	return equal("topic", topic, func(p *Packet) string { return p.Topic })
}

// HasPayload demands the payload of a PUBLISH.
func HasPayload(payload string) Check {
	return equal("payload", payload, func(p *Packet) string { return string(p.Payload) })
}

// HasUserProperty demands the value of the first User Property of that name.
func HasUserProperty(key, value string) Check {
	return equal("user property "+key, value, func(p *Packet) string { return p.Properties.User(key) })
}

func equal[T comparable](what string, want T, get func(*Packet) T) Check {
	return func(p *Packet) error {
		if got := get(p); got != want {
			return fmt.Errorf("%s is %v, not %v", what, got, want)
		}
		return nil
	}
}

// Expect reads the next packet, which must be of that type and pass the checks;
// otherwise it fails the test and says what came instead.
func (c *Conn) Expect(t Type, checks ...Check) *Packet {
	c.t.Helper()
	p := c.Next()
	if p.Type != t {
		c.fail("%s expected, got %s", t, p)
	}
	for _, check := range checks {
		if err := check(p); err != nil {
			c.fail("%v: %s", err, p)
		}
	}
	return p
}

// Next reads the next packet other than a PINGREQ, which it answers (see
// ManualPing). It fails the test if the packet is malformed, or none comes.
func (c *Conn) Next() *Packet {
	c.t.Helper()
	for {
		p, err := c.ReadPacket(context.Background())
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.fail("no packet within %v", c.timeout)
		case err != nil && p != nil:
			c.fail("%v: % X", err, p.Raw)
		case err != nil:
			c.fail("no packet: %v", err)
		}
		if p.Type != PINGREQ || c.manual {
			return p
		}
		c.SendPingresp()
	}
}

// Handshake expects a CONNECT and accepts it with a new session and these
// properties. It returns the CONNECT.
func (c *Conn) Handshake(props ...Property) *Packet {
	c.t.Helper()
	p := c.ExpectConnect()
	c.SendConnack(false, 0, props...)
	return p
}

// Resume expects a CONNECT and accepts it with the session of before and these
// properties. It returns the CONNECT.
func (c *Conn) Resume(props ...Property) *Packet {
	c.t.Helper()
	p := c.ExpectConnect()
	c.SendConnack(true, 0, props...)
	return p
}

// ExpectConnect expects a CONNECT; its fields are in Packet.Connect.
func (c *Conn) ExpectConnect(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(CONNECT, checks...)
}

// ExpectConnack expects a CONNACK.
func (c *Conn) ExpectConnack(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(CONNACK, checks...)
}

// ExpectPublish expects a PUBLISH.
func (c *Conn) ExpectPublish(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(PUBLISH, checks...)
}

// ExpectPuback expects a PUBACK.
func (c *Conn) ExpectPuback(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(PUBACK, checks...)
}

// ExpectPubrec expects a PUBREC.
func (c *Conn) ExpectPubrec(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(PUBREC, checks...)
}

// ExpectPubrel expects a PUBREL.
func (c *Conn) ExpectPubrel(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(PUBREL, checks...)
}

// ExpectPubcomp expects a PUBCOMP.
func (c *Conn) ExpectPubcomp(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(PUBCOMP, checks...)
}

// ExpectSubscribe expects a SUBSCRIBE; the filters are in Packet.Filters.
func (c *Conn) ExpectSubscribe(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(SUBSCRIBE, checks...)
}

// ExpectSuback expects a SUBACK.
func (c *Conn) ExpectSuback(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(SUBACK, checks...)
}

// ExpectUnsubscribe expects an UNSUBSCRIBE; the filters are in Packet.Filters.
func (c *Conn) ExpectUnsubscribe(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(UNSUBSCRIBE, checks...)
}

// ExpectUnsuback expects an UNSUBACK.
func (c *Conn) ExpectUnsuback(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(UNSUBACK, checks...)
}

// ExpectDisconnect expects a DISCONNECT.
func (c *Conn) ExpectDisconnect(checks ...Check) *Packet {
	c.t.Helper()
	return c.Expect(DISCONNECT, checks...)
}

// ExpectPingreq waits for a PINGREQ, which must be the next packet, and does
// not answer it.
func (c *Conn) ExpectPingreq() *Packet {
	c.t.Helper()
	manual := c.manual
	c.manual = true
	defer func() { c.manual = manual }()
	return c.Expect(PINGREQ)
}

// ExpectClosed waits until the other side has closed the connection, by FIN or
// RST. It fails the test if a packet other than PINGREQ comes before.
func (c *Conn) ExpectClosed() {
	c.t.Helper()
	for {
		p, err := c.ReadPacket(context.Background())
		switch {
		case p != nil && p.Type == PINGREQ && !c.manual:
			// The connection may be closing: nothing is gained by an answer.
		case p != nil:
			c.fail("end of the connection expected, got %s", p)
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
			return
		default:
			c.fail("end of the connection expected: %v", err)
		}
	}
}

// ExpectQuiet fails the test if a packet other than PINGREQ comes within d, or
// the connection ends. Where the order of packets can show the same thing,
// show it by order: it is faster, and it cannot miss what comes late.
func (c *Conn) ExpectQuiet(d time.Duration) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for {
		p, err := c.ReadPacket(ctx)
		switch {
		case p != nil && p.Type == PINGREQ && !c.manual:
			c.SendPingresp()
		case p != nil:
			c.fail("silence expected, got %s", p)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return
		default:
			c.fail("silence expected: %v", err)
		}
	}
}
