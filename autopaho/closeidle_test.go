package autopaho

import (
	"context"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// A subscription that held nothing and was closed with a context that had ended, as one
// is that could not be made in time, had the connection made anew every other time: for
// nothing, and with everything that other subscriptions had in work sent again.
func TestCloseWithoutTimeAndWork(t *testing.T) {
	t.Parallel()
	b, err := brokertest.NewBroker(brokertest.Options{})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	c, err := New(t.Context(), Config{Servers: []string{b.URL()}})
	require.NoError(t, err)
	over, end := context.WithCancel(t.Context())
	end()
	for i := range 20 {
		s, err := c.Subscribe(t.Context(), SubscribeConfig{
			Filters: []string{strconv.Itoa(i)}, Handler: func(context.Context, *Received) error { return nil },
		})
		require.NoError(t, err)
		_ = s.Close(over) // there is no time to wait for its workers
	}
	c.consumer.mu.Lock()
	again := c.consumer.again
	c.consumer.mu.Unlock()
	require.Nil(t, again, "the connection is to be made anew")
	require.NoError(t, c.Close(context.Background()))
}
