package session

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// A gated engine publishes nothing on a new session until it is opened; a
// session that the server kept needs no opening.
func TestGate(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.Engine.Gate = true })
	all := p.send(messages(1, 0, 2)...)
	c := l.Accept(t.Context())
	c.Handshake()
	c.SendPublish(publish(1, 1, "m"))
	p.delivery(0).Ack(0)
	c.ExpectPuback() // acknowledgements do not wait
	flushed(c)
	p.link.Engine().Open(p.link.Engine().Snapshot().Generation)
	c.ExpectPublish(brokertest.HasPayload("0"))
	c.ExpectPublish(brokertest.HasPayload("1"))
	c.Reset()

	c = l.Accept(t.Context())
	c.Resume()
	c.ExpectPublish(brokertest.HasPayload("0"))
	c.ExpectPublish(brokertest.HasPayload("1"))
	c.Reset()

	c = l.Accept(t.Context())
	c.Handshake()
	p.up(2)
	flushed(c)
	p.link.Engine().Open(p.link.Engine().Snapshot().Generation)
	for range all {
		c.SendPuback(c.ExpectPublish().PacketID, 0)
	}
	p.allEnd(all)
}

// A QoS 0 message whose bytes could not be written is sent on the next
// connection, before what came later.
func TestQoS0AfterAFailedWrite(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	// The writer finds a connection that cannot be written to any more, and
	// nobody has noticed yet.
	broken := p.link.latest()
	broken.mu.Lock()
	broken.closeWrite()
	broken.mu.Unlock()
	all := p.send(messages(0, 0, 3)...)
	p.wait("the writer", func() bool { return len(p.queue) == 0 })
	require.ErrorContains(t, p.down(0), "write to server")
	all = append(all, p.send(message("t", 0, "later"))...)
	c = l.Accept(t.Context())
	c.Handshake()
	for _, payload := range []string{"0", "1", "2", "later"} {
		c.ExpectPublish(brokertest.HasPayload(payload))
	}
	p.allEnd(all)
}

// The next connection may begin between the writing of a QoS 0 message and its
// entry in the books, and the message be the next to be sent again. It ended,
// once; what stands behind it must still be sent.
func TestQoS0EndsAfterTheNextConnectionBegan(t *testing.T) {
	t.Parallel()
	e := NewEngine(testConfig("mqtt://x").Engine)
	all := make([]*Outgoing, 3)
	for i := range all {
		all[i] = &Outgoing{Message: message("t", 0, fmt.Sprint(i))}
		e.flights.push(all[i])
	}
	e.resume = all[0]
	ended := e.written(all[:2], nil)
	require.Len(t, ended, 2)
	require.Same(t, all[2], e.resume)
	require.Equal(t, []*Outgoing{all[2]}, e.Withdraw())
	require.Empty(t, e.written(all[2:], nil), "a message that was withdrawn is not ours to end")
}

// A message that expires while its connection is down is not sent on a new
// session. On one that the server kept its exchange goes on, with the least
// that can be said of its life [MQTT-4.4.0-1].
func TestExpiryOnResume(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	m := message("t", 1, "short-lived")
	m.Expiry = time.Hour
	all := p.send(m, message("t", 1, "other"))
	first := c.ExpectPublish(brokertest.HasPayload("short-lived"))
	expiry, _ := first.Properties.Num(brokertest.PropMessageExpiryInterval)
	require.Equal(t, uint32(3600), expiry)
	c.ExpectPublish(brokertest.HasPayload("other"))
	p.link.Engine().mu.Lock()
	all[0].ExpiresAt = time.Now().Add(-time.Second)
	p.link.Engine().mu.Unlock()
	c.Reset()

	c = l.Accept(t.Context())
	c.Resume()
	again := c.ExpectPublish(brokertest.HasPayload("short-lived"), brokertest.HasDUP(true), brokertest.HasID(first.PacketID))
	expiry, _ = again.Properties.Num(brokertest.PropMessageExpiryInterval)
	require.Equal(t, uint32(1), expiry)
	c.ExpectPublish(brokertest.HasPayload("other"))
	c.Reset()

	c = l.Accept(t.Context())
	c.Handshake()
	c.SendPuback(c.ExpectPublish(brokertest.HasPayload("other"), brokertest.HasDUP(false)).PacketID, 0)
	end := p.end(all[0])
	require.True(t, end.Expired)
	p.allEnd(all[1:])
}

