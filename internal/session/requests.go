package session

import (
	"context"
	"errors"
	"math"

	"github.com/eclipse/paho.golang/packets"
	pahosession "github.com/eclipse/paho.golang/paho/session"
)

// AddToSession gives a SUBSCRIBE or UNSUBSCRIBE its packet identifier. PUBLISH
// does not come this way.
func (e *Engine) AddToSession(_ context.Context, p pahosession.Packet, resp chan<- packets.ControlPacket) error {
	if p.Type() == packets.PUBLISH {
		return errors.New("PUBLISH goes through the engine's source")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.conn == nil {
		return pahosession.ErrNoConnection
	}
	if len(e.requests) >= spareIDs {
		return ErrTooManyRequests
	}
	id := e.allocateID()
	e.requests[id] = resp
	p.SetIdentifier(id)
	return nil
}

// allocateID returns an identifier that is not in use; the window and the limit
// on requests see to it that there is one. They go round, so that a late or
// repeated acknowledgement meets no new exchange.
func (e *Engine) allocateID() uint16 {
	for range math.MaxUint16 {
		e.lastID++
		if e.lastID == 0 {
			e.lastID = 1 // [MQTT-2.2.1-3]
		}
		if e.ids.get(e.lastID) == nil {
			if _, used := e.requests[e.lastID]; !used {
				return e.lastID
			}
		}
	}
	return 0
}

// PacketReceived brings the answers to requests; the rest went past paho.
func (e *Engine) PacketReceived(p *packets.ControlPacket, _ chan<- *packets.Publish) error {
	if p.Type != packets.SUBACK && p.Type != packets.UNSUBACK {
		return nil
	}
	e.mu.Lock()
	resp, ok := e.requests[p.PacketID()]
	delete(e.requests, p.PacketID())
	e.tellWaiters()
	e.mu.Unlock()
	if ok {
		resp <- *p
	}
	return nil
}
