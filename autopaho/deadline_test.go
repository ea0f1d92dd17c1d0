package autopaho_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// A handler that never returned, whatever its context said, kept its message
// un-acknowledged, and with it everything after it: at the Receive Maximum nothing
// came any more.
func TestStuckHandlerIsLeftBehind(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"leased", "leased batch", "no group"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			const n, attempts = 30, 2
			ctx := within(t, 40*time.Second)
			b := startBroker(t, brokertest.Options{})
			store := memoryStore(t)
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, ReceiveMaximum: 4, Relay: autopaho.RelayConfig{Off: true}})
			leave := make(chan struct{})
			eff := newEffects()
			handle := func(ctx context.Context, m *autopaho.Received) error {
				if string(m.Payload) == "stuck" {
					<-leave
					return nil // late, and of no use
				}
				return eff.handle(ctx, m)
			}
			cfg := autopaho.SubscribeConfig{Filters: []string{"a/#"}, HandlerTimeout: 50 * time.Millisecond, Attempts: attempts, Workers: 2}
			if mode != "no group" {
				cfg.Group = "g"
			}
			if mode == "leased batch" {
				cfg.Workers = 0
				cfg.BatchHandler = func(ctx context.Context, msgs []*autopaho.Received) error {
					for _, m := range msgs {
						if err := handle(ctx, m); err != nil {
							return err
						}
					}
					return nil
				}
			} else {
				cfg.Handler = handle
			}
			_, err := c.Subscribe(ctx, cfg)
			require.NoError(t, err)
			for i := range n + 1 {
				m := autopaho.Message{ID: strconv.Itoa(i), Topic: "a/" + strconv.Itoa(i%3), QoS: 1, Payload: []byte("x")}
				if i == 1 {
					m.Payload = []byte("stuck")
				}
				_, err := c.Publish(ctx, m)
				require.NoError(t, err)
			}
			require.Eventually(t, func() bool { return c.Counters().Processed == n && c.Counters().Dead == 1 }, 30*time.Second, 5*time.Millisecond)
			letters := func() []persist.DeadLetter {
				letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
				require.NoError(t, err)
				return letters
			}
			require.Len(t, letters(), 1)
			require.Equal(t, "handler did not return in time", letters()[0].Reason)
			require.Equal(t, "1", letters()[0].Message.ID)
			require.Equal(t, attempts, letters()[0].Attempts)
			require.GreaterOrEqual(t, c.Counters().Stuck, int64(attempts))

			close(leave)
			require.Eventually(t, func() bool { return c.Counters().Stuck == 0 }, 10*time.Second, time.Millisecond)
			require.EqualValues(t, n, c.Counters().Processed, "what comes late changes nothing")
			require.EqualValues(t, 1, c.Counters().Dead)
			require.Len(t, letters(), 1)
		})
	}
}
