package session

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/qos"
)

// The hazards are what paho.golang v0.23.0 does with its own session, publish
// queue and acknowledgements. Each test tells one, and that it does not reach
// our users. Two have their tests elsewhere: H7 and H8, topics and messages for
// which a server ends every connection (TestMessageThatMakesTheServerDisconnect;
// what can be told from the message alone is refused when it is accepted), and
// H9, packet sizes that neither side heeds (Test11PropOversizePacket,
// TestMaximumPacketSize).

// H1: on a PUBREC paho wrote its PUBREL to a connection that Disconnect had set
// to nil meanwhile, and the process was gone, within fifty attempts.
func TestH1CloseDuringQoS2Handshakes(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	for i := range 40 {
		p := start(t, b.URL(), func(c *Config) { c.ClientID, c.CleanStart = fmt.Sprint("h1-", i), true })
		p.send(messages(2, 0, 200)...)
		p.wait("some completions", func() bool { return len(p.order) >= i })
		require.NoError(t, p.link.Close(within(t, patience)))
		p.balance()
	}
	require.Empty(t, b.Violations())
}

// H2: a server that answered Session Present 0 made paho throw away everything
// in flight, and whoever waited saw a timeout. It is sent again as new, in
// order, before anything newer.
func TestH2SessionLost(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake(brokertest.ReceiveMaximum(6))
	var ms []*Outgoing
	for i := range 8 {
		ms = append(ms, p.send(message("t", byte(i%2+1), fmt.Sprint(i)))...)
	}
	var ids []uint16
	for range 6 {
		ids = append(ids, c.ExpectPublish().PacketID)
	}
	c.SendPubrec(ids[1], 0) // its exchange had got as far as PUBREL
	c.ExpectPubrel(brokertest.HasID(ids[1]))
	c.SendPuback(ids[2], 0) // ended
	p.end(ms[2])
	c.ExpectPublish(brokertest.HasPayload("6"))
	c.Reset()

	c = l.Accept(t.Context())
	c.Handshake()
	for _, payload := range []string{"0", "1", "3", "4", "5", "6", "7"} {
		m := c.ExpectPublish(brokertest.HasPayload(payload), brokertest.HasDUP(false))
		if m.QoS == 1 {
			c.SendPuback(m.PacketID, 0)
			continue
		}
		c.SendPubrec(m.PacketID, 0x10)
	}
	p.allEnd([]*Outgoing{ms[0], ms[2], ms[4], ms[6]})
}

// H3: paho's Publish returned no error for a QoS 2 message that the server had
// refused with PUBREC.
func TestH3RefusalByPubrec(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	o := p.send(message("t", 2, "m"))[0]
	c.SendPubrec(c.ExpectPublish().PacketID, 0x87, brokertest.ReasonString("not yours"))
	require.Equal(t, Completion{Out: o, Code: 0x87, Reason: "not yours", Class: qos.Permanent}, p.end(o))
}

// H4: paho's Publish gave up after ten seconds with the packet still in the
// session, to be delivered later or not. A time without an answer says nothing
// about the message: the connection is dropped, and it is sent again.
func TestH4NoAnswer(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.AckTimeout = 100 * time.Millisecond })
	c := l.Accept(t.Context())
	c.Handshake()
	all := p.send(message("t", 1, "1"), message("t", 2, "2"))
	one, two := c.ExpectPublish().PacketID, c.ExpectPublish().PacketID
	c.SendPuback(one, 0)
	c.SendPubrec(two, 0)
	c.ExpectPubrel()
	c.ExpectClosed()
	require.ErrorContains(t, p.down(0), "no acknowledgement within 100ms")
	require.True(t, p.open(all[1]))
	c = l.Accept(t.Context())
	c.Resume()
	c.ExpectPubrel(brokertest.HasID(two))
	c.SendPubcomp(two, 0)
	p.allEnd(all)
}

// H5: a message that was handed in while paho's connection came back was stored
// after the list of what to send again had been read: it was not sent before the
// next connection, which might be never.
func TestH5MessagesHandedInDuringReconnects(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	p := start(t, b.URL())
	var all []*Outgoing
	for i := range 60 {
		p.link.Drop()
		for j := range 5 {
			all = append(all, p.send(message("t", byte(j%3), fmt.Sprint(i, j)))...)
		}
		if i%10 == 0 {
			p.allEnd(all)
		}
	}
	p.allEnd(all)
}

// H6: paho sent everything again before it began to read. With a server that
// does the same neither side ever came to read what the other wrote.
func TestH6BothSidesSendMuchOnReconnect(t *testing.T) {
	t.Parallel()
	const n, size = 60, 200 << 10 // twelve megabytes each way, far beyond the socket buffers
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) {
		c.Engine.WindowBytes, c.Engine.ReceiveMaximum = 2*n*size, n
	})
	large := strings.Repeat("x", size)
	var all []*Outgoing
	for range n {
		m := message("t", 1, "m")
		m.Payload = []byte(large)
		all = append(all, p.send(m)...)
	}
	c := l.Accept(t.Context())
	c.Handshake()
	for range n {
		c.ExpectPublish()
	}
	c.Reset()
	c = l.Accept(t.Context())
	c.Resume()
	for id := range uint16(n) {
		c.SendPublish(publish(id+1, 1, large)) // and read nothing meanwhile
	}
	p.delivery(n - 1)
	for range n {
		c.SendPuback(c.ExpectPublish(brokertest.HasDUP(true)).PacketID, 0)
	}
	p.allEnd(all)
}

