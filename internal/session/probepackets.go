package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/eclipse/paho.golang/packets"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// await reads until the answer with a packet identifier comes; PUBLISH packets that
// come before it are kept for Receive.
func (p *Probe) await(ctx context.Context, kind byte, id uint16) (*packets.ControlPacket, error) {
	for {
		packet, err := p.read(ctx)
		if err != nil {
			return nil, err
		}
		switch {
		case packet.Type == kind && packet.PacketID() == id:
			return packet, nil
		case packet.Type == typePublish:
			p.keep(packet)
		}
	}
}

func (p *Probe) keep(packet *packets.ControlPacket) {
	publish := packet.Content.(*packets.Publish) //nolint:forcetypeassert // by its type
	in := &Incoming{
		Topic: publish.Topic, Payload: string(publish.Payload), QoS: publish.QoS, Retain: publish.Retain,
		DUP: publish.Duplicate, Expiry: -1, packetID: publish.PacketID,
	}
	if props := publish.Properties; props != nil {
		if props.MessageExpiry != nil {
			in.Expiry = int64(*props.MessageExpiry)
		}
		if props.SubscriptionIdentifier != nil {
			in.SubscriptionID = int64(*props.SubscriptionIdentifier)
		}
	}
	p.inbox = append(p.inbox, in)
}

// Ping sends PINGREQ and waits for the answer.
func (p *Probe) Ping(ctx context.Context) error {
	if err := p.send(ctx, []byte{typePingreq << 4, 0}); err != nil {
		return err
	}
	_, err := p.await(ctx, typePingresp, 0)
	return err
}

// Subscribe subscribes to a filter at QoS 1, or less if the server has less, with a
// subscription identifier unless id is zero. A refusal is a *SubscribeError.
func (p *Probe) Subscribe(ctx context.Context, filter string, id int) error {
	body := binary.BigEndian.AppendUint16(nil, p.nextID())
	body = appendProperties(body, func(b []byte) []byte {
		if id == 0 {
			return b
		}
		return appendVarint(append(b, propSubscriptionID), id)
	})
	body = append(appendString(body, filter), 1)
	if err := p.send(ctx, append(appendVarint([]byte{typeSubscribe<<4 | 2}, len(body)), body...)); err != nil {
		return err
	}
	answer, err := p.await(ctx, typeSuback, p.lastID)
	if err != nil {
		return err
	}
	suback := answer.Content.(*packets.Suback) //nolint:forcetypeassert // by its type
	if len(suback.Reasons) != 1 {
		return errors.New("broker answered another number of filters") // [MQTT-3.9.3-1]
	}
	if code := suback.Reasons[0]; code >= 0x80 {
		return &SubscribeError{Filter: filter, Code: code}
	}
	return nil
}

// Publish publishes a message and waits for the end of the exchange. It returns the
// reason code: 0x00, or 0x10 if nobody subscribes. Another one is an error.
func (p *Probe) Publish(ctx context.Context, m *persist.Message) (code byte, err error) {
	id := p.nextID()
	if err := p.SendPublish(ctx, m, id, false); err != nil {
		return 0, err
	}
	switch m.QoS {
	case 0:
		return 0, nil
	case 1:
		answer, err := p.await(ctx, typePuback, id)
		if err != nil {
			return 0, err
		}
		return taken(answer.Content.(*packets.Puback).ReasonCode) //nolint:forcetypeassert // by its type
	}
	if code, err = p.AwaitPubrec(ctx, id); err != nil {
		return code, err
	}
	_, err = p.Release(ctx, id)
	return code, err
}

// SendPublish writes a PUBLISH and waits for nothing.
func (p *Probe) SendPublish(ctx context.Context, m *persist.Message, id uint16, dup bool) error {
	p.lastID = max(p.lastID, id)
	flags := m.QoS << 1
	if dup {
		flags |= 1 << 3
	}
	if m.Retain {
		flags |= 1
	}
	body := appendString(nil, m.Topic)
	if m.QoS > 0 {
		body = binary.BigEndian.AppendUint16(body, id)
	}
	body = appendProperties(body, func(b []byte) []byte {
		if m.Expiry <= 0 {
			return b
		}
		return binary.BigEndian.AppendUint32(append(b, propMessageExpiry), uint32(m.Expiry.Seconds()))
	})
	body = append(body, m.Payload...)
	return p.send(ctx, append(appendVarint([]byte{typePublish<<4 | flags}, len(body)), body...))
}

// AwaitPubrec waits for the answer to a PUBLISH of QoS 2.
func (p *Probe) AwaitPubrec(ctx context.Context, id uint16) (code byte, err error) {
	answer, err := p.await(ctx, typePubrec, id)
	if err != nil {
		return 0, err
	}
	return taken(answer.Content.(*packets.Pubrec).ReasonCode) //nolint:forcetypeassert // by its type
}

// Release ends an exchange of QoS 2, and returns the reason code of PUBCOMP: 0x92 if
// the server knows nothing of the exchange.
func (p *Probe) Release(ctx context.Context, id uint16) (code byte, err error) {
	if err := p.send(ctx, []byte{typePubrel<<4 | 2, 2, byte(id >> 8), byte(id)}); err != nil {
		return 0, err
	}
	answer, err := p.await(ctx, typePubcomp, id)
	if err != nil {
		return 0, err
	}
	return answer.Content.(*packets.Pubcomp).ReasonCode, nil //nolint:forcetypeassert // by its type
}

func taken(code byte) (byte, error) {
	if code >= 0x80 {
		return code, fmt.Errorf("broker refused the message: %s", qos.Describe(code, ""))
	}
	return code, nil
}

// Receive waits for a PUBLISH. It is not acknowledged.
func (p *Probe) Receive(ctx context.Context) (*Incoming, error) {
	for len(p.inbox) == 0 {
		packet, err := p.read(ctx)
		if err != nil {
			return nil, err
		}
		if packet.Type == typePublish {
			p.keep(packet)
		}
	}
	in := p.inbox[0]
	p.inbox = p.inbox[1:]
	return in, nil
}

// Received are the PUBLISH packets that have come by the time the server answers a
// PINGREQ, acknowledged. A server sends what it has for a session in the order of the
// session's packets, so that what was due before the ping has come; one that takes its
// time may bring more later.
func (p *Probe) Received(ctx context.Context) ([]*Incoming, error) {
	if err := p.Ping(ctx); err != nil {
		return nil, err
	}
	all := p.inbox
	p.inbox = nil
	for _, in := range all {
		if err := p.Ack(ctx, in); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Ack acknowledges a message of QoS 1; others need none here.
func (p *Probe) Ack(ctx context.Context, in *Incoming) error {
	if in.QoS != 1 {
		return nil
	}
	return p.send(ctx, []byte{typePuback << 4, 2, byte(in.packetID >> 8), byte(in.packetID)})
}
