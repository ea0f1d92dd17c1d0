package session

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// Case 01-keepalive-pingreq: pings come in time, and while they are answered
// the connection stays.
func Test01KeepalivePingreq(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.KeepAlive = time.Second })
	c := l.Accept(t.Context())
	require.Equal(t, uint16(1), c.Handshake().Connect.KeepAlive)
	c.ManualPing()
	for range 3 {
		last := time.Now()
		c.ExpectPingreq()
		require.Less(t, time.Since(last), 1500*time.Millisecond, "[MQTT-3.1.2-22]: the server may close after one and a half keep alives")
		c.SendPingresp()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.downs)
}

// Case 01-server-keepalive-pingreq: what the server sets counts [MQTT-3.1.2-21].
// If it turns the keep alive off we go on to look after the connection.
func Test01ServerKeepalivePingreq(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		own    time.Duration
		server uint16
	}{
		"shorter": {time.Minute, 1},
		"none":    {time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			start(t, l.URL(), func(c *Config) { c.KeepAlive = test.own })
			c := l.Accept(t.Context())
			c.Handshake(brokertest.ServerKeepAlive(test.server))
			c.ManualPing()
			began := time.Now()
			c.ExpectPingreq()
			require.Less(t, time.Since(began), 1500*time.Millisecond)
		})
	}
}

// The other side vanishes without a word: that is known within two keep alives.
func TestHalfOpenConnection(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	proxy := fault.Start(t, b.Addr())
	p := start(t, proxy.URL(), func(c *Config) { c.KeepAlive = time.Second })
	p.allEnd(p.send(message("t", 1, "before")))
	proxy.BlackHole(true)
	began := time.Now()
	o := p.send(message("t", 1, "into the hole"))[0]
	require.ErrorIs(t, p.down(0), errNoAnswer)
	require.Less(t, time.Since(began), 2*time.Second+200*time.Millisecond)
	proxy.BlackHole(false)
	proxy.CutAll(fault.RST)
	p.end(o)
}

// A reader that waits for room does not read the answer to PINGREQ either. That is no
// sign of a dead server: a slow consumer lost its connection again and again, and
// everything that it had not acknowledged came once more.
func TestReaderWithoutRoomIsNoDeadServer(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	room, full := make(chan struct{}), make(chan struct{})
	makeRoom := sync.OnceFunc(func() { close(room) })
	p := start(t, l.URL(), func(c *Config) {
		c.KeepAlive = time.Second
		received := c.Engine.Received
		c.Engine.Received = func(batch []*Delivery) {
			close(full)
			<-room
			received(batch)
		}
	})
	t.Cleanup(makeRoom) // before the link ends
	c := l.Accept(t.Context())
	c.Handshake()
	c.ManualPing()
	packet := publish(1, 1, "fills it")
	packet.Type = brokertest.PUBLISH
	c.SendRaw(packet.Encode())
	<-full
	for range 4 {
		c.ExpectPingreq() // it still does its duty
		c.SendPingresp()
	}
	makeRoom()
	p.delivery(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.downs)
}

// A message that takes longer to come in than the keep alive is not a dead
// connection, though the answer to PINGREQ is stuck behind it.
func TestLargeMessageOverASlowLink(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.KeepAlive = time.Second })
	c := l.Accept(t.Context())
	c.Handshake()
	packet := publish(1, 1, string(make([]byte, 1000)))
	packet.Type = brokertest.PUBLISH
	raw := packet.Encode()
	tick := time.NewTicker(250 * time.Millisecond) // the slow link
	defer tick.Stop()
	for part := range 10 {
		c.SendRaw(raw[part*100 : (part+1)*100])
		<-tick.C
	}
	c.SendRaw(raw[1000:])
	p.delivery(0)
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.downs)
}

// A server that does not read makes writes fail in time, not hang.
func TestServerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) {
		c.Engine.WriteTimeout, c.Engine.WindowBytes = 200*time.Millisecond, 64<<20
	})
	c := l.Accept(t.Context())
	c.Handshake()
	c.StopReading()
	p.up(0)
	for range 30 {
		m := message("t", 1, "m")
		m.Payload = make([]byte, 1<<19)
		p.send(m)
	}
	require.ErrorContains(t, p.down(0), "write to server")
	require.ErrorContains(t, p.down(0), "timeout")
	c = l.Accept(t.Context())
	c.Resume()
	c.ExpectPublish(brokertest.HasDUP(true))
}

// The oldest message in flight decides, however many come after it; QoS 2 has
// the time for each of its two answers; what was not sent on this connection is
// not waited for.
func TestAckTimeout(t *testing.T) {
	t.Parallel()
	e := NewEngine(testConfig("mqtt://x").Engine)
	e.conn, e.gen = newConn(noConn{}, e), 1
	now := time.Now()
	o := &Outgoing{Message: message("t", 2, "m"), gen: 1, sentAt: now, packetID: 1, step: persist.StepPublished}
	e.flights.push(o)
	e.ids.set(1, o)
	require.False(t, e.dropStalled(now.Add(time.Second), time.Second))
	require.True(t, e.dropStalled(now.Add(time.Second+1), time.Second))
	o.sentAt = now.Add(-time.Hour)
	require.NoError(t, e.recorded(ack{packetID: 1}))
	require.False(t, e.dropStalled(now.Add(time.Second), time.Second))
	o.sentAt, o.gen = now, 0
	require.False(t, e.dropStalled(now.Add(time.Hour), time.Second))
}

// ConnectTimeout bounds the network connection and its handshakes too, which
// autopaho leaves unbounded where it does not dial itself.
func TestConnectTimeoutBoundsTheHandshake(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"mqtts", "ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t) // accepts, and says nothing
			p := start(t, scheme+"://"+l.Addr(), func(c *Config) { c.ConnectTimeout = 100 * time.Millisecond })
			began := time.Now()
			err := p.failure(0)
			require.Less(t, time.Since(began), patience/2)
			var timeout interface{ Timeout() bool }
			require.ErrorAs(t, err, &timeout)
			require.True(t, timeout.Timeout(), err)
		})
	}
}

// Await ends with its context, and when there is nothing to wait for any more.
func TestAwait(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.link.Await(ctx), context.Canceled)
	l.Accept(t.Context()).Handshake()
	require.NoError(t, p.link.Await(within(t, patience)))
	require.NoError(t, p.link.Err())
	p.close()
	require.ErrorIs(t, p.link.Await(within(t, patience)), ErrClosed)
}
