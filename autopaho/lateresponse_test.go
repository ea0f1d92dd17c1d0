package autopaho_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// A response that came when its request was over, and before the broker had been told,
// held up all others for ten seconds and became a dead letter. It is passed over.
func TestResponseAfterItsRequest(t *testing.T) {
	t.Parallel()
	var acked atomic.Int32
	b := startBroker(t, brokertest.Options{
		Intercept: func(id string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			switch {
			case d != brokertest.In || !strings.HasSuffix(id, "-rr"):
			case p.Type == brokertest.UNSUBSCRIBE:
				return brokertest.Drop // it is on its way
			case p.Type == brokertest.PUBACK:
				acked.Add(1)
			}
			return brokertest.Pass
		},
	})
	responder(t, b.URL(), "work", echo)
	store := memoryStore(t)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
	ctx := within(t, 60*time.Second)
	m := autopaho.Message{Topic: "work"}
	m.Properties.ResponseTopic = "answers"
	_, err := c.Request(ctx, m)
	require.NoError(t, err)
	b.Publish(brokertest.Packet{Topic: "answers", QoS: 1})
	eventually(t, func() bool { return acked.Load() == 2 }, 30*time.Second, time.Millisecond, "both responses are acknowledged")
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Empty(t, letters)
}
