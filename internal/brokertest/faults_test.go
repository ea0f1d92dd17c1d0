package brokertest_test

import (
	"context"
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// publishUntilReset publishes numbers until the broker resets the connection.
func publishUntilReset(t *testing.T, b *brokertest.Broker, from int) {
	t.Helper()
	c := hand(t, b, "pub", 0, 60)
	for i := range 1000 {
		c.publish(uint16(i+1), 1, false, strconv.Itoa(from+i))
		p, err := c.ReadPacket(t.Context())
		if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		require.Equal(t, brokertest.PUBACK, p.Type)
	}
	t.Fatal("no drop in 1000 packets")
}

func TestDropEvery(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) (perConnection [4]int) {
		b := newBroker(t, brokertest.Options{
			Seed: seed, DropEvery: brokertest.Range{Min: 5, Max: 30}, DropLimit: 3, ForgetSessions: true,
		})
		for i := range 3 {
			publishUntilReset(t, b, 1000*i)
		}
		c := hand(t, b, "pub", 0, 60)
		require.False(t, c.connack.SessionPresent)
		for i := range 40 { // the limit is reached
			c.publish(1, 1, false, "last"+strconv.Itoa(i))
			c.ExpectPuback()
		}
		for _, a := range b.Arrivals() {
			perConnection[a.Conn-1]++
		}
		require.Equal(t, 3, b.Stats().Drops)
		require.Equal(t, 4, b.Connections())
		require.Empty(t, b.Violations())
		return perConnection
	}
	first := run(1)
	require.Equal(t, first, run(1), "the same seed gives the same faults")
	require.NotEqual(t, first, run(2))
	for _, n := range first[:3] {
		require.True(t, n >= 4 && n <= 29, "%d packets before the drop", n)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{
		TellNoSubscribers: true,
		Answers: []brokertest.Answer{
			{Topic: "t", Code: 0x97, Times: 2, PerMessage: true},
			{Topic: "t", Code: 0x87, Times: 1},
			{Topic: "no", On: brokertest.SUBSCRIBE, Code: 0x87},
			{Topic: "end/#", Code: 0x82, Disconnect: true},
		},
	})
	c := hand(t, b, "pub", 0, 60)
	code := func(qos byte, payload string) byte {
		c.publish(1, qos, false, payload)
		if qos == 1 {
			return c.ExpectPuback(brokertest.HasID(1)).Code
		}
		return c.ExpectPubrec(brokertest.HasID(1)).Code
	}
	require.EqualValues(t, 0x97, code(1, "a"))
	require.EqualValues(t, 0x97, code(2, "b"))
	require.EqualValues(t, 0x97, code(2, "a"))
	require.EqualValues(t, 0x87, code(1, "a"))
	require.EqualValues(t, 0x10, code(1, "a"))
	require.EqualValues(t, 0x97, code(1, "b"))
	require.Empty(t, b.Violations())
	first := b.FirstArrivals("t")
	require.Len(t, first, 1)
	require.Equal(t, "a", first[0].MessageID)
	require.Equal(t, 5, first[0].Seq)

	c.Send(&brokertest.Packet{Type: brokertest.SUBSCRIBE, PacketID: 9, Filters: []brokertest.Filter{{Topic: "no"}, {Topic: "yes", QoS: 1}}})
	require.Equal(t, []byte{0x87, 1}, c.ExpectSuback().Codes)
	b.SetAnswers()
	c.SendPublish(brokertest.Packet{PacketID: 3, QoS: 1, Topic: "end/x"})
	c.ExpectPuback(brokertest.HasCode(0x10))
	b.SetAnswers(brokertest.Answer{Topic: "end/#", Code: 0x82, Disconnect: true})
	c.SendPublish(brokertest.Packet{PacketID: 4, QoS: 1, Topic: "end/x"})
	c.ExpectDisconnect(brokertest.HasCode(0x82))
	c.ExpectClosed()
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{
		ConnackCodes: []byte{0x88, 0x97}, Credentials: map[string]string{"ann": "secret"},
	})
	connect := func(name, password *string) byte {
		c := brokertest.Dial(t, b.Addr())
		c.Send(&brokertest.Packet{
			Type:    brokertest.CONNECT,
			Connect: &brokertest.Connect{ClientID: "c", Username: name, Password: password},
		})
		code := c.ExpectConnack().Code
		if code != 0 {
			c.ExpectClosed()
		}
		return code
	}
	require.EqualValues(t, 0x88, connect(new("ann"), new("secret")))
	require.EqualValues(t, 0x97, connect(new("ann"), new("secret")))
	require.EqualValues(t, 0, connect(new("ann"), new("secret")))
	require.EqualValues(t, 0x86, connect(new("ann"), new("wrong")))
	require.EqualValues(t, 0x86, connect(new("bob"), new("secret")))
	require.EqualValues(t, 0x86, connect(nil, nil))
}

