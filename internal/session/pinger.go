package session

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/eclipse/paho.golang/paho"
	paholog "github.com/eclipse/paho.golang/paho/log"
)

var errNoAnswer = errors.New("server sent nothing for the time of the keep alive, and did not answer PINGREQ")

// pinger keeps a connection alive and finds out that it is dead, in place of
// paho's own: that one does not see the packets that go past paho, so that it
// would ping a busy connection, and would give up one on which a large message
// takes longer than the keep alive to come in.
//
// A PINGREQ is due when nothing was written, or nothing was read, for three
// quarters of the keep alive. If nothing at all comes within as long after it
// the connection is dead: that is known one and a half keep alives after the
// last sign of life. Time in which nobody read, for want of room, does not count.
type pinger struct {
	// keepAlive is what we asked for. It goes on to be used where the server
	// turns the keep alive off, which frees us from the duty to ping, not from
	// the wish to know.
	keepAlive time.Duration
}

var _ paho.Pinger = pinger{}

// Run pings until the context ends or the connection is dead.
func (p pinger) Run(ctx context.Context, nc net.Conn, seconds uint16) error {
	c, ok := nc.(*conn)
	if !ok {
		return errors.New("keep alive needs a connection of the engine's")
	}
	keepAlive := p.keepAlive
	if seconds > 0 {
		keepAlive = time.Duration(seconds) * time.Second
	}
	patience := keepAlive * 3 / 4
	t := time.NewTimer(patience)
	defer t.Stop()
	for pinged := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		now := time.Since(c.born)
		read := time.Duration(c.lastRead.Load())
		if pinged > 0 && read < pinged && c.starved(now, patience) {
			c.engine.noteCause(c, errNoAnswer)
			return errNoAnswer
		}
		pinged = 0
		if quiet := now - min(read, time.Duration(c.lastWrite.Load())); quiet < patience {
			t.Reset(patience - quiet)
			continue
		}
		pinged = now
		c.Lock()
		c.out = append(c.out, typePingreq<<4, 0)
		c.Unlock()
		t.Reset(patience)
	}
}

// PacketSent, PacketReceived and PingResp are paho's: the connection keeps
// count itself.
func (pinger) PacketSent() {}

// PacketReceived is part of paho's interface.
func (pinger) PacketReceived() {}

// PingResp is part of paho's interface.
func (pinger) PingResp() {}

// SetDebug is part of paho's interface.
func (pinger) SetDebug(paholog.Logger) {}
