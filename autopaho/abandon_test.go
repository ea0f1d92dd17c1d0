package autopaho_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// However many subscriptions come and go at once, the broker is told of each that has
// gone. One that it still had would bring messages that nobody wants.
func TestSubscriptionsComeAndGo(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	const goroutines, rounds = 32, 40
	var all sync.WaitGroup
	for g := range goroutines {
		all.Go(func() {
			for i := range rounds {
				s, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
					Filters: []string{fmt.Sprintf("%d/%d", g, i)}, Handler: func(context.Context, *autopaho.Received) error { return nil },
				})
				if err == nil {
					err = s.Close(ctx)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	left := func() (filters []string) {
		for g := range goroutines {
			for i := range rounds {
				if f := fmt.Sprintf("%d/%d", g, i); b.Subscribers(f) > 0 {
					filters = append(filters, f)
				}
			}
		}
		return filters
	}
	require.Eventually(t, func() bool { return len(left()) == 0 }, 20*time.Second, 10*time.Millisecond, "the broker still has %v", left())
}

// What the broker sends before it has answered UNSUBSCRIBE is the subscription's: in a
// group nobody else gets it.
func TestCloseTakesWhatComesMeanwhile(t *testing.T) {
	t.Parallel()
	var once sync.Once // it is asked again when all is settled
	asked, answer := make(chan struct{}), make(chan struct{})
	b := startBroker(t, brokertest.Options{
		Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			if d == brokertest.In && p.Type == brokertest.UNSUBSCRIBE {
				once.Do(func() { close(asked) })
				<-answer
			}
			return brokertest.Pass
		},
	})
	ctx := within(t, 30*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	got := make(chan string, 1)
	s, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Group: "g",
		Handler: func(_ context.Context, m *autopaho.Received) error {
			got <- string(m.Payload)
			return nil
		},
	})
	require.NoError(t, err)
	closed := make(chan error, 1)
	go func() { closed <- s.Close(ctx) }()
	<-asked
	b.Publish(brokertest.Packet{Topic: "a", QoS: 1, Payload: []byte("late")})
	select {
	case payload := <-got:
		require.Equal(t, "late", payload)
	case err := <-closed:
		t.Errorf("closed before the broker had answered: %v", err)
	case <-ctx.Done():
		t.Error("nobody took it")
	}
	close(answer)
	if !t.Failed() {
		require.NoError(t, <-closed)
	}
	require.Zero(t, c.Counters().Unrouted)
}

// Without a connection Close does not wait, and the next one tells the broker.
func TestCloseWithoutConnection(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 30*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	s, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
	})
	require.NoError(t, err)
	b.Stop()
	require.NoError(t, s.Close(ctx))
	require.Equal(t, 1, b.Subscribers("a"))
	require.NoError(t, b.Start())
	require.Eventually(t, func() bool { return b.Subscribers("a") == 0 }, 20*time.Second, 5*time.Millisecond)
}
