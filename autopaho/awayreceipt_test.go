package autopaho_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// A message that asks for a receipt waits until its lane listens for one, and so do
// those behind it. While there was no broker to listen at, the lane stood still: what
// expired meanwhile did not end, and nothing that had ended was settled.
func TestExpiresWithoutABrokerToListenAt(t *testing.T) {
	t.Parallel()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	url := "mqtt://" + nobody.Addr().String()
	require.NoError(t, nobody.Close())
	c := client(t, autopaho.Config{Servers: []string{url}, Store: memoryStore(t)})
	ctx := within(t, 60*time.Second)
	q, err := c.Enqueue(ctx,
		autopaho.Message{Topic: "a", Receipt: true},
		autopaho.Message{Topic: "a", Receipt: true, Expiry: time.Second},
		autopaho.Message{Topic: "a", Expiry: time.Second},
	)
	require.NoError(t, err)
	eventually(t, func() bool {
		results := q.Results()
		return results[1].State == persist.StateExpired && results[2].State == persist.StateExpired
	}, 30*time.Second, 10*time.Millisecond, "both expire")
	require.Equal(t, persist.StatePending, q.Results()[0].State)
}
