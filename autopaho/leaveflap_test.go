package autopaho_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// The connection is lost while a member leaves its group: what the broker has dealt to
// it comes by the next one, and is nobody else's.
func TestMemberLeavesGroupOverLostConnection(t *testing.T) {
	t.Parallel()
	var once sync.Once
	lost := make(chan struct{})
	b := startBroker(t, brokertest.Options{
		Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) (a brokertest.Action) {
			a = brokertest.Pass
			if d == brokertest.In && p.Type == brokertest.UNSUBSCRIBE {
				once.Do(func() {
					a = brokertest.Cut
					close(lost)
				})
			}
			return a
		},
	})
	ctx := within(t, 60*time.Second)
	var dials atomic.Int32
	goOn := make(chan struct{}) // there may be another connection
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, ClientID: "sub",
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials.Add(1) > 1 {
				select {
				case <-goOn:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	got := make(chan struct{}, 1)
	s, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Group: "g", Handler: func(context.Context, *autopaho.Received) error {
			got <- struct{}{}
			return nil
		},
	})
	require.NoError(t, err)
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	<-lost
	eventually(t, func() bool { return len(b.Connected()) == 0 }, 20*time.Second, time.Millisecond, "the connection is gone")
	b.Publish(brokertest.Packet{Topic: "a", QoS: 1})
	close(goOn)
	require.NoError(t, <-closed)
	require.Len(t, got, 1)
}
