package autopaho_test

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// A subscriber came back to a session with a long queue. The broker sent all of it
// before its SUBACK, more than could be processed within the packet time-out; so
// the connection was dropped and everything came again, and again.
func TestSubackBehindTheQueue(t *testing.T) {
	t.Parallel()
	var b *brokertest.Broker
	var subscribes, sent atomic.Int64
	started := make(chan struct{})
	b = startBroker(t, brokertest.Options{
		Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			if d == brokertest.Out && p.Type == brokertest.SUBACK && subscribes.Add(1) == 1 {
				close(started)
				return brokertest.Drop // it is late
			}
			return brokertest.Pass
		},
	})
	ctx := within(t, 20*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "c", PacketTimeout: 300 * time.Millisecond})
	done := make(chan struct{})
	go func() { // what the broker had kept
		defer close(done)
		<-started
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for subscribes.Load() < 2 && ctx.Err() == nil {
			<-tick.C
			b.Publish(brokertest.Packet{Topic: "a", QoS: 1, Payload: strconv.AppendInt(nil, sent.Add(1), 10)})
		}
	}()
	var got atomic.Int64
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"},
		Handler: func(context.Context, *autopaho.Received) error { got.Add(1); return nil },
	})
	require.NoError(t, err)
	<-done
	require.Eventually(t, func() bool { return got.Load() == sent.Load() }, 10*time.Second, 5*time.Millisecond)
	require.Equal(t, 1, b.Connections(), "the connection was dropped while messages came")
}

// A broker that exceeds the Receive Maximum puts the SUBACK behind more than is read
// while handlers are at work. The connection that was dropped for that brought the same
// again, and what the handlers had done was done in vain.
func TestSubackBehindWhatIsNotRead(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	ctx := within(t, 60*time.Second)
	c := client(t, autopaho.Config{Servers: []string{l.URL()}, ReceiveMaximum: 1, PacketTimeout: time.Second})
	t.Cleanup(l.Close) // first: the client is closed without a broker that reads
	goOn := make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release)
	subscribed := make(chan error, 1)
	go func() {
		_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
			Filters: []string{"a"},
			Handler: func(context.Context, *autopaho.Received) error { <-goOn; return nil },
		})
		subscribed <- err
	}()
	conn := l.Accept(ctx)
	conn.Handshake()
	first := conn.ExpectSubscribe()
	const all = 1 + 1024 + 10
	for i := range all {
		conn.SendPublish(brokertest.Packet{Topic: "a", QoS: 1, PacketID: uint16(i + 1)})
	}
	conn.SendSuback(first.PacketID, 1)
	conn.ExpectSubscribe()          // its time is over, in which something came, and the connection stays
	again := conn.ExpectSubscribe() // once more, and nothing came: the reader waits for room
	conn.SendSuback(again.PacketID, 1)
	release()
	var acked atomic.Int64
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			p, err := conn.ReadPacket(ctx)
			switch {
			case err != nil:
				return
			case p.Type == brokertest.PUBACK:
				acked.Add(1)
			case p.Type == brokertest.SUBSCRIBE:
				conn.SendSuback(p.PacketID, 1)
			}
		}
	}()
	require.NoError(t, <-subscribed)
	eventually(t, func() bool { return acked.Load() == all }, 30*time.Second, 5*time.Millisecond, "all are acknowledged")
	require.Equal(t, 1, l.Connections())
	conn.Close()
	<-read
}
