package autopaho_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// The client does not wait for ever for what it is not told, and goes on to learn of
// what is new.
func TestTrackerForgets(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{TellNoSubscribers: true})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t)})
	ctx := within(t, 60*time.Second)
	const each = autopaho.TrackerLimit / 10
	for i := range 35 {
		ids := make([]string, each)
		for j := range ids {
			ids[j] = fmt.Sprintf("%d-%d", i, j)
		}
		c.Track(ids...)
		require.LessOrEqual(t, c.Tracked(), 2*autopaho.TrackerLimit)
	}
	before := c.Tracked()
	q, err := c.Enqueue(ctx, autopaho.Message{Topic: "nobody"})
	require.NoError(t, err)
	results, err := q.Wait(ctx)
	require.NoError(t, err)
	require.True(t, results[0].NoSubscribers(), "which the relay alone can tell")
	require.LessOrEqual(t, c.Tracked(), before)
}
