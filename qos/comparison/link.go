package comparison

import (
	"context"
	"fmt"
	"net"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/session"
)

// link is the way between the publisher and the broker: a proxy that counts
// packets, and cuts the connection if it is the faulty one.
type link struct {
	proxy *fault.Proxy
	wire  *wire
}

// startLink puts a link in front of the broker. Packets are counted where they are
// neither encrypted nor wrapped: the publisher connects to it as to an mqtt:// broker.
func (r *run) startLink(kind string) (*link, error) {
	p, err := fault.New(r.server.Host)
	if err != nil {
		return nil, fmt.Errorf("start the %s link: %w", kind, err)
	}
	c, o := &r.client, &r.opts
	p.UseDial(func(ctx context.Context) (net.Conn, error) {
		return session.DialServer(ctx, r.server, &session.Config{
			TLS: c.TLS, TLSFiles: c.TLSFiles, Header: c.Header, Dial: c.Dial,
		})
	})
	l := &link{proxy: p, wire: newWire()}
	if kind == Faulty {
		l.wire.cutEvery = o.CutEvery
		if o.Delay > 0 {
			p.Latency(fault.ToServer, o.Delay)
			p.Latency(fault.ToClient, o.Delay)
		}
	}
	p.Inspect(inspector{l.wire})
	return l, nil
}

// through has a client connect to the link.
func (l *link) through(cfg autopaho.Config) autopaho.Config {
	cfg.Servers = []string{l.proxy.URL()}
	cfg.TLS, cfg.TLSFiles, cfg.Header, cfg.Dial = nil, autopaho.TLSFiles{}, nil, nil
	return cfg
}

// connections is how many the publisher has made.
func (l *link) connections() int { return l.proxy.Accepted() }

func (l *link) close() { l.proxy.Close() }

// inspector shows the packets to the wire. One that the link is cut at is lost.
type inspector struct{ wire *wire }

func (i inspector) Packet(_ int, d fault.Direction, packet []byte) (forward []byte, cut bool) {
	if i.wire.packet(d == fault.ToServer, packet) {
		return nil, true
	}
	return packet, false
}

func (inspector) Closed(int) {}
