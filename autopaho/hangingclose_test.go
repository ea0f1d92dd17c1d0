package autopaho_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// A store that hangs as the client closes takes the time of its own calls, and none of
// the DISCONNECT: without that the broker publishes the will of a client that left in
// good order.
func TestCloseOverAHangingStoreDisconnects(t *testing.T) {
	t.Parallel()
	ctx := within(t, time.Minute)
	store, faults := persisttest.NewFaulty(memoryStore(t))
	l := brokertest.Listen(t)
	c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{l.URL()}, Store: store})
	require.NoError(t, err)
	_, err = c.Enqueue(ctx, autopaho.Message{ID: "one", Topic: "a", Receipt: true})
	require.NoError(t, err)
	conn := l.Accept(ctx)
	conn.Handshake()
	sub := conn.ExpectSubscribe()
	conn.SendSuback(sub.PacketID, 1)
	first := faults.Hold(persisttest.OpLaneAcknowledge, 1)
	defer first.Release()
	for n := 2; n < 50; n++ { // it may be tried once or twice before the last time
		defer faults.Hold(persisttest.OpLaneAcknowledge, n).Release()
	}
	conn.SendPuback(conn.ExpectPublish().PacketID, 0)
	conn.SendPublish(brokertest.Packet{
		Topic: sub.Filters[0].Topic, QoS: 1, PacketID: 1,
		Properties: brokertest.Properties{brokertest.Str(brokertest.PropCorrelationData, "one"), brokertest.UserProperty("receipt", "processed")},
	})
	<-first.Reached()
	patience, end := context.WithCancel(ctx)
	end()
	closed := make(chan error, 1)
	go func() { closed <- c.Close(patience) }()
	conn.ExpectDisconnect()
	conn.Close()
	if err := <-closed; err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
}