func TestLosePuback(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{LosePuback: 2})
	c := hand(t, b, "pub", 0, 60)
	c.publish(1, 1, false, "a")
	c.ExpectPuback(brokertest.HasID(1))
	c.publish(2, 1, false, "b")
	c.ExpectClosed()
	c = hand(t, b, "pub", 0, 60)
	require.True(t, c.connack.SessionPresent)
	c.publish(2, 1, true, "b")
	c.ExpectPuback(brokertest.HasID(2))
	require.Len(t, b.Arrivals(), 3)
	require.Len(t, b.FirstArrivals("t"), 2)
	require.Empty(t, b.Violations())
	require.Zero(t, b.Stats().Takeovers)
}

func TestCutsOfAQoS2Exchange(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{CutAfterPubrec: 2, CutAfterPubrel: 3})
	c := hand(t, b, "pub", 0, 60)
	c.publish(1, 2, false, "a")
	c.ExpectPubrec(brokertest.HasID(1))
	c.SendPubrel(1, 0)
	c.ExpectPubcomp(brokertest.HasID(1), brokertest.HasCode(0))
	c.publish(1, 2, false, "b")
	c.ExpectPubrec(brokertest.HasID(1))
	c.ExpectClosed()

	c = hand(t, b, "pub", 0, 60)
	require.True(t, c.connack.SessionPresent)
	c.SendPubrel(1, 0)
	c.ExpectPubcomp(brokertest.HasID(1), brokertest.HasCode(0))
	c.publish(1, 2, false, "c")
	c.ExpectPubrec(brokertest.HasID(1))
	c.SendPubrel(1, 0)
	c.ExpectClosed()

	c = hand(t, b, "pub", 0, 60)
	c.SendPubrel(1, 0)
	c.ExpectPubcomp(brokertest.HasID(1), brokertest.HasCode(0))
	c.SendPubrel(1, 0)
	c.ExpectPubcomp(brokertest.HasID(1), brokertest.HasCode(0x92))
	require.Len(t, b.Arrivals(), 3)
	require.Empty(t, b.Violations())
	require.Zero(t, b.Stats().Takeovers)
}

func TestRefusalsOfSubscribersAreCounted(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{})
	c := hand(t, b, "sub", 0, 60)
	c.subscribe("t", 2)
	for qos := range byte(2) {
		b.Publish(brokertest.Packet{Topic: "t", QoS: qos + 1})
	}
	c.SendPuback(c.ExpectPublish().PacketID, 0x80)
	c.SendPubrec(c.ExpectPublish().PacketID, 0x97)
	require.NoError(t, b.Wait(timeout(t), func() bool { return b.Stats().Refusals == 2 }))
	c.Reset()
	require.NoError(t, b.Wait(timeout(t), func() bool { return len(b.Connected()) == 0 }))
	c = hand(t, b, "sub", 0, 60)
	b.Publish(brokertest.Packet{Topic: "t", Payload: []byte("nothing was left to deliver")})
	c.ExpectPublish(brokertest.HasPayload("nothing was left to deliver"))
}

// What the broker has not released it has once, however often it comes.
func TestQoS2RepeatedIsPassedOnOnce(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{CutAfterPubrec: 1})
	sub := hand(t, b, "sub", 0, 60)
	sub.subscribe("t", 0)
	message := brokertest.Packet{PacketID: 1, QoS: 2, Topic: "t", Payload: []byte("no message ID")}
	c := hand(t, b, "pub", 0, 60)
	c.SendPublish(message)
	c.ExpectPubrec()
	c.ExpectClosed()
	c = hand(t, b, "pub", 0, 60)
	message.DUP = true
	c.SendPublish(message)
	c.ExpectPubrec()
	c.SendPubrel(1, 0)
	c.ExpectPubcomp(brokertest.HasCode(0))
	b.Publish(brokertest.Packet{Topic: "t", Payload: []byte("fence")})
	sub.ExpectPublish(brokertest.HasPayload("no message ID"))
	sub.ExpectPublish(brokertest.HasPayload("fence"))
	require.Len(t, b.Arrivals(), 2)
	require.True(t, b.Arrivals()[1].Repeat)
	require.Len(t, b.FirstArrivals("t"), 1)
	require.Empty(t, b.Violations())
}