// H10: another client with our client ID made autopaho connect again at once,
// and take the session back, for ever.
func TestH10SessionTakenOver(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	first := start(t, b.URL())
	first.up(0)
	second := start(t, b.URL())
	second.up(0)
	require.ErrorIs(t, first.done(), ErrSessionTakenOver)
	second.allEnd(second.send(messages(1, 0, 10)...))
	require.Equal(t, 2, b.Connections())
	second.mu.Lock()
	defer second.mu.Unlock()
	require.Empty(t, second.downs)
}

// H11: paho connected again only when its handlers had worked off everything
// that was buffered, which could not be acknowledged any more. Here work is
// handed off: what is not acknowledged does not hold the next connection up.
func TestH11UnfinishedWorkDoesNotHoldReconnectUp(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	for id := range uint16(20) {
		c.SendPublish(publish(id+1, 1, "m"))
	}
	p.delivery(19) // and none of them acknowledged
	began := time.Now()
	c.Reset()
	c = l.Accept(t.Context())
	c.Resume()
	p.up(1)
	require.Less(t, time.Since(began), 2*time.Second)
	c.SendPublish(publish(1, 1, "m"))
	p.delivery(20).Ack(0)
	c.ExpectPuback(brokertest.HasID(1)) // what is old does not stand in its way
}

// H12: paho's Disconnect dropped acknowledgements that waited for a timer: ten
// messages were handled and came again. Also, a close with unread bytes in the
// socket sends RST, which may overtake what was written.
func TestH12CloseDeliversAcknowledgements(t *testing.T) {
	t.Parallel()
	for i := range 10 {
		l := brokertest.Listen(t)
		p := start(t, l.URL())
		c := l.Accept(t.Context())
		c.Handshake()
		for id := range uint16(10) {
			c.SendPublish(publish(id+1, 1, "m"))
		}
		p.delivery(9)
		for j := range 10 {
			p.delivery(j).Ack(0)
		}
		closed := make(chan error, 1)
		go func() { closed <- p.link.Close(context.WithoutCancel(t.Context())) }()
		// The server goes on sending before it reads anything.
		for range 300 {
			c.SendPublish(publish(0, 0, strings.Repeat("unread", 200)))
		}
		for id := range uint16(10) {
			c.ExpectPuback(brokertest.HasID(id + 1))
		}
		c.ExpectDisconnect(brokertest.HasCode(0))
		c.Close()
		require.NoError(t, <-closed, "round %d", i)
	}
}

// H13: paho sent everything again at once, also if the server had lowered its
// Receive Maximum, so that it might answer 0x93 on every connection.
func TestH13SmallerReceiveMaximumOnResume(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{1, 2} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.Handshake()
			all := p.send(messages(level, 0, 5)...)
			for range all {
				c.ExpectPublish()
			}
			c.Reset()
			c = l.Accept(t.Context())
			c.Resume(brokertest.ReceiveMaximum(2))
			open := []uint16{c.ExpectPublish(brokertest.HasDUP(true)).PacketID, c.ExpectPublish().PacketID}
			for i := range all {
				flushed(c) // two, and no third
				if level == 1 {
					c.SendPuback(open[0], 0)
				} else {
					c.SendPubrec(open[0], 0)
					c.ExpectPubrel()
					c.SendPubcomp(open[0], 0)
				}
				open = open[1:]
				if i < 3 {
					open = append(open, c.ExpectPublish(brokertest.HasDUP(true)).PacketID)
				}
			}
			p.allEnd(all)
		})
	}
}

// H14: paho's errors quoted the broker's URL with the password in it, and took
// malformed packets for messages (TestMalformedPackets). A canary looks for
// credentials in every error that a link can report.
func TestH14NoCredentialsInErrors(t *testing.T) {
	t.Parallel()
	const canary = "canary-4711"
	l := brokertest.Listen(t)
	down := brokertest.Listen(t)
	down.Close()
	p := start(t, "mqtt://user:"+canary+"@"+down.Addr(), func(c *Config) {
		c.Username, c.Password = "user", []byte(canary)
		live := l.ParsedURL()
		live.User = c.Servers[0].User
		ws := *c.Servers[0]
		ws.Scheme, ws.RawQuery = "ws", "token=another-canary"
		unknown := *c.Servers[0]
		unknown.Scheme, unknown.Path = "unix", "/nowhere"
		c.Servers = append(c.Servers, &ws, &unknown, live)
	})
	c := l.Accept(t.Context())
	require.Equal(t, canary, *c.ExpectConnect().Connect.Password)
	c.SendConnack(false, 0x97, brokertest.ReasonString("too much for "+canary))
	c = l.Accept(t.Context())
	c.ExpectConnect()
	c.SendRaw([]byte(canary))
	c.ExpectDisconnect()
	c.Close()
	c = l.Accept(t.Context())
	c.ExpectConnect()
	c.SendConnack(false, 0x86, brokertest.ReasonString(canary))
	require.ErrorIs(t, p.done(), ErrRefused)
	p.mu.Lock()
	defer p.mu.Unlock()
	require.GreaterOrEqual(t, len(p.failures), 12)
	for _, err := range append(p.failures, p.link.Err()) {
		require.NotContains(t, err.Error(), canary)
		require.NotContains(t, fmt.Sprintf("%+v", err), canary)
		require.NotContains(t, err.Error(), "another-canary")
	}
}
