package autopaho_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// A message that was on its way to a subscription when that closed is given back: it
// held up every acknowledgement after it, and nothing made the connection anew.
func TestMessageMeetsClosingSubscription(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{1, 2} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			ctx := within(t, 60*time.Second)
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "c"})
			c.SetUnroutedWait(time.Millisecond)
			nothing := func(context.Context, *autopaho.Received) error { return nil }
			reached, goOn := make(chan struct{}), make(chan struct{})
			first := true
			closing, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
				Filters: []string{"a"}, QoS: 2, Handler: nothing,
				OrderBy: func(*autopaho.Message) string { // by the reader, who has chosen the subscription
					if first {
						first = false
						close(reached)
						<-goOn
					}
					return ""
				},
			})
			require.NoError(t, err)
			_, err = c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"b"}, QoS: 2, Handler: nothing})
			require.NoError(t, err)
			b.Publish(brokertest.Packet{Topic: "a", QoS: level})
			<-reached
			require.NoError(t, closing.Close(ctx))
			close(goOn)
			b.Publish(brokertest.Packet{Topic: "b", QoS: level})
			eventually(t, func() bool {
				n := c.Counters()
				return n.Processed >= 1 && n.Unrouted == 1 && c.Status(ctx).Connections[0].Unacked == 0
			}, 30*time.Second, 5*time.Millisecond, "all is acknowledged")
		})
	}
}

// closingSubscription makes a subscription that somebody closes while its handler, which
// has a message, waits for goOn. closed gets what Subscription.Close returns.
func closingSubscription(t *testing.T, ctx context.Context, b *brokertest.Broker, c *autopaho.Client) (closed <-chan error, goOn chan struct{}) {
	t.Helper()
	running := make(chan struct{})
	goOn = make(chan struct{})
	sub, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Handler: func(context.Context, *autopaho.Received) error {
			close(running)
			<-goOn
			return nil
		},
	})
	require.NoError(t, err)
	b.Publish(brokertest.Packet{Topic: "a", QoS: 1})
	<-running
	result := make(chan error, 1)
	go func() { result <- sub.Close(ctx) }()
	eventually(t, func() bool { return len(c.Subscriptions()) == 0 }, 30*time.Second, time.Millisecond, "it is being closed")
	return result, goOn
}

// Close waits for a subscription that is being closed by somebody else: its handler's
// message is acknowledged, and its goroutines end.
func TestCloseWaitsForClosingSubscription(t *testing.T) {
	t.Parallel()
	var acks atomic.Int32
	b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if d == brokertest.In && p.Type == brokertest.PUBACK {
			acks.Add(1)
		}
		return brokertest.Pass
	}})
	ctx := within(t, 60*time.Second)
	c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}})
	require.NoError(t, err)
	subClosed, goOn := closingSubscription(t, ctx, b, c)
	closed := make(chan error, 1)
	go func() { closed <- c.Close(ctx) }()
	early := time.NewTimer(200 * time.Millisecond)
	defer early.Stop()
	select {
	case err := <-closed:
		close(goOn)
		require.Fail(t, "Close has returned, and the handler has not", "%v", err)
	case <-early.C:
	}
	close(goOn)
	require.NoError(t, <-subClosed)
	require.NoError(t, <-closed)
	require.EqualValues(t, 1, acks.Load())
}

// Subscribe is given up while a handler runs already, since the broker may send before
// it has agreed (section 3.8.4): Subscribe does not wait for the handler, but what that
// has done is settled, Close waits for it, and it is not done again.
func TestSubscribeGivenUpWhileHandlerRuns(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]autopaho.SubscribeConfig{
		"handler":        {},
		"group":          {Group: "g"},
		"batch of group": {Group: "g", MaxBatch: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var agrees atomic.Bool
			var acks atomic.Int32
			b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
				switch {
				case d == brokertest.Out && p.Type == brokertest.SUBACK && !agrees.Load():
					return brokertest.Drop
				case d == brokertest.In && p.Type == brokertest.PUBACK:
					acks.Add(1)
				}
				return brokertest.Pass
			}})
			ctx := within(t, 60*time.Second)
			store := memoryStore(t)
			message := brokertest.Packet{
				Topic: "a", QoS: 1, Properties: brokertest.Properties{brokertest.UserProperty(dedup.PropertyMessageID, "1")},
			}
			running, goOn := make(chan struct{}, 10), make(chan struct{})
			var runs atomic.Int32
			handle := func() error {
				runs.Add(1)
				running <- struct{}{}
				<-goOn
				return nil
			}
			cfg.Filters = []string{"a"}
			if cfg.MaxBatch > 0 {
				cfg.BatchHandler = func(context.Context, []*autopaho.Received) error { return handle() }
			} else {
				cfg.Handler = func(context.Context, *autopaho.Received) error { return handle() }
			}
			options := autopaho.Config{Servers: []string{b.URL()}, ClientID: "c", Store: store, Relay: autopaho.RelayConfig{Off: true}}
			c, err := autopaho.New(ctx, options)
			require.NoError(t, err)
			giveUp, cancel := context.WithCancel(ctx)
			defer cancel()
			subscribed := make(chan error, 1)
			go func() {
				_, err := c.Subscribe(giveUp, cfg)
				subscribed <- err
			}()
			require.NoError(t, b.Wait(ctx, func() bool { return b.Subscribers("a")+b.Subscribers("$share/g/a") == 1 }))
			b.Publish(message)
			<-running
			cancel()
			require.ErrorIs(t, <-subscribed, context.Canceled)
			closed := make(chan error, 1)
			go func() { closed <- c.Close(ctx) }()
			early := time.NewTimer(200 * time.Millisecond)
			defer early.Stop()
			select {
			case err := <-closed:
				close(goOn)
				require.Fail(t, "Close has returned, and the handler has not", "%v", err)
			case <-early.C:
			}
			close(goOn)
			require.NoError(t, <-closed)
			require.EqualValues(t, 1, acks.Load())
			require.EqualValues(t, 1, runs.Load())
			if cfg.Group == "" {
				return
			}
			agrees.Store(true)
			next := client(t, options)
			_, err = next.Subscribe(ctx, cfg)
			require.NoError(t, err)
			b.Publish(message)
			eventually(t, func() bool { return acks.Load() == 2 }, 30*time.Second, 5*time.Millisecond, "it is acknowledged")
			require.EqualValues(t, 1, runs.Load(), "processed again")
		})
	}
}

// Close keeps to its context, also if somebody waits for ever for the end of a
// subscription whose handler does not return.
func TestCloseLeavesClosingSubscription(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}})
	require.NoError(t, err)
	subClosed, goOn := closingSubscription(t, ctx, b, c)
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- c.Close(short) }()
	select {
	case err := <-closed:
		require.ErrorIs(t, err, context.DeadlineExceeded)
	case <-ctx.Done():
		t.Error("Close does not return")
	}
	require.Error(t, <-subClosed)
	close(goOn)
}