func TestHeldAndDelayedAcks(t *testing.T) {
	t.Parallel()
	const delay = 30 * time.Millisecond
	b := newBroker(t, brokertest.Options{AckDelay: delay})
	c := hand(t, b, "pub", 0, 60)
	start := time.Now()
	c.publish(1, 1, false, "a")
	c.Send(&brokertest.Packet{Type: brokertest.PINGREQ})
	c.Expect(brokertest.PINGRESP) // not delayed
	c.ExpectPuback(brokertest.HasID(1))
	require.GreaterOrEqual(t, time.Since(start), delay)

	b.HoldAcks()
	for id := range uint16(3) {
		c.publish(id+1, 1, false, "held"+strconv.Itoa(int(id)))
	}
	require.NoError(t, b.WaitFirstArrivals(timeout(t), 4))
	c.Send(&brokertest.Packet{Type: brokertest.PINGREQ})
	c.Expect(brokertest.PINGRESP)
	c.ExpectQuiet(2 * delay)
	b.ReleaseAcks()
	for id := range uint16(3) {
		c.ExpectPuback(brokertest.HasID(id + 1))
	}
	require.Empty(t, b.Violations())
}

func TestIntercept(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{
		Intercept: func(clientID string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			switch {
			case clientID != "pub":
				return brokertest.Pass
			case d == brokertest.Out && p.Type == brokertest.PUBACK && p.PacketID == 1:
				return brokertest.Drop
			case d == brokertest.In && p.PacketID == 2:
				return brokertest.Drop
			case d == brokertest.Out && p.PacketID == 4:
				return brokertest.Cut
			}
			return brokertest.Pass
		},
	})
	c := hand(t, b, "pub", 0, 60)
	for id := range uint16(4) {
		c.publish(id+1, 1, false, strconv.Itoa(int(id)))
	}
	c.ExpectPuback(brokertest.HasID(3))
	c.ExpectClosed()
	var ids []uint16
	for _, a := range b.Arrivals() {
		ids = append(ids, a.Packet.PacketID)
	}
	require.Equal(t, []uint16{1, 3, 4}, ids)
}

func TestWillAndKeepAlive(t *testing.T) {
	t.Parallel()
	b := newBroker(t, brokertest.Options{ServerKeepAlive: 1})
	watcher := hand(t, b, "watcher", 0, 60)
	watcher.subscribe("will/#", 1)
	connect := func(id string) *brokertest.Conn {
		c := brokertest.Dial(t, b.Addr())
		c.Send(&brokertest.Packet{Type: brokertest.CONNECT, Connect: &brokertest.Connect{
			ClientID: id, Will: &brokertest.Will{QoS: 1, Topic: "will/" + id, Payload: []byte("gone")},
		}})
		c.ExpectConnack()
		return c
	}
	polite := connect("polite")
	polite.SendDisconnect(0)
	polite.ExpectClosed()
	connect("asks").SendDisconnect(4) // Disconnect with Will Message
	watcher.SendPuback(watcher.ExpectPublish(brokertest.HasTopic("will/asks")).PacketID, 0)
	connect("rude").Reset()
	watcher.SendPuback(watcher.ExpectPublish(brokertest.HasTopic("will/rude")).PacketID, 0)
	silent := connect("silent")
	for {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		p, err := watcher.ReadPacket(ctx)
		cancel()
		if err != nil {
			// The watcher has the same keep alive.
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			watcher.Send(&brokertest.Packet{Type: brokertest.PINGREQ})
		} else if p.Type == brokertest.PUBLISH {
			require.Equal(t, "will/silent", p.Topic)
			break
		}
	}
	silent.ExpectClosed()
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	_, err := brokertest.NewBroker(brokertest.Options{
		DropEvery: brokertest.Range{Min: 5, Max: 4}, MaximumQoS: new(byte(2)), Answers: []brokertest.Answer{{}},
	})
	require.ErrorContains(t, err, "DropEvery")
	require.ErrorContains(t, err, "MaximumQoS")
	require.ErrorContains(t, err, "Answers[0]")
}
