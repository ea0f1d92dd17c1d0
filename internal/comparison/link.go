package comparison

import (
	"fmt"

	"github.com/oncemq/oncemq/fault"
)

// link is the way between the publisher and the broker: a proxy that counts
// packets, and cuts the connection if it is the faulty one.
type link struct {
	proxy *fault.Proxy
	wire  *wire
}

// startLink puts a link in front of a broker ("host:port").
func startLink(broker, kind string, o *Options) (*link, error) {
	p, err := fault.New(broker)
	if err != nil {
		return nil, fmt.Errorf("start the %s link: %w", kind, err)
	}
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

func (l *link) url() string { return l.proxy.URL() }

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
