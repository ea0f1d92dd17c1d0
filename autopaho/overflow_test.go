package autopaho_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// More responses came than the request had a use for. The handler of the next one
// waited for the request to end, and that for the handler.
func TestRequestEndsWithResponsesLeft(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	const n = 40
	responder(t, b.URL(), "work", func(m *autopaho.Received) []autopaho.Message {
		var all []autopaho.Message
		for range n {
			all = append(all, echo(m)...)
		}
		return all
	})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	m := autopaho.Message{Topic: "work"}
	m.Properties.ResponseTopic = "answers"
	ended := make(chan error, 1)
	all := make(chan struct{}) // closed when all responses are there
	ctx := within(t, 60*time.Second)
	go func() {
		ended <- c.RequestEach(ctx, m, func(*autopaho.Received) bool {
			<-all
			return false
		})
	}()
	eventually(t, func() bool { return c.Counters().Received == n }, 30*time.Second, time.Millisecond, "all responses are there")
	close(all)
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-ctx.Done():
		require.FailNow(t, "the request did not end")
	}
}
