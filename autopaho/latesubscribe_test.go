package autopaho_test

import (
	"context"
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
