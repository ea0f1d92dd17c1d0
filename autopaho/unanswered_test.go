package autopaho_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// The broker's answer stood behind so much that as many SUBSCRIBE as may be had none.
// The next one was taken for refused, so that Subscribe failed and what the broker had
// kept was nobody's.
func TestManyUnansweredSubscribes(t *testing.T) {
	t.Parallel()
	const most = 32
	var b *brokertest.Broker
	var asked atomic.Int32
	b = startBroker(t, brokertest.Options{
		Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			if d == brokertest.Out && p.Type == brokertest.SUBACK && asked.Add(1) <= most {
				return brokertest.Drop // it has much to send before that
			}
			return brokertest.Pass
		},
	})
	ctx := within(t, 60*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "c", PacketTimeout: 25 * time.Millisecond})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for left := 200; left > 0 && ctx.Err() == nil; <-tick.C {
			if asked.Load() >= most {
				left--
			}
			b.Publish(brokertest.Packet{Topic: "a", QoS: 1})
		}
	}()
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
	})
	<-done
	require.NoError(t, err)
}
