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
