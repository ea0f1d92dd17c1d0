package session

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

func BenchmarkEncode(b *testing.B) {
	b.ReportAllocs()
	o := &Outgoing{packetID: 1, Message: &persist.Message{
		ID: "0199f7b0-6f4e-7c3a-9d59-2a8f6c1f0e57", Topic: "plant/4/line/2/temperature", QoS: 1, Payload: make([]byte, 256),
	}}
	buf := make([]byte, 0, 1024)
	for b.Loop() {
		props, remaining := publishSizes(o)
		buf = appendPublish(buf[:0], o, props, remaining, false, 0)
	}
	b.SetBytes(int64(len(buf)))
}

func benchmarkPacket() []byte {
	p := brokertest.Packet{
		Type: brokertest.PUBLISH, QoS: 1, PacketID: 1, Topic: "plant/4/line/2/temperature", Payload: make([]byte, 256),
		Properties: brokertest.Properties{brokertest.UserProperty(PropertyMessageID, "0199f7b0-6f4e-7c3a-9d59-2a8f6c1f0e57")},
	}
	return p.Encode()
}

// BenchmarkDecode may allocate four times: the Delivery, one string, the
// payload, and the user properties.
func BenchmarkDecode(b *testing.B) {
	raw := benchmarkPacket()
	header, _, err := splitFrame(raw)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("PUBLISH", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := decodePublish(raw[0], raw[header:]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("PUBACK", func(b *testing.B) {
		b.ReportAllocs()
		body := []byte{0, 1, 0x10}
		for b.Loop() {
			if _, err := decodeAck(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestDecodeAllocations(t *testing.T) { //nolint:paralleltest // counts the process's allocations
	raw := benchmarkPacket()
	header, _, err := splitFrame(raw)
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(100, func() { _, _ = decodePublish(raw[0], raw[header:]) })
	if n > 4 {
		t.Fatalf("%v allocations", n)
	}
}

// repeatConn gives the same packet again and again.
type repeatConn struct {
	noConn
	packet []byte
	left   int
}

func (c *repeatConn) Read(p []byte) (int, error) {
	n := 0
	for c.left > 0 && n+len(c.packet) <= len(p) {
		n += copy(p[n:], c.packet)
		c.left--
	}
	if n == 0 {
		return c.noConn.Read(p)
	}
	return n, nil
}

// BenchmarkReceive is the way of a message from the socket's buffer to the owner
// and of its acknowledgement to the writer's buffer.
func BenchmarkReceive(b *testing.B) {
	for _, size := range []int{256, 16 << 10} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			p := brokertest.Packet{Type: brokertest.PUBLISH, QoS: 1, PacketID: 1, Topic: "t", Payload: make([]byte, size)}
			var out []byte
			var e *Engine
			e = NewEngine(EngineConfig{
				Window: 1, ReceiveMaximum: 1 << 16, MaximumPacketSize: 1 << 20, WriteTimeout: time.Second,
				Completed: func([]Completion) {},
				Received: func(batch []*Delivery) {
					for _, d := range batch {
						d.Ack(0)
					}
					e.mu.Lock()
					out = e.inbox.appendAcks(out[:0])
					e.mu.Unlock()
				},
			})
			raw := p.Encode()
			c := newConn(&repeatConn{packet: raw, left: b.N}, e)
			e.conn, e.gen = c, 1
			b.SetBytes(int64(len(raw)))
			b.ResetTimer()
			_, _ = c.Read(make([]byte, 1)) // ends with the stream
		})
	}
}
