package brokertest_test

import (
	"context"
	"fmt"
	"net"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

func newBroker(t *testing.T, o brokertest.Options) *brokertest.Broker {
	t.Helper()
	b, err := brokertest.NewBroker(o)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

// connectPaho connects plain paho.golang; what it receives comes out of the
// channel.
func connectPaho(t *testing.T, b *brokertest.Broker, clientID string) (*paho.Client, <-chan *paho.Publish) {
	t.Helper()
	nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", b.Addr())
	require.NoError(t, err)
	received := make(chan *paho.Publish, 1000)
	client := paho.NewClient(paho.ClientConfig{
		Conn: nc,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(r paho.PublishReceived) (bool, error) {
			received <- r.Packet
			return true, nil
		}},
	})
	_, err = client.Connect(t.Context(), &paho.Connect{ClientID: clientID, CleanStart: true, KeepAlive: 30})
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Disconnect(&paho.Disconnect{}) })
	return client, received
}

// timeout is for waits that only a failing test spends in full.
func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), brokertest.DefaultTimeout)
	t.Cleanup(cancel)
	return ctx
}

func next(t *testing.T, received <-chan *paho.Publish) *paho.Publish {
	t.Helper()
	select {
	case p := <-received:
		return p
	case <-timeout(t).Done():
		t.Fatal("nothing received")
		return nil
	}
}

func TestBrokerWithPaho(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{ReceiveMaximum: 20})
	sub, received := connectPaho(t, b, "sub")
	_, err := sub.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "lines/+", QoS: 2}}})
	require.NoError(t, err)
	pub, _ := connectPaho(t, b, "pub")
	for i := range 60 {
		p := &paho.Publish{QoS: byte(i % 3), Topic: "lines/a", Payload: fmt.Appendf(nil, "%d", i), Properties: &paho.PublishProperties{}}
		p.Properties.User.Add("message-id", fmt.Sprintf("m%d", i))
		_, err := pub.Publish(t.Context(), p)
		require.NoError(t, err)
	}
	require.NoError(t, b.WaitFirstArrivals(timeout(t), 60))
	for i, a := range b.FirstArrivals("lines/a") {
		require.Equal(t, fmt.Sprintf("m%d", i), a.MessageID)
		require.Equal(t, byte(i%3), a.Packet.QoS)
	}
	for i := range 60 {
		p := next(t, received)
		require.Equal(t, fmt.Sprintf("%d", i), string(p.Payload))
		require.Equal(t, byte(i%3), p.QoS)
		require.Equal(t, fmt.Sprintf("m%d", i), p.Properties.User.Get("message-id"))
	}
	_, err = sub.Unsubscribe(t.Context(), &paho.Unsubscribe{Topics: []string{"lines/+"}})
	require.NoError(t, err)
	require.Zero(t, b.Subscribers("lines/+"))
	require.Empty(t, b.Violations())
	require.Equal(t, 2, b.Connections())
	require.ElementsMatch(t, []string{"sub", "pub"}, b.Connected())
}

func TestBrokerRetained(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{})
	b.Publish(brokertest.Packet{Topic: "r/1", Payload: []byte("kept"), QoS: 1, Retain: true})
	b.Publish(brokertest.Packet{Topic: "r/2", Payload: []byte("removed"), QoS: 1, Retain: true})
	b.Publish(brokertest.Packet{Topic: "r/2", QoS: 1, Retain: true})
	sub, received := connectPaho(t, b, "sub")
	_, err := sub.Subscribe(t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "r/#", QoS: 1}}})
	require.NoError(t, err)
	p := next(t, received)
	require.Equal(t, "kept", string(p.Payload))
	require.True(t, p.Retain)
	require.Zero(t, b.Stats().Refusals)
	b.Publish(brokertest.Packet{Topic: "r/3", Payload: []byte("live"), QoS: 1, Retain: true})
	p = next(t, received)
	require.Equal(t, "live", string(p.Payload))
	require.False(t, p.Retain)
}

func TestBrokerSharedSubscription(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{})
	const filter = "$share/g/work"
	first := hand(t, b, "a", 0, 60)
	second := hand(t, b, "b", 0, 60)
	first.subscribe(filter, 1)
	second.subscribe(filter, 1)
	for i := range 4 {
		b.Publish(brokertest.Packet{Topic: "work", QoS: 1, Payload: fmt.Appendf(nil, "%d", i)})
	}
	for i := range 2 {
		p := first.ExpectPublish(brokertest.HasPayload(fmt.Sprint(2 * i)))
		if i == 0 {
			first.SendPuback(p.PacketID, 0)
		}
		p = second.ExpectPublish(brokertest.HasPayload(fmt.Sprint(2*i + 1)))
		second.SendPuback(p.PacketID, 0)
	}
	// What a member that leaves for good has not acknowledged goes to the other.
	first.Send(&brokertest.Packet{
		Type: brokertest.DISCONNECT, Form: brokertest.FormFull,
		Properties: brokertest.Properties{brokertest.SessionExpiryInterval(0)},
	})
	second.ExpectPublish(brokertest.HasPayload("2"), brokertest.HasDUP(false))
	require.Empty(t, b.Violations())
}

