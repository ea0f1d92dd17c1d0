package autopaho_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// Publish waits for the answer to what is in flight when the client is closed, but no
// longer than its caller. It went on waiting, and Close with it, for a broker that did
// not answer.
func TestPublishEndsWithItsContextWhileClosing(t *testing.T) {
	t.Parallel()
	flying := make(chan struct{})
	b := startBroker(t, brokertest.Options{
		Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			if d == brokertest.Out && p.Type == brokertest.PUBACK {
				close(flying)
				return brokertest.Drop
			}
			return brokertest.Pass
		},
	})
	c, err := autopaho.New(within(t, 20*time.Second), autopaho.Config{Servers: []string{b.URL()}})
	require.NoError(t, err)
	patience, end := context.WithCancel(context.Background())
	defer end()
	published := make(chan error, 1)
	go func() {
		_, err := c.Publish(patience, autopaho.Message{Topic: "a", QoS: 1})
		published <- err
	}()
	<-flying
	ctx, stop := context.WithCancel(context.Background())
	closed := make(chan error, 1)
	go func() { closed <- c.Close(ctx) }()
	eventually(t, func() bool { // Close has begun
		_, err := c.Publish(patience, autopaho.Message{Topic: "b"})
		return errors.Is(err, autopaho.ErrClosed)
	}, 20*time.Second, time.Millisecond, "closing")
	end()
	select {
	case err := <-published:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(20 * time.Second):
		t.Error("Publish did not end with its context")
	}
	stop() // of the answer that does not come
	if err := <-closed; err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
}
