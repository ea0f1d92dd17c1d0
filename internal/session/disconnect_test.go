package session

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/qos"
)

// Every DISCONNECT code has its class: stop ends the link, all others are
// connected after again, and the owner is told the code and the words.
func TestDisconnectCodes(t *testing.T) {
	t.Parallel()
	codes := []byte{0x00, 0x04}
	for code := byte(0x80); code <= 0xA2; code++ {
		codes = append(codes, code)
	}
	for _, code := range codes {
		t.Run(fmt.Sprintf("0x%02X", code), func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			p := start(t, l.URL())
			c := l.Accept(t.Context())
			c.Handshake()
			p.up(0)
			c.SendDisconnect(code, brokertest.ReasonString("because"))
			c.ExpectClosed()
			var told *DisconnectError
			require.ErrorAs(t, p.down(0), &told)
			require.Equal(t, DisconnectError{Code: code, Reason: "because"}, *told)
			if qos.ClassOf(qos.DISCONNECT, code) != qos.Stop {
				require.False(t, errors.Is(told, ErrRefused) || errors.Is(told, ErrSessionTakenOver))
				l.Accept(t.Context()).Resume()
				p.up(1)
				return
			}
			err := p.done()
			require.Equal(t, code == 0x8E, errors.Is(err, ErrSessionTakenOver))
			require.Equal(t, code != 0x8E, errors.Is(err, ErrRefused))
			require.Equal(t, 1, l.Connections())
			require.Equal(t, err, p.link.Await(t.Context()))
			require.Equal(t, err, (<-subscribe(p, 0, Subscription{Filter: "a"})).err)
		})
	}
}

// The message that makes the server end the connection is found, by sending
// those in question one at a time, and fails; all others arrive, in few
// connections (H7 and H8 of the hazards, as far as validation cannot help).
func TestMessageThatMakesTheServerDisconnect(t *testing.T) {
	t.Parallel()
	for _, code := range []byte{0x81, 0x82, 0x90, 0x93, 0x94, 0x95, 0x99, 0x9A, 0x9B} {
		for _, level := range []byte{1, 2} {
			t.Run(fmt.Sprintf("0x%02X QoS %d", code, level), func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{
					{Topic: "bad", Code: code, Disconnect: true},
				}})
				p := start(t, b.URL())
				ms := messages(level, 0, 30)
				ms[11] = message("bad", level, "bad")
				all := p.send(ms...)
				end := p.end(all[11])
				require.Equal(t, code, end.Code)
				require.Equal(t, qos.Permanent, end.Class)
				require.Contains(t, end.Reason, fmt.Sprintf("(0x%02X)", code))
				p.allEnd(append(all[:11:11], all[12:]...))
				require.LessOrEqual(t, b.Connections(), 4)
				require.Empty(t, b.Violations())
				// The identifier of a QoS 2 message that was given up is burnt.
				p.allEnd(p.send(messages(level, 100, 50)...))
			})
		}
	}
}

// A server that drops us whatever we send has another quarrel than the messages:
// no more than a few of them fail, and the rest is there when it has come to its
// senses.
func TestServerThatDisconnectsForEverything(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "#", Code: 0x82, Disconnect: true}}})
	p := start(t, b.URL())
	all := p.send(messages(1, 0, 20)...)
	p.wait("condemnations, and some connections after them", func() bool {
		return len(p.order) >= maxCondemned && len(p.downs) > 2*maxCondemned+3
	})
	p.mu.Lock()
	require.Len(t, p.order, maxCondemned)
	p.mu.Unlock()
	b.SetAnswers()
	p.allEnd(all[maxCondemned:])
}

// A SUBSCRIBE that was under way may be what the server did not like: no message
// is failed for it.
func TestSubscribeThatMakesTheServerDisconnect(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	all := p.send(messages(1, 0, 1)...)
	for i := range 4 {
		c := l.Accept(t.Context())
		c.Resume()
		p.up(i)
		c.ExpectPublish()
		answer := subscribe(p, 0, Subscription{Filter: "bad"})
		c.ExpectSubscribe()
		c.SendDisconnect(0x82)
		c.ExpectClosed()
		require.ErrorIs(t, (<-answer).err, ErrConnectionLost)
	}
	require.True(t, p.open(all[0]))
}

// A server that goes says why and closes at once, while we write: the write
// fails before anybody has read the reason. A client that misses 0x8E takes its
// session back from whoever has it now.
func TestReasonIsReadAfterAWriteFailed(t *testing.T) {
	t.Parallel()
	for i := range 20 {
		l := brokertest.Listen(t)
		p := start(t, l.URL())
		failed := make(chan struct{})
		t.Cleanup(sync.OnceFunc(func() { close(failed) })) // also if the test fails before it does so
		p.onReceive = func(*Delivery) { <-failed }         // holds the reader up
		c := l.Accept(t.Context())
		c.Handshake()
		c.SendPublish(publish(0, 0, "m"))
		p.up(0)
		c.SendDisconnect(0x8E)
		c.Close()
		own := p.link.latest()
		for deadline := time.Now().Add(patience); ; {
			own.mu.Lock()
			own.out = append(own.out, typePingreq<<4, 0)
			err := own.flushLocked()
			own.mu.Unlock()
			if err != nil {
				break
			}
			require.True(t, time.Now().Before(deadline), "no write fails")
		}
		require.ErrorContains(t, p.link.Engine().Snapshot().Cause, "write to server")
		failed <- struct{}{}
		require.ErrorIs(t, p.done(), ErrSessionTakenOver, "attempt %d", i)
		require.Equal(t, 1, l.Connections())
	}
}

// paho may report the end of a connection before it reports the DISCONNECT that
// was read at the same time.
func TestDisconnectReportedAfterTheLoss(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	require.NoError(t, p.link.Engine().ConnectionLost(nil))
	c.SendDisconnect(0x8E)
	c.ExpectClosed()
	require.ErrorIs(t, p.done(), ErrSessionTakenOver)
}

func startBroker(t *testing.T, o brokertest.Options) *brokertest.Broker {
	t.Helper()
	b, err := brokertest.NewBroker(o)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}