// Without a time at which it ends a message's expiry counts from when it is
// taken; what is left is rounded up, since zero would end it at once.
func TestExpiryWithoutATime(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	for level := byte(0); level <= 2; level++ {
		m := message("t", level, "m")
		m.Expiry = 90*time.Second - time.Millisecond
		p.mu.Lock()
		p.queue = append(p.queue, &Outgoing{Message: m})
		p.mu.Unlock()
		p.link.Engine().Wake()
		expiry, _ := c.ExpectPublish().Properties.Num(brokertest.PropMessageExpiryInterval)
		require.Equal(t, uint32(90), expiry)
	}
	past := message("t", 1, "past") // as a store hands it out
	past.Expiry = -time.Second
	o := &Outgoing{Message: past}
	p.mu.Lock()
	p.queue = append(p.queue, o)
	p.mu.Unlock()
	p.link.Engine().Wake()
	require.True(t, p.end(o).Expired)
}

// What the server allows is looked at again on each connection: a message in
// flight that no longer fits fails, and its packet identifier is not given to
// another, as the server may still hold the QoS 2 exchange and would take the
// other for a repetition.
func TestLimitsShrinkOnResume(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	all := p.send(message("t", 2, strings.Repeat("x", 500)), message("t", 2, "small"))
	large := c.ExpectPublish().PacketID
	small := c.ExpectPublish().PacketID
	c.Reset()
	c = l.Accept(t.Context())
	c.Resume(brokertest.MaximumPacketSize(200), brokertest.ReceiveMaximum(1))
	c.ExpectPublish(brokertest.HasID(small), brokertest.HasPayload("small"))
	require.Equal(t, byte(0x95), p.end(all[0]).Code)
	c.SendPubrec(large, 0) // the server does hold it
	c.ExpectPubrel(brokertest.HasID(large))
	c.SendPubcomp(large, 0)
	c.SendPubrec(small, 0)
	c.ExpectPubrel(brokertest.HasID(small))
	c.SendPubcomp(small, 0)
	e := p.link.Engine()
	e.mu.Lock()
	e.lastID = large - 1
	e.mu.Unlock()
	p.send(message("t", 2, "next"))
	require.NotEqual(t, large, c.ExpectPublish(brokertest.HasPayload("next")).PacketID)
}

// An answer to what was sent on an earlier connection comes before it is sent
// again: it is taken, and nothing is sent.
func TestAnswerBeforeItIsSentAgain(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	all := p.send(messages(2, 0, 3)...)
	first, second, third := c.ExpectPublish().PacketID, c.ExpectPublish().PacketID, c.ExpectPublish().PacketID
	c.Reset()
	c = l.Accept(t.Context())
	c.Resume(brokertest.ReceiveMaximum(2))
	c.ExpectPublish(brokertest.HasID(first))
	c.ExpectPublish(brokertest.HasID(second))
	c.SendPubrec(third, 0)
	c.ExpectPubrel(brokertest.HasID(third))
	for _, id := range []uint16{first, second} {
		c.SendPubrec(id, 0)
		c.ExpectPubrel(brokertest.HasID(id))
		c.SendPubcomp(id, 0)
	}
	p.allEnd(all[:2])
	flushed(c) // it would be the turn of the third
	c.SendPubcomp(third, 0)
	p.allEnd(all)
	e := p.link.Engine()
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Zero(t, e.active)
}

// A broker that forgets the session with every connection, and drops it after a
// few packets, would never answer a full window at QoS 2. The pace shrinks until
// something gets through, and comes back when the broker is well.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{1, 2} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{
				Seed: 1, ForgetSessions: true, DropEvery: brokertest.Range{Min: 4, Max: 8}, DropLimit: 60,
			})
			p := start(t, b.URL())
			all := p.send(messages(level, 0, 1000)...)
			p.allEnd(all)
			require.Empty(t, b.Violations())
			arrivals := b.FirstArrivals("t")
			for i, a := range arrivals {
				require.Equal(t, fmt.Sprint(i), string(a.Packet.Payload))
			}
			require.Len(t, arrivals, 1000)
			e := p.link.Engine()
			e.mu.Lock()
			defer e.mu.Unlock()
			require.Equal(t, e.cfg.Window, e.pace)
		})
	}
}

// Only what was sent on a connection can have been too much for it.
func TestPaceOfWhatWasNotSent(t *testing.T) {
	t.Parallel()
	e := NewEngine(testConfig("mqtt://x").Engine)
	e.flights.push(&Outgoing{Message: message("t", 1, "m")})
	for range 3 {
		e.conn = &conn{engine: e}
		require.NoError(t, e.ConnectionLost(nil))
		require.Equal(t, e.cfg.Window, e.pace)
	}
	e.conn, e.active = &conn{engine: e}, 1
	require.NoError(t, e.ConnectionLost(nil))
	require.Equal(t, e.cfg.Window/2, e.pace)
}

