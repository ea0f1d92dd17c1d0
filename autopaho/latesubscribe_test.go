package autopaho_test

import (
	"context"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// What a kept session brings comes before the process has subscribed again. It is
// handed over once it has, in order, and is not taken for unwanted, however the two
// fall together.
func TestSubscribeWhileMessagesCome(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	cfg := autopaho.Config{Servers: []string{b.URL()}, ClientID: "kept"}
	first, err := autopaho.New(ctx, cfg)
	require.NoError(t, err)
	_, err = first.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"late/#"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
	})
	require.NoError(t, err)
	require.NoError(t, first.Close(ctx))
	const n = 200
	publisher := client(t, autopaho.Config{Servers: []string{b.URL()}})
	for i := range n {
		_, err := publisher.Publish(ctx, autopaho.Message{Topic: "late/a", QoS: 1, Payload: []byte(strconv.Itoa(i))})
		require.NoError(t, err)
	}

	var once sync.Once
	reading := make(chan struct{}) // the reader has the first of them in its hands
	goOn := make(chan struct{})    // closed when it may deal it out
	cfg.OnEvent = func(e autopaho.Event) {
		if e.Kind == autopaho.EventMessage {
			once.Do(func() {
				close(reading)
				<-goOn
			})
		}
	}
	c := client(t, cfg)
	go func() {
		_, _ = c.Subscribe(ctx, autopaho.SubscribeConfig{
			Filters: []string{"other"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
		})
	}()
	<-reading
	got := make(chan string, n)
	go func() {
		_, _ = c.Subscribe(ctx, autopaho.SubscribeConfig{
			Filters: []string{"late/#"},
			Handler: func(_ context.Context, m *autopaho.Received) error {
				got <- string(m.Payload)
				return nil
			},
		})
	}()
	// The second Subscribe gets in between, if it can.
	within := time.NewTimer(300 * time.Millisecond)
	defer within.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for waiting := true; waiting; {
		select {
		case <-tick.C:
			waiting = len(c.Subscriptions()) < 2
		case <-within.C:
			waiting = false
		}
	}
	close(goOn)
	for i := range n {
		select {
		case payload := <-got:
			require.Equal(t, strconv.Itoa(i), payload)
		case <-ctx.Done():
			require.FailNow(t, "message "+strconv.Itoa(i)+" did not come")
		}
	}
	require.Zero(t, c.Counters().Unrouted)
	require.EqualValues(t, n, c.Counters().Received)
}

// tally counts how often each route was handed a message.
type tally struct {
	mu sync.Mutex
	of map[string]int
}

func (c *tally) route(r *autopaho.Router, name, filter string) {
	r.Handle(filter, func(context.Context, *autopaho.Received) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.of[name]++
		return nil
	}, func(o *autopaho.RouteConfig) { o.Name = name })
}

func (c *tally) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.of)
}

// Of two subscriptions to one filter the broker knows the identifier of the last; both
// get every message.
func TestRoutesOfOneFilter(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	n := tally{of: make(map[string]int)}
	r := autopaho.NewRouter(autopaho.SubscribeConfig{})
	n.route(r, "one", "same/x")
	n.route(r, "two", "same/x")
	n.route(r, "wider", "same/+")
	_, err := r.Start(ctx, c)
	require.NoError(t, err)
	const sent = 50
	for range sent {
		_, err := c.Publish(ctx, autopaho.Message{Topic: "same/x", QoS: 1})
		require.NoError(t, err)
	}
	want := map[string]int{"one": sent, "two": sent, "wider": sent}
	require.Eventually(t, func() bool { return maps.Equal(want, n.all()) }, 20*time.Second, time.Millisecond, n.all())
}

// What the broker has kept goes to all routes that it is for, whichever of them is there
// first, and to the one that it was kept for.
func TestKeptMessagesGoToTheirRoutes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		before []string // filters of the earlier process
		want   map[string]int
	}{
		"both":   {[]string{"a/x", "a/#"}, map[string]int{"a/x": 50, "a/#": 50}},
		"narrow": {[]string{"a/x"}, map[string]int{"a/x": 50}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			ctx := within(t, 60*time.Second)
			cfg := autopaho.Config{Servers: []string{b.URL()}, ClientID: "kept"}
			earlier, err := autopaho.New(ctx, cfg)
			require.NoError(t, err)
			for _, f := range test.before {
				_, err := earlier.Subscribe(ctx, autopaho.SubscribeConfig{
					Filters: []string{f}, Handler: func(context.Context, *autopaho.Received) error { return nil },
				})
				require.NoError(t, err)
			}
			require.NoError(t, earlier.Close(ctx))
			publisher := client(t, autopaho.Config{Servers: []string{b.URL()}})
			for range 50 {
				_, err := publisher.Publish(ctx, autopaho.Message{Topic: "a/x", QoS: 1})
				require.NoError(t, err)
			}

			c := client(t, cfg)
			_, err = c.Subscribe(ctx, autopaho.SubscribeConfig{
				Filters: []string{"other"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
			})
			require.NoError(t, err)
			n := tally{of: make(map[string]int)}
			r := autopaho.NewRouter(autopaho.SubscribeConfig{})
			n.route(r, "a/#", "a/#")
			n.route(r, "a/x", "a/x")
			_, err = r.Start(ctx, c)
			require.NoError(t, err)
			require.Eventually(t, func() bool { return maps.Equal(test.want, n.all()) }, 20*time.Second, time.Millisecond)
			require.Eventually(t, func() bool { return c.Status(ctx).Connections[0].Unacked == 0 }, 20*time.Second, time.Millisecond)
			require.Equal(t, test.want, n.all())
		})
	}
}
