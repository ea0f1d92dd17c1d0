package autopaho_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// A dead letter could not be stored, once. The message stayed un-acknowledged at
// the head of the queue, and nothing behind it was acknowledged any more.
func TestDeadLetterIsStoredAgain(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store, _ := persisttest.NewFaulty(memoryStore(t), persisttest.Fault{Op: persisttest.OpAddDeadLetters, N: 1})
	ctx := within(t, 20*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, ReceiveMaximum: 5, Relay: autopaho.RelayConfig{Off: true}})
	eff := newEffects()
	_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"},
		Handler: func(ctx context.Context, m *autopaho.Received) error {
			if m.ID == "0" {
				return autopaho.Permanent(errors.New("never"))
			}
			return eff.handle(ctx, m)
		},
	})
	require.NoError(t, err)
	for i := range 20 {
		_, err := c.Publish(ctx, autopaho.Message{ID: strconv.Itoa(i), Topic: "a", QoS: 1})
		require.NoError(t, err)
	}
	eff.waitFor(t, ctx, 19)
	require.Eventually(t, func() bool { return c.Counters().Dead == 1 }, 10*time.Second, time.Millisecond)
	eff.requireOnce(t)
}

// A message that a handler gives back comes again, at QoS 2 as well: its exchange
// outlives the connection, and passed for being in work for ever.
func TestReleasedMessageComesAgain(t *testing.T) {
	t.Parallel()
	for level := byte(1); level <= 2; level++ {
		t.Run(fmt.Sprintf("qos%d", level), func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			ctx := within(t, 20*time.Second)
			c := client(t, autopaho.Config{Servers: []string{b.URL()}})
			var tries atomic.Int32
			done := make(chan struct{})
			_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{
				Filters: []string{"a"}, QoS: level,
				Handler: func(context.Context, *autopaho.Received) error {
					if tries.Add(1) == 1 {
						return autopaho.ErrRelease
					}
					close(done)
					return nil
				},
			})
			require.NoError(t, err)
			_, err = c.Publish(ctx, autopaho.Message{Topic: "a", QoS: level})
			require.NoError(t, err)
			select {
			case <-done:
			case <-ctx.Done():
				require.FailNow(t, "it did not come again")
			}
		})
	}
}

// Bad credentials are told although the message asks for a receipt, for which
// the relay would listen first.
func TestRefusedWithReceipt(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{"u": "p"}})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t), Username: "u", Password: []byte("wrong")})
	ctx := within(t, 10*time.Second)
	q, err := c.Enqueue(ctx, autopaho.Message{Topic: "a", Receipt: true})
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.ErrorIs(t, err, autopaho.ErrRefused)
}

// Publish waits for a broker that is not there; Close does not wait with it.
func TestCloseEndsPublish(t *testing.T) {
	t.Parallel()
	c, err := autopaho.New(t.Context(), autopaho.Config{Servers: []string{"mqtt://127.0.0.1:1"}})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Publish(context.Background(), autopaho.Message{Topic: "a", QoS: 1})
		ended <- err
	}()
	require.Eventually(t, func() bool { return len(c.Status(t.Context()).Connections) == 1 }, 5*time.Second, time.Millisecond)
	begun := time.Now()
	require.NoError(t, c.Close(within(t, 5*time.Second)))
	require.Less(t, time.Since(begun), 4*time.Second)
	require.ErrorIs(t, <-ended, autopaho.ErrClosed)
}

// A message of a subscription that is no more is put aside, not swallowed.
func TestUnwantedMessageIsPutAside(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 30*time.Second)
	store := memoryStore(t)
	handler := func(context.Context, *autopaho.Received) error { return nil }
	first := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "c"})
	_, err := first.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"old"}, Handler: handler})
	require.NoError(t, err)
	require.NoError(t, first.Close(ctx))
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}})
	_, err = pub.Publish(ctx, autopaho.Message{Topic: "old", QoS: 1})
	require.NoError(t, err)

	second := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "c", Store: store, Relay: autopaho.RelayConfig{Off: true}})
	_, err = second.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"new"}, Handler: handler})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
		return err == nil && len(letters) == 1
	}, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, second.Close(ctx))
	require.Zero(t, b.Stats().Refusals)
}
