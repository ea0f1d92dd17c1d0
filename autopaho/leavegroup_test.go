package autopaho_test

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/testenv"
)

// A member leaves a group for good: its subscription is closed, or its client, which
// has no ClientID of its own, so that nobody comes back to its session. What the broker
// has dealt to it, and queued behind what was on its way, is processed: nobody else
// gets it.
func TestMemberLeavesGroup(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(context.Context, *autopaho.Client, *autopaho.Subscription) error{
		"subscription": func(ctx context.Context, _ *autopaho.Client, s *autopaho.Subscription) error { return s.Close(ctx) },
		"client":       func(ctx context.Context, c *autopaho.Client, _ *autopaho.Subscription) error { return c.Close(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
			ctx := within(t, 60*time.Second)
			var mu sync.Mutex
			got := make(map[string]int)
			some := make(chan struct{}, 1000)
			goOn := make(chan struct{})
			member := func(config autopaho.Config, wait <-chan struct{}) (*autopaho.Client, *autopaho.Subscription) {
				config.Servers, config.ReceiveMaximum = []string{m.URL()}, 10
				c := client(t, config)
				s, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
					Filters: []string{"a"}, Group: "g",
					Handler: func(ctx context.Context, r *autopaho.Received) error {
						some <- struct{}{}
						select {
						case <-wait:
						case <-ctx.Done():
							return ctx.Err()
						}
						mu.Lock()
						got[string(r.Payload)]++
						mu.Unlock()
						return nil
					},
				})
				require.NoError(t, err)
				return c, s
			}
			stays := make(chan struct{})
			close(stays)
			member(autopaho.Config{ClientID: "stays"}, stays)
			leaver, sub := member(autopaho.Config{}, goOn)
			publisher := client(t, autopaho.Config{Servers: []string{m.URL()}})
			const messages = 400
			for i := range messages {
				_, err := publisher.Publish(ctx, autopaho.Message{Topic: "a", QoS: 1, Payload: []byte(strconv.Itoa(i))})
				require.NoError(t, err)
			}
			<-some
			left := make(chan error, 1)
			go func() { left <- leave(ctx, leaver, sub) }()
			close(goOn)
			require.NoError(t, <-left)
			count := func() int {
				mu.Lock()
				defer mu.Unlock()
				return len(got)
			}
			require.Eventually(t, func() bool { return count() == messages }, 20*time.Second, 10*time.Millisecond)
		})
	}
}
