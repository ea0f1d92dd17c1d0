package mochi

import (
	"context"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/oncemq/oncemq/autopaho"
)

const topicPrefix = "demo/orders/"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startBroker(t *testing.T, quota int) *Broker {
	t.Helper()
	b, err := New(t.Context(), Options{
		Quota:     quota,
		MessageID: func(property func(string) string) string { return property(autopaho.PropertyMessageID) },
		Gated:     func(clientID string) bool { return strings.HasPrefix(clientID, "replica-") },
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Kill()) })
	return b
}

func connect(t *testing.T, b *Broker, clientID string) *autopaho.Client {
	t.Helper()
	c, err := autopaho.New(t.Context(), autopaho.Config{
		Servers: []string{"mqtt://" + b.addr}, ClientID: clientID, ReceiveMaximum: b.options.Quota,
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		require.NoError(t, c.Close(ctx))
	})
	return c
}

func publishNumbers(t *testing.T, c *autopaho.Client, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		_, err := c.Publish(t.Context(), autopaho.Message{
			ID: strconv.Itoa(n), Topic: topicPrefix + "a", QoS: 1, Payload: []byte(strconv.Itoa(n)),
		})
		require.NoError(t, err)
	}
}

// subscribe has every message wait for the handler to be let go on.
func subscribe(t *testing.T, c *autopaho.Client) (arrived chan string, goOn chan struct{}) {
	t.Helper()
	arrived, goOn = make(chan string, 100), make(chan struct{})
	_, err := c.Subscribe(t.Context(), autopaho.SubscribeConfig{
		Filters: []string{topicPrefix + "#"}, Group: "orders", Workers: 100,
		OrderBy: func(m *autopaho.Message) string { return m.ID },
		Handler: func(ctx context.Context, m *autopaho.Received) error {
			arrived <- m.ID
			select {
			case <-goOn:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		},
	})
	require.NoError(t, err)
	return arrived, goOn
}

// collect takes n arrivals.
func collect(t *testing.T, arrived <-chan string, n int) map[string]int {
	t.Helper()
	got := make(map[string]int)
	timeout := time.After(10 * time.Second)
	for range n {
		select {
		case id := <-arrived:
			got[id]++
		case <-timeout:
			require.FailNow(t, "too few messages", "%v", got)
		}
	}
	return got
}

// The broker gives a replica no more than its quota, keeps the others, and sends
// them as acknowledgements come.
func TestBrokerHoldsWhatIsOverTheQuota(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 4)
	arrived, goOn := subscribe(t, connect(t, b, "replica-1"))
	publishNumbers(t, connect(t, b, "publisher"), 0, 20)
	require.Len(t, collect(t, arrived, 4), 4)
	require.Eventually(t, func() bool { return len(b.Held()) == 16 }, 5*time.Second, 5*time.Millisecond)
	require.Len(t, b.Outstanding("replica-1"), 4)
	require.False(t, b.Idle())
	close(goOn)
	require.Len(t, collect(t, arrived, 16), 16)
	require.Eventually(t, b.Idle, 5*time.Second, 5*time.Millisecond)
	require.Zero(t, b.Redelivered())
}

// A killed broker takes everything along: what it held, the sessions, the
// subscriptions. Its clients come back to another one on the same port.
func TestKilledBrokerForgets(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 4)
	replica := connect(t, b, "replica-1")
	arrived, goOn := subscribe(t, replica)
	publisher := connect(t, b, "publisher")
	publishNumbers(t, publisher, 0, 20)
	collect(t, arrived, 4)

	require.NoError(t, b.Kill())
	require.Empty(t, b.Held())
	_, err := net.Dial("tcp", b.addr)
	require.Error(t, err)

	require.NoError(t, b.Start(t.Context()))
	require.Eventually(t, func() bool { return b.Subscribed() == 1 }, 10*time.Second, 5*time.Millisecond)
	require.True(t, b.Idle())
	for _, c := range replica.Status(t.Context()).Connections {
		require.False(t, c.SessionPresent)
	}
	close(goOn)
	publishNumbers(t, publisher, 20, 24)
	require.Equal(t, map[string]int{"20": 1, "21": 1, "22": 1, "23": 1}, collect(t, arrived, 4))
}

// While the gate is shut no acknowledgement arrives; what was on its way when
// the replica's connections were cut never does, and comes again with the
// session.
func TestCutReplicaGetsItAgain(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 4)
	arrived, goOn := subscribe(t, connect(t, b, "replica-1"))
	publisher := connect(t, b, "publisher")
	publishNumbers(t, publisher, 0, 4)
	first := collect(t, arrived, 4)
	b.CloseGate()
	close(goOn) // the replica acknowledges, in vain
	publishNumbers(t, publisher, 4, 8)
	require.Len(t, b.Outstanding("replica-1"), 4)
	// The broker answers the publisher before it has queued the message.
	require.Eventually(t, func() bool { return len(b.Held()) == 4 }, 5*time.Second, time.Millisecond)
	b.Cut("replica-1", "replica-1-pub")
	b.OpenGate()
	// The first four come again, the others for the first time; which of them the
	// broker sends first is its own affair.
	all := collect(t, arrived, 8)
	require.Len(t, all, 8)
	for n := range first {
		require.Equal(t, 1, all[n])
	}
	require.Eventually(t, b.Idle, 5*time.Second, 5*time.Millisecond)
	require.Equal(t, 4, b.Redelivered())
}
