package autopaho_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// A message that the broker had refused for now was not looked at any more until it was
// to be sent again: it had expired long before, and nobody was told.
func TestExpiresWhileItWaitsToBeSentAgain(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{
		AckDelay: 700 * time.Millisecond, // it is on its way when the queue is looked through
		Answers:  []brokertest.Answer{{Topic: "a", Code: 0x97}},
	})
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: memoryStore(t),
		Policies: qos.Policies{Default: qos.Policy{Backoff: qos.Backoff{Initial: time.Hour, Max: time.Hour}}},
	})
	ctx := within(t, 30*time.Second)
	q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a", Expiry: 2 * time.Second})
	require.NoError(t, err)
	results, err := q.Wait(ctx)
	require.NoError(t, err)
	require.Equal(t, persist.StateExpired, results[0].State)
}
