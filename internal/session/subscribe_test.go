package session

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// asked is the answer to a Subscribe or Unsubscribe that runs beside the script.
type asked struct {
	granted []byte
	err     error
}

func subscribe(p *peer, id int, subs ...Subscription) <-chan asked {
	ch := make(chan asked, 1)
	go func() {
		granted, err := p.link.Subscribe(context.WithoutCancel(p.t.Context()), subs, id)
		ch <- asked{granted, err}
	}()
	return ch
}

func unsubscribe(p *peer, filters ...string) <-chan asked {
	ch := make(chan asked, 1)
	go func() { ch <- asked{err: p.link.Unsubscribe(context.WithoutCancel(p.t.Context()), filters)} }()
	return ch
}

func Test02SubscribeQoS(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	for _, level := range []byte{0, 1, 2} {
		answer := subscribe(p, 5, Subscription{
			Filter: "qos/test", QoS: level, NoLocal: true, RetainAsPublished: true, RetainHandling: 2,
		})
		s := c.ExpectSubscribe()
		require.Equal(t, []brokertest.Filter{
			{Topic: "qos/test", QoS: level, NoLocal: true, RetainAsPublished: true, RetainHandling: 2},
		}, s.Filters)
		require.Equal(t, []uint32{5}, s.Properties.SubscriptionIdentifiers())
		c.SendSuback(s.PacketID, level)
		a := <-answer
		require.NoError(t, a.err)
		require.Equal(t, []byte{level}, a.granted)
	}
}

// A refused filter among others, and a lower QoS than asked, are told apart.
func TestSubackCodes(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	two := []Subscription{{Filter: "a", QoS: 2}, {Filter: "b/#", QoS: 2}}
	ask := func(codes ...byte) asked {
		answer := subscribe(p, 0, two...)
		c.SendSuback(c.ExpectSubscribe().PacketID, codes...)
		return <-answer
	}
	a := ask(1, 0)
	require.NoError(t, a.err)
	require.Equal(t, []byte{1, 0}, a.granted)
	for code := byte(0x80); code <= 0xA2; code++ {
		var refused *SubscribeError
		require.ErrorAs(t, ask(2, code).err, &refused)
		require.Equal(t, SubscribeError{Filter: "b/#", Code: code}, *refused)
	}
	require.ErrorContains(t, ask(2).err, "another number", "a SUBACK that tells nothing of one filter")
	require.Equal(t, 1, l.Connections())
}

func Test02UnsubscribeMultipleV5(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	ask := func(codes ...byte) error {
		answer := unsubscribe(p, "a", "b")
		u := c.ExpectUnsubscribe()
		require.Equal(t, []brokertest.Filter{{Topic: "a"}, {Topic: "b"}}, u.Filters)
		c.SendUnsuback(u.PacketID, codes...)
		return (<-answer).err
	}
	require.NoError(t, ask(0, 0x11), "0x11: no subscription existed, which is what was wanted")
	var refused *SubscribeError
	require.ErrorAs(t, ask(0, 0x87), &refused)
	require.Equal(t, "b", refused.Filter)
	require.Error(t, ask(0))
}

// A connection that ends under a request tells it so at once: paho's own
// session let it wait for its whole timeout.
func TestConnectionLostUnderSubscribe(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	sub, unsub := subscribe(p, 0, Subscription{Filter: "a"}), unsubscribe(p, "b")
	c.Next()
	c.Next()
	began := time.Now()
	c.Reset()
	require.ErrorIs(t, (<-sub).err, ErrConnectionLost)
	require.ErrorIs(t, (<-unsub).err, ErrConnectionLost)
	require.Less(t, time.Since(began), patience/2)
}

