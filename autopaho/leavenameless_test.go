package autopaho_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// A client without a ClientID closes while its subscription to a group is being made:
// the broker may have dealt messages to it already, and nobody comes back for them.
func TestCloseWhileGroupIsJoined(t *testing.T) {
	t.Parallel()
	asked, answer, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var b *brokertest.Broker
	first := true // of what the one connection brings
	b = startBroker(t, brokertest.Options{
		Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			switch {
			case d != brokertest.In:
			case p.Type == brokertest.SUBSCRIBE:
				close(asked)
				<-answer
			case p.Type == brokertest.UNSUBSCRIBE && first:
				first = false
				b.Publish(brokertest.Packet{Topic: "a", QoS: 1})
				close(left)
			}
			return brokertest.Pass
		},
	})
	ctx := within(t, 60*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	got := make(chan struct{}, 1)
	subscribed, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
			Filters: []string{"a"}, Group: "g", Handler: func(context.Context, *autopaho.Received) error {
				got <- struct{}{}
				return nil
			},
		})
		subscribed <- err
	}()
	<-asked
	go func() { closed <- c.Close(ctx) }()
	eventually(t, func() bool {
		_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
			Filters: []string{"b"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
		})
		return errors.Is(err, autopaho.ErrClosed)
	}, 20*time.Second, time.Millisecond, "it closes")
	close(answer)
	require.ErrorIs(t, <-subscribed, autopaho.ErrClosed)
	require.NoError(t, <-closed)
	select {
	case <-left:
	default:
		t.Fatal("it did not leave the group")
	}
	require.Len(t, got, 1, "what was dealt to it is processed")
}

// A subscription of a group and its client, which has no ClientID, are closed at the
// same time: what the broker sends meanwhile is processed all the same.
func TestMemberLeavesGroupWithItsClient(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"subscription", "client"} {
		t.Run(first, func(t *testing.T) {
			t.Parallel()
			asked, answer := make(chan struct{}), make(chan struct{})
			begun := false
			b := startBroker(t, brokertest.Options{
				Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
					if d == brokertest.In && p.Type == brokertest.UNSUBSCRIBE && !begun {
						begun = true
						close(asked)
						<-answer
					}
					return brokertest.Pass
				},
			})
			ctx := within(t, 60*time.Second)
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, PacketTimeout: time.Minute})
			got := make(chan struct{}, 1)
			s, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
				Filters: []string{"a"}, Group: "g", Handler: func(context.Context, *autopaho.Received) error {
					got <- struct{}{}
					return nil
				},
			})
			require.NoError(t, err)
			closed := make(chan error, 2)
			calls := []func(context.Context) error{s.Close, c.Close}
			if first == "client" {
				calls[0], calls[1] = calls[1], calls[0]
			}
			go func() { closed <- calls[0](ctx) }()
			<-asked
			go func() { closed <- calls[1](ctx) }()
			select { // the other one makes an end, if it can
			case err := <-closed:
				closed <- err
			case <-time.After(200 * time.Millisecond):
			}
			b.Publish(brokertest.Packet{Topic: "a", QoS: 1})
			select {
			case <-got:
			case <-time.After(5 * time.Second):
				t.Error("the message was nobody's")
			}
			close(answer)
			for range cap(closed) {
				require.NoError(t, <-closed)
			}
		})
	}
}
