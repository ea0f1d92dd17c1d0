package autopaho_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
)

// What became of messages on both sides is remembered, and of the last ones only.
func TestRecent(t *testing.T) {
	t.Parallel()
	const size = 6
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "forbidden", Code: 0x87}}})
	ctx := within(t, 30*time.Second)
	sub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), Relay: autopaho.RelayConfig{Off: true}, Recent: size})
	_, err := sub.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"work/+"}, Group: "g", Workers: 1,
		Handler: func(_ context.Context, m *autopaho.Received) error {
			if m.Topic == "work/bad" {
				return autopaho.Permanent(errors.New("no good"))
			}
			return nil
		},
	})
	require.NoError(t, err)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), Recent: size})
	send := func(id, topic string) {
		accepted, err := pub.Enqueue(ctx, autopaho.Message{ID: id, Topic: topic, Payload: []byte("secret")})
		require.NoError(t, err)
		_, err = accepted.Wait(ctx)
		require.NoError(t, err)
	}
	outcomes := func(c *autopaho.Client) (all []string) {
		for _, m := range c.Recent() {
			require.WithinDuration(t, time.Now(), m.At, time.Minute)
			all = append(all, m.ID+" "+m.Topic+" "+string(m.Outcome)+" "+m.Group)
		}
		return all
	}
	has := func(c *autopaho.Client, want ...string) {
		eventually(t, func() bool { return len(outcomes(c)) >= len(want) }, 20*time.Second, 5*time.Millisecond, "%v", want)
		require.Equal(t, want, outcomes(c))
	}
	require.Empty(t, sub.Recent())
	send("1", "work/a")
	send("2", "work/bad")
	has(sub, "1 work/a processed g", "2 work/bad dead g")
	require.Equal(t, "no good", sub.Recent()[1].Reason)
	_, err = pub.Publish(ctx, autopaho.Message{ID: "1", Topic: "work/a", QoS: 1})
	require.NoError(t, err)
	has(sub, "1 work/a processed g", "2 work/bad dead g", "1 work/a duplicate g")
	send("3", "forbidden")
	has(pub, "1 work/a delivered ", "2 work/bad delivered ", "3  failed ")
	require.Contains(t, pub.Recent()[2].Reason, "not authorized")

	for i := range size {
		send("m"+strconv.Itoa(i), "work/b")
	}
	eventually(t, func() bool { return sub.Counters().Processed == size+1 && sub.Unsettled() == 0 }, 20*time.Second, 5*time.Millisecond, "all")
	for _, c := range []*autopaho.Client{pub, sub} {
		recent := c.Recent()
		require.Len(t, recent, size)
		for i, m := range recent {
			require.Equal(t, "m"+strconv.Itoa(i), m.ID, "the oldest first")
		}
	}
	require.Nil(t, client(t, autopaho.Config{Servers: []string{b.URL()}}).Recent())
	_, err = autopaho.New(ctx, autopaho.Config{Servers: []string{b.URL()}, Recent: autopaho.MaxRecent + 1})
	require.ErrorContains(t, err, "Recent: 100001 is out of range")
}