// client is a client by hand.
type client struct {
	*brokertest.Conn
	connack *brokertest.Packet
}

func (c client) subscribe(filter string, qos byte) {
	c.Send(&brokertest.Packet{Type: brokertest.SUBSCRIBE, PacketID: 1, Filters: []brokertest.Filter{{Topic: filter, QoS: qos}}})
	c.Expect(brokertest.SUBACK)
}

func (c client) publish(id uint16, qos byte, dup bool, payload string) {
	c.SendPublish(brokertest.Packet{
		PacketID: id, QoS: qos, DUP: dup, Topic: "t", Payload: []byte(payload),
		Properties: brokertest.Properties{brokertest.UserProperty("message-id", payload)},
	})
}

// hand connects by hand, with a Receive Maximum (0: none) and a Session Expiry
// Interval.
func hand(t *testing.T, b *brokertest.Broker, clientID string, receiveMaximum uint16, expiry uint32) client {
	t.Helper()
	c := brokertest.Dial(t, b.Addr())
	p := &brokertest.Packet{
		Type:       brokertest.CONNECT,
		Connect:    &brokertest.Connect{ClientID: clientID, KeepAlive: 60},
		Properties: brokertest.Properties{brokertest.SessionExpiryInterval(expiry)},
	}
	if receiveMaximum > 0 {
		p.Properties = append(p.Properties, brokertest.ReceiveMaximum(receiveMaximum))
	}
	c.Send(p)
	return client{Conn: c, connack: c.ExpectConnack()}
}

func TestBrokerRedeliversOnResume(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{})
	c := hand(t, b, "sub", 2, 60)
	require.False(t, c.connack.SessionPresent)
	c.subscribe("t", 2)
	for i := range 5 {
		b.Publish(brokertest.Packet{Topic: "t", QoS: byte(1 + i%2), Payload: fmt.Append(nil, i)})
	}
	c.ExpectPublish(brokertest.HasPayload("0"), brokertest.HasDUP(false), brokertest.HasID(1))
	c.ExpectPublish(brokertest.HasPayload("1"), brokertest.HasDUP(false), brokertest.HasID(2))
	c.SendPubrec(2, 0)
	c.ExpectPubrel(brokertest.HasID(2)) // and not PUBLISH: the window is still full
	c.Reset()
	require.NoError(t, b.Wait(timeout(t), func() bool { return len(b.Connected()) == 0 }))
	b.Publish(brokertest.Packet{Topic: "t", QoS: 0, Payload: []byte("while away")})

	c = hand(t, b, "sub", 3, 60)
	require.True(t, c.connack.SessionPresent)
	c.ExpectPublish(brokertest.HasPayload("0"), brokertest.HasDUP(true), brokertest.HasID(1))
	c.ExpectPubrel(brokertest.HasID(2))
	c.ExpectPublish(brokertest.HasPayload("2"), brokertest.HasDUP(false))
	c.SendPubcomp(2, 0)
	c.ExpectPublish(brokertest.HasPayload("3"), brokertest.HasDUP(false))
	c.SendPuback(1, 0)
	c.ExpectPublish(brokertest.HasPayload("4"), brokertest.HasDUP(false))
	require.Empty(t, b.Violations())
	stats := b.Stats()
	require.Equal(t, 6, stats.Deliveries)
	require.Equal(t, 1, stats.Redeliveries)
	require.Equal(t, 1, stats.Discarded)
}

func TestBrokerTakesOver(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{})
	first := hand(t, b, "same", 0, 60)
	second := hand(t, b, "same", 0, 60)
	require.True(t, second.connack.SessionPresent)
	first.ExpectDisconnect(brokertest.HasCode(0x8E))
	first.ExpectClosed()
	second.publish(1, 1, false, "m")
	second.ExpectPuback(brokertest.HasID(1))
	require.Equal(t, 1, b.Stats().Takeovers)
}

func TestBrokerStopStartForget(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{})
	c := hand(t, b, "c", 0, 60)
	c.subscribe("t", 1)
	addr := b.Addr()
	b.Stop()
	c.ExpectClosed()
	_, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	require.Error(t, err)

	require.NoError(t, b.Start())
	require.Equal(t, addr, b.Addr())
	require.True(t, hand(t, b, "c", 0, 60).connack.SessionPresent)
	b.Stop()
	b.Forget()
	require.NoError(t, b.Start())
	require.False(t, hand(t, b, "c", 0, 60).connack.SessionPresent)
	require.Zero(t, b.Subscribers("t"))
}
