package fault_test

import (
	"io"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
)

// inspector notes what it is shown, and does with some packets what a test wants.
type inspector struct {
	decide func(d fault.Direction, packet string) (forward []byte, cut bool)

	mu     sync.Mutex
	seen   [2][]string
	closed chan int
}

func (i *inspector) Packet(_ int, d fault.Direction, packet []byte) ([]byte, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.seen[d] = append(i.seen[d], string(packet))
	if i.decide == nil {
		return packet, false
	}
	return i.decide(d, string(packet))
}

func (i *inspector) Closed(conn int) { i.closed <- conn }

func (i *inspector) packets(d fault.Direction) []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.seen[d]
}

func newInspector(decide func(d fault.Direction, packet string) ([]byte, bool)) *inspector {
	return &inspector{decide: decide, closed: make(chan int, 1)}
}

// packets, as MQTT has them: a byte, the length of the rest, the rest.
const (
	ping  = "\xc0\x00"
	ack   = "\x40\x02\x00\x07"
	other = "\x40\x02\x00\x08"
)

// long is a packet whose length takes two bytes.
func long() string { return "\x30\x80\x01" + string(make([]byte, 128)) }

func TestInspectSeesWholePackets(t *testing.T) {
	t.Parallel()
	i := newInspector(nil)
	_, client, server := setUp(t, func(p *fault.Proxy) { p.Inspect(i) })
	stream := ping + ack + long() + ping
	for at := range stream { // however they come in
		send(t, client, stream[at:at+1])
	}
	receive(t, server, stream)
	send(t, server, ack+other)
	receive(t, client, ack+other)
	require.Equal(t, []string{ping, ack, long(), ping}, i.packets(fault.ToServer))
	require.Equal(t, []string{ack, other}, i.packets(fault.ToClient))
	require.NoError(t, client.Close())
	require.NoError(t, server.Close())
	require.Equal(t, 1, <-i.closed)
}

func TestInspectDropsAndReplaces(t *testing.T) {
	t.Parallel()
	i := newInspector(func(_ fault.Direction, packet string) ([]byte, bool) {
		switch packet {
		case ack:
			return nil, false
		case other:
			return []byte(ping), false
		}
		return []byte(packet), false
	})
	_, client, server := setUp(t, func(p *fault.Proxy) { p.Inspect(i) })
	send(t, server, ack+other+long())
	receive(t, client, ping+long())
}

// The client gets what comes before the cut; the server does not get what it is for.
func TestInspectCuts(t *testing.T) {
	t.Parallel()
	cut := func(d fault.Direction) *inspector {
		return newInspector(func(at fault.Direction, packet string) ([]byte, bool) {
			if at != d || packet != ack {
				return []byte(packet), false
			}
			if d == fault.ToServer {
				return nil, true
			}
			return []byte(packet), true
		})
	}
	_, client, server := setUp(t, func(p *fault.Proxy) { p.Inspect(cut(fault.ToClient)) })
	send(t, server, ping+ack+other)
	receive(t, client, ping+ack)
	ended(t, client, io.EOF)

	_, client, server = setUp(t, func(p *fault.Proxy) { p.Inspect(cut(fault.ToServer)) })
	send(t, client, ack)
	ended(t, server, syscall.ECONNRESET)
	ended(t, client, syscall.ECONNRESET)
}
