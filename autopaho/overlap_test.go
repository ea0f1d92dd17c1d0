package autopaho_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// overlapping are subscriptions whose filters match the same topic, and how many
// effects a message is to have.
type overlapping struct {
	subs    []autopaho.SubscribeConfig
	effects int
}

// A server may send a message once for each subscription that it matches, each time
// under another packet identifier and with that subscription's identifier, or once
// with all of them (section 3.3.4). However many copies there are, and however they
// arrive, a message has one effect in a group. Each copy is acknowledged.
func TestOverlappingFilters(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]overlapping{
		"one subscription": {effects: 1, subs: []autopaho.SubscribeConfig{{Group: "g", Filters: []string{"a/#", "a/+"}}}},
		"one group": {effects: 1, subs: []autopaho.SubscribeConfig{
			{Group: "g", Filters: []string{"a/#"}}, {Group: "g", Filters: []string{"a/+"}},
		}},
		"one group unshared": {effects: 1, subs: []autopaho.SubscribeConfig{
			{Group: "g", Filters: []string{"a/#"}, Unshared: true}, {Group: "g", Filters: []string{"a/+"}, Unshared: true},
		}},
		"two groups": {effects: 2, subs: []autopaho.SubscribeConfig{
			{Group: "g", Filters: []string{"a/#"}}, {Group: "h", Filters: []string{"a/+"}},
		}},
	} {
		for _, mode := range deskModes() {
			for _, level := range []byte{1, 2} {
				t.Run(fmt.Sprintf("%s/%s/qos%d", name, mode, level), func(t *testing.T) {
					t.Parallel()
					checkOverlap(t, o, mode, level)
				})
			}
		}
	}
}

func checkOverlap(t *testing.T, o overlapping, mode string, level byte) {
	t.Helper()
	ctx := within(t, 60*time.Second)
	l := brokertest.Listen(t)
	arrived := make(chan struct{})
	d := newDesk(t, mode, func(context.Context, *autopaho.Received) error {
		<-arrived // nothing has an effect before all copies are here
		return nil
	})
	cl := client(t, autopaho.Config{
		Servers: []string{l.URL()}, ClientID: "c", Store: d.store, Relay: autopaho.RelayConfig{Off: true},
	})
	subscribed := make(chan error, len(o.subs))
	go func() {
		for _, s := range o.subs {
			s.QoS = level
			_, err := cl.Subscribe(ctx, d.subscription(s))
			subscribed <- err
		}
	}()
	c := l.Accept(ctx)
	c.Handshake()
	var ids []uint32
	for _, s := range o.subs {
		p := c.ExpectSubscribe()
		id, ok := p.Properties.Num(brokertest.PropSubscriptionIdentifier)
		require.True(t, ok)
		codes := make([]byte, len(s.Filters))
		for i := range codes {
			codes[i] = level
		}
		c.SendSuback(p.PacketID, codes...)
		require.NoError(t, <-subscribed)
		ids = append(ids, id)
	}
	if len(ids) == 1 {
		ids = append(ids, ids[0]) // once for each filter
	}

	var packetID uint16
	send := func(message string, subscriptions ...uint32) {
		packetID++
		p := brokertest.Packet{
			Topic: "a/b", QoS: level, PacketID: packetID,
			Properties: brokertest.Properties{brokertest.UserProperty("message-id", message)},
		}
		for _, id := range subscriptions {
			p.Properties = append(p.Properties, brokertest.SubscriptionIdentifier(id))
		}
		c.SendPublish(p)
	}
	acked := uint16(0)
	settle := func() {
		for acked < packetID {
			acked++
			if level == 1 {
				c.ExpectPuback(brokertest.HasID(acked), brokertest.HasCode(0))
			} else {
				c.ExpectPubrec(brokertest.HasID(acked), brokertest.HasCode(0))
			}
		}
		if level == 2 {
			for id := uint16(1); id <= acked; id++ {
				c.SendPubrel(id, 0)
				c.ExpectPubcomp(brokertest.HasID(id))
			}
			acked, packetID = 0, 0
		}
	}

	// Copies that come together: the others wait for the first.
	send("copies", ids[0])
	send("copies", ids[1])
	send("all", ids...)
	send("all")
	send("all", ids[1])
	require.Eventually(t, func() bool { return cl.Counters().Received == 5 }, 10*time.Second, time.Millisecond)
	close(arrived)
	settle()
	// And some that come late.
	send("copies", ids...)
	send("all", ids[0])
	send("copies", ids[1])
	send("copies")
	settle()
	require.Equal(t, map[string]int{"copies": o.effects, "all": o.effects}, d.effects(t))
	ended := make(chan error, 1)
	go func() { ended <- cl.Close(ctx) }()
	c.ExpectDisconnect()
	c.Close()
	require.NoError(t, <-ended)
	require.Equal(t, 1, l.Connections())
}