// Neither the number of messages nor their bytes in flight goes over the bounds,
// but for one message that may always go.
func TestWindowBytes(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.Engine.WindowBytes = 250 })
	c := l.Accept(t.Context())
	c.Handshake()
	large := message("t", 1, strings.Repeat("x", 1000))
	hundred := strings.Repeat("x", 100)
	all := p.send(message("t", 1, hundred), message("t", 1, hundred), message("t", 1, hundred), message("t", 1, hundred), large)
	ids := []uint16{c.ExpectPublish().PacketID, c.ExpectPublish().PacketID, c.ExpectPublish().PacketID}
	flushed(c)
	c.Reset()
	c = l.Accept(t.Context())
	c.Resume()
	for _, id := range ids { // the same when they are sent again
		c.ExpectPublish(brokertest.HasID(id))
	}
	flushed(c)
	c.SendPuback(ids[0], 0)
	fourth := c.ExpectPublish().PacketID
	flushed(c)
	c.SendPuback(ids[1], 0)
	last := c.ExpectPublish()
	require.Len(t, last.Payload, 1000)
	for _, id := range []uint16{ids[2], fourth, last.PacketID} {
		c.SendPuback(id, 0)
	}
	p.allEnd(all)
}

// endless is a source without an end.
type endless struct{ m *persist.Message }

func (s endless) Take(dst []*Outgoing, limit int) []*Outgoing {
	for range limit {
		dst = append(dst, &Outgoing{Message: s.m})
	}
	return dst
}

// Large messages are not put into the buffer by the dozen.
func TestBufferStaysSmall(t *testing.T) {
	t.Parallel()
	e := NewEngine(testConfig("mqtt://x").Engine)
	c := newConn(nil, e)
	e.conn, e.gen = c, 1
	for _, level := range []byte{0, 1} {
		e.cfg.Source = endless{&persist.Message{Topic: "t", QoS: level, Payload: make([]byte, 1<<20)}}
		var ended []Completion
		out, _, more := e.fill(nil, &ended)
		require.True(t, more)
		require.Less(t, len(out), 2<<20)
	}
}

// Who gave up waiting leaves nothing behind.
func TestWaitIdleGivesUp(t *testing.T) {
	t.Parallel()
	e := NewEngine(testConfig("mqtt://x").Engine)
	e.flights.push(&Outgoing{Message: message("t", 1, "m")})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, e.WaitIdle(ctx), context.Canceled)
	require.Empty(t, e.waiters)
}

// Nothing grows with the number of connections that were made.
func TestMemoryAfterManyReconnects(t *testing.T) { //nolint:paralleltest // measures the process's heap
	b := startBroker(t, brokertest.Options{})
	p := start(t, b.URL(), func(c *Config) { c.Engine.Window = 4096 })
	p.up(0)
	cycle := func(n int) {
		for range n {
			p.mu.Lock()
			ups := len(p.ups)
			p.mu.Unlock()
			p.allEnd(p.send(message("t", 1, "m"), message("t", 2, "m"), message("t", 0, "m")))
			p.link.Drop()
			p.up(ups)
			p.mu.Lock()
			p.given, p.taken, p.order, p.got = nil, nil, nil, nil
			clear(p.ended)
			p.mu.Unlock()
		}
	}
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	cycle(20)
	routines, before := runtime.NumGoroutine(), heap()
	cycle(60)
	require.Less(t, heap()-before, int64(1<<20))
	require.LessOrEqual(t, runtime.NumGoroutine(), routines+10)
	e := p.link.Engine()
	e.mu.Lock()
	defer e.mu.Unlock()
	require.Empty(t, e.waiters)
	require.Empty(t, e.requests)
	require.Zero(t, e.active)
	require.Zero(t, e.activeBytes)
}

// An owner's time is heeded as an expiry is, but the server is told nothing of it.
func TestNotAfter(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	late := &Outgoing{Message: message("t", 1, "late"), NotAfter: time.Now().Add(-time.Millisecond)}
	inTime := &Outgoing{Message: message("t", 1, "in time"), NotAfter: time.Now().Add(time.Hour)}
	p.mu.Lock()
	p.queue = append(p.queue, late, inTime)
	p.mu.Unlock()
	p.link.Engine().Wake()
	first := c.ExpectPublish(brokertest.HasPayload("in time"))
	_, told := first.Properties.Num(brokertest.PropMessageExpiryInterval)
	require.False(t, told)
	require.True(t, p.end(late).Expired)
	c.SendPuback(first.PacketID, 0)
	require.False(t, p.end(inTime).Expired)
}
