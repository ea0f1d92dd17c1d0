package autopaho_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// While one Close waits for the broker's answer to UNSUBSCRIBE another one must not make
// an end: what the broker sends before it has answered is still taken in.
func TestCloseTwiceAtOnce(t *testing.T) {
	t.Parallel()
	asked, answer := make(chan struct{}), make(chan struct{})
	b := startBroker(t, brokertest.Options{
		Intercept: func(id string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			if id == "sub" && d == brokertest.In && p.Type == brokertest.UNSUBSCRIBE {
				close(asked)
				<-answer
			}
			return brokertest.Pass
		},
	})
	ctx := within(t, 60*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "sub", PacketTimeout: time.Minute})
	got := make(chan struct{}, 1)
	s, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Handler: func(context.Context, *autopaho.Received) error {
			got <- struct{}{}
			return nil
		},
	})
	require.NoError(t, err)
	closed := make(chan error, 2)
	for range cap(closed) {
		go func() { closed <- s.Close(ctx) }()
	}
	<-asked
	select { // the other one makes an end, if it can
	case err := <-closed:
		closed <- err
	case <-time.After(200 * time.Millisecond):
	}
	b.Publish(brokertest.Packet{Topic: "a", QoS: 1})
	select {
	case <-got:
	case <-time.After(20 * time.Second):
		t.Error("the message was nobody's")
	}
	close(answer)
	for range cap(closed) {
		require.NoError(t, <-closed)
	}
}