// While there is no connection, and in the moments in which paho and the engine
// do not agree on that, a request fails as one whose connection was lost.
func TestSubscribeWithoutConnection(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	require.ErrorIs(t, (<-subscribe(p, 0, Subscription{Filter: "a"})).err, ErrConnectionLost)
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	require.NoError(t, p.link.Engine().ConnectionLost(nil))
	require.ErrorIs(t, (<-subscribe(p, 0, Subscription{Filter: "a"})).err, ErrConnectionLost)
	require.ErrorIs(t, (<-unsubscribe(p, "a")).err, ErrConnectionLost)
}

// Requests that are never answered keep their packet identifiers, since the
// answer may still come; there is an end to how many there are.
func TestUnansweredRequestsAreBounded(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL(), func(c *Config) { c.PacketTimeout = time.Minute })
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, spareIDs+1)
	ids := make(map[uint16]bool)
	for i := range spareIDs {
		go func() {
			_, err := p.link.Subscribe(ctx, []Subscription{{Filter: fmt.Sprint(i)}}, 0)
			errs <- err
		}()
		ids[c.ExpectSubscribe().PacketID] = true
	}
	require.Len(t, ids, spareIDs)
	_, err := p.link.Subscribe(ctx, []Subscription{{Filter: "one more"}}, 0)
	require.ErrorIs(t, err, ErrTooManyRequests)
	require.False(t, errors.Is(err, ErrConnectionLost))
	brief, end := context.WithTimeout(ctx, 20*time.Millisecond)
	require.ErrorIs(t, p.link.Engine().WaitRequest(brief), context.DeadlineExceeded)
	end()
	cancel()
	for range spareIDs {
		require.ErrorIs(t, <-errs, context.Canceled)
	}
	_, err = p.link.Subscribe(t.Context(), []Subscription{{Filter: "one more"}}, 0)
	require.Error(t, err, "given up is not answered")
	var last uint16
	for last = range ids {
		break
	}
	room := make(chan error, 1)
	go func() { room <- p.link.Engine().WaitRequest(context.WithoutCancel(t.Context())) }()
	c.SendSuback(last, 0) // late, for nobody
	require.NoError(t, <-room)
	answer := subscribe(p, 0, Subscription{Filter: "one more"})
	s := c.ExpectSubscribe()
	require.NotContains(t, ids, s.PacketID)
	c.SendSuback(s.PacketID, 0)
	require.NoError(t, (<-answer).err)
}

// A SUBACK for nobody and one for another packet's identifier change nothing.
func TestUnexpectedSuback(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	o := p.send(message("t", 1, "m"))[0]
	id := c.ExpectPublish().PacketID
	c.SendSuback(id, 0)
	c.SendUnsuback(4711, 0)
	flushed(c)
	require.True(t, p.open(o))
	c.SendPuback(id, 0)
	p.end(o)
}

// What came before an UNSUBACK is handed over before Unsubscribe returns, also if both
// were read at once: who hears that the subscription has ended must not get more.
func TestUnsubackIsTheLastWord(t *testing.T) {
	t.Parallel()
	l := brokertest.Listen(t)
	p := start(t, l.URL())
	c := l.Accept(t.Context())
	c.Handshake()
	p.up(0)
	entered, goOn := make(chan struct{}), make(chan struct{})
	p.mu.Lock()
	p.onReceive = func(*Delivery) {
		close(entered)
		<-goOn
	}
	p.mu.Unlock()
	answer := unsubscribe(p, "t")
	id := c.ExpectUnsubscribe().PacketID
	m := publish(1, 1, "m")
	m.Type = brokertest.PUBLISH
	var both []byte
	for _, packet := range []*brokertest.Packet{&m, {Type: brokertest.UNSUBACK, PacketID: id, Codes: []byte{0}}} {
		both = append(both, packet.Encode()...)
	}
	c.SendRaw(both)
	<-entered
	select {
	case <-answer:
		t.Error("answered before what had come was handed over")
		close(goOn)
	case <-time.After(100 * time.Millisecond):
		close(goOn)
		require.NoError(t, (<-answer).err)
	}
}
