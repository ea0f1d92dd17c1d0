package autopaho_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// The first promise: what was accepted arrives, in order, although the broker
// resets the connection every 50 to 300 packets with unread data in the socket
// and never keeps a session.
func TestEnqueueSurvivesDroppingBroker(t *testing.T) {
	t.Parallel()
	for _, level := range []byte{1, 2} {
		t.Run("qos"+strconv.Itoa(int(level)), func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{
				Seed: 7, ForgetSessions: true, DropEvery: brokertest.Range{Min: 50, Max: 300},
			})
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t)})
			ctx := within(t, 60*time.Second)
			const n = 3000
			var last *autopaho.Enqueued
			for i := 0; i < n; i += 100 {
				var msgs []autopaho.Message
				for j := range 100 {
					msgs = append(msgs, autopaho.Message{
						Topic: "lines", QoS: level, Payload: []byte(strconv.Itoa(i + j)),
					})
				}
				q, err := c.Enqueue(ctx, msgs...)
				require.NoError(t, err)
				last = q
			}
			results, err := last.Wait(ctx)
			require.NoError(t, err)
			for _, r := range results {
				require.NoError(t, r.Err())
			}
			require.NoError(t, b.WaitFirstArrivals(ctx, n))
			for i, a := range b.FirstArrivals("lines") {
				require.Equal(t, strconv.Itoa(i), string(a.Packet.Payload), "order of first arrivals")
			}
			require.Empty(t, b.Violations())
			require.Greater(t, b.Connections(), 5, "the broker dropped no connection")
		})
	}
}

// What the broker will never take fails with its reason; all else arrives, and
// nobody reconnects in a loop.
func TestRefusedMessagesFail(t *testing.T) {
	t.Parallel()
	one := byte(1)
	b := startBroker(t, brokertest.Options{
		MaximumPacketSize: 1000, MaximumQoS: &one,
		Answers: []brokertest.Answer{
			{Topic: "never", Code: 0x90},
			{Topic: "forbidden", Code: 0x87},
			{Topic: "busy/#", Code: 0x97, Times: 2, PerMessage: true},
		},
	})
	store := memoryStore(t)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Policies: qos.Policies{
		Default: qos.Policy{Backoff: qos.Backoff{Initial: time.Millisecond, Max: 5 * time.Millisecond}},
	}})
	ctx := within(t, 20*time.Second)
	msgs := []autopaho.Message{
		{Topic: "ok", Payload: []byte("0")},
		{Topic: "large", Payload: make([]byte, 2000)},
		{Topic: "never"},
		{Topic: "ok", Payload: []byte("1")},
		{Topic: "exactly", QoS: 2},
		{Topic: "forbidden"},
		{Topic: "busy/1"},
		{Topic: "busy/2"},
		{Topic: "ok", Payload: []byte("2")},
	}
	q, err := c.Enqueue(ctx, msgs...)
	require.NoError(t, err)
	results, err := q.Wait(ctx)
	require.NoError(t, err)
	want := map[int]string{
		1: "over the server's Maximum Packet Size of 1000", 2: "topic name invalid (0x90)",
		4: "above the server's Maximum QoS of 1", 5: "not authorized (0x87)",
	}
	for i, r := range results {
		if reason, bad := want[i]; bad {
			require.Equal(t, persist.StateFailed, r.State, "message %d", i)
			require.ErrorIs(t, r.Err(), autopaho.ErrNotDelivered)
			require.ErrorContains(t, r.Err(), reason)
			continue
		}
		require.NoError(t, r.Err(), "message %d", i)
	}
	require.Equal(t, 1, b.Connections())
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 100)
	require.NoError(t, err)
	require.Len(t, letters, 4)
	require.Equal(t, uint64(4), c.Status(ctx).Counters.Retried)
}

// In strict order a refused message holds its key, and only its key.
func TestStrictOrderHoldsAroundRefusal(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{
		Answers: []brokertest.Answer{{Topic: "k/0", Code: 0x97, Times: 3}},
	})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), Policies: qos.Policies{
		Default: qos.Policy{Order: qos.Strict, Backoff: qos.Backoff{Initial: time.Millisecond, Max: 2 * time.Millisecond}},
	}})
	ctx := within(t, 20*time.Second)
	var msgs []autopaho.Message
	for i := range 300 {
		msgs = append(msgs, autopaho.Message{Topic: fmt.Sprintf("k/%d", i%3), Payload: []byte(strconv.Itoa(i))})
	}
	q, err := c.Enqueue(ctx, msgs...)
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	for key := range 3 {
		arrivals := b.FirstArrivals(fmt.Sprintf("k/%d", key))
		require.Len(t, arrivals, 100)
		for i, a := range arrivals {
			require.Equal(t, strconv.Itoa(key+3*i), string(a.Packet.Payload))
		}
	}
}

// Bad credentials are told at once, and the message stays.
func TestRefusedCredentials(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{"u": "p"}})
	store := memoryStore(t)
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, Store: store, Username: "u", Password: []byte("canary-secret"),
	})
	ctx := within(t, 10*time.Second)
	q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.ErrorIs(t, err, autopaho.ErrRefused)
	require.NotContains(t, err.Error(), "canary")
	require.ErrorIs(t, c.Err(), autopaho.ErrRefused)
	require.Equal(t, 1, b.Connections())
	st, err := store.Stats(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, st.Pending)
}

func TestPublishDirect(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{
		TellNoSubscribers: true, Answers: []brokertest.Answer{{Topic: "no", Code: 0x87}},
	})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}})
	ctx := within(t, 10*time.Second)
	for level := range byte(3) {
		r, err := c.Publish(ctx, autopaho.Message{Topic: "a", QoS: level})
		require.NoError(t, err)
		require.Equal(t, level > 0, r.NoSubscribers())
	}
	_, err := c.Publish(ctx, autopaho.Message{Topic: "no", QoS: 2})
	require.ErrorIs(t, err, autopaho.ErrNotDelivered)
	_, err = c.Publish(ctx, autopaho.Message{Topic: "a/#"})
	require.ErrorIs(t, err, autopaho.ErrInvalidMessage)
	_, err = c.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.ErrorIs(t, err, autopaho.ErrNoStore)
}
