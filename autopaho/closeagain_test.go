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

// A Close beside another, and one after it, has nothing of its own to wait for: the
// broker is told by the first.
func TestCloseAgain(t *testing.T) {
	t.Parallel()
	for name, group := range map[string]string{"alone": "", "group": "g"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told atomic.Int32
			asked := make(chan struct{})
			b := startBroker(t, brokertest.Options{
				Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
					if d == brokertest.In && p.Type == brokertest.UNSUBSCRIBE && told.Add(1) == 1 {
						close(asked)
					}
					return brokertest.Pass
				},
			})
			ctx := within(t, 60*time.Second)
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "sub"})
			handled, goOn := make(chan struct{}), make(chan struct{})
			s, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
				Filters: []string{"a"}, Group: group, Handler: func(context.Context, *autopaho.Received) error {
					close(handled)
					<-goOn
					return nil
				},
			})
			require.NoError(t, err)
			b.Publish(brokertest.Packet{Topic: "a", QoS: 1})
			<-handled
			const most = 8 * time.Second // of the ten that it may linger
			begun := time.Now()
			closed := make(chan error, 2)
			for range cap(closed) {
				go func() { closed <- s.Close(ctx) }()
			}
			<-asked
			close(goOn)
			for range cap(closed) {
				require.NoError(t, <-closed)
			}
			require.Less(t, time.Since(begun), most, "at once")
			before, begun := told.Load(), time.Now()
			require.NoError(t, s.Close(ctx))
			require.Less(t, time.Since(begun), most, "afterwards")
			require.Equal(t, before, told.Load())
		})
	}
}
