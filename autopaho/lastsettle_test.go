package autopaho_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// The answers that come while the client closes are settled by one last call. If the
// store failed that one, for a moment, there was no other: the messages stayed in the
// outbox, and whoever drained it next sent them again.
func TestCloseSettlesOverAFailingCall(t *testing.T) {
	t.Parallel()
	const n = 3
	for _, mode := range []persisttest.Mode{persisttest.Failed, persisttest.Lost} {
		for level := byte(1); level <= 2; level++ {
			t.Run(fmt.Sprintf("%s/%d", mode, level), func(t *testing.T) {
				t.Parallel()
				ctx := within(t, time.Minute)
				b := startBroker(t, brokertest.Options{})
				store, faults := persisttest.NewFaulty(memoryStore(t))
				c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}, Store: store})
				require.NoError(t, err)
				b.HoldAcks()
				for range n {
					_, err := c.Enqueue(ctx, autopaho.Message{Topic: "a", QoS: level})
					require.NoError(t, err)
				}
				require.NoError(t, b.WaitFirstArrivals(ctx, n))
				closed := make(chan error, 1)
				go func() { closed <- c.Close(ctx) }()
				eventually(t, func() bool {
					_, err := c.Publish(ctx, autopaho.Message{Topic: "b"})
					return err != nil
				}, 30*time.Second, time.Millisecond, "it closes")
				faults.Add(persisttest.Fault{Op: persisttest.OpLaneSettle, Times: 3, Mode: mode})
				b.ReleaseAcks()
				require.NoError(t, <-closed)
				st, err := store.Stats(ctx)
				require.NoError(t, err)
				require.Zero(t, st.Pending)
				require.Equal(t, 3, faults.Failed())
			})
		}
	}
}
