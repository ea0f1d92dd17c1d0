package autopaho_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// A handler that ends its goroutine, as t.FailNow does, took a worker along, or the
// process; its message was never through.
func TestHandlerEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"no group", "leased", "leased timed", "leased batch", "transaction", "transaction timed", "transaction batch"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			const n, attempts = 10, 2
			ctx := within(t, 60*time.Second)
			b := startBroker(t, brokertest.Options{})
			eff := newEffects()
			handle := func(ctx context.Context, m *autopaho.Received) error {
				if string(m.Payload) == "poison" {
					runtime.Goexit()
				}
				return eff.handle(ctx, m)
			}
			many := func(ctx context.Context, msgs []*autopaho.Received) error {
				for _, m := range msgs { // before there is an effect
					if string(m.Payload) == "poison" {
						runtime.Goexit()
					}
				}
				for _, m := range msgs {
					_ = eff.handle(ctx, m)
				}
				return nil
			}
			cfg := autopaho.SubscribeConfig{Filters: []string{"a"}, Group: "g", Attempts: attempts}
			store := memoryStore(t)
			switch mode {
			case "no group":
				cfg.Group, cfg.Handler, cfg.Workers = "", handle, 1
			case "leased":
				cfg.Handler, cfg.Workers = handle, 1
			case "leased timed":
				cfg.Handler, cfg.HandlerTimeout = handle, time.Minute
			case "leased batch":
				cfg.BatchHandler = many
			case "transaction batch":
				cfg.TxHandler = autopaho.BatchInTx(func(ctx context.Context, _ *sql.Tx, msgs []*autopaho.Received) error { return many(ctx, msgs) })
			default:
				cfg.TxHandler = autopaho.InTx(func(ctx context.Context, _ *sql.Tx, m *autopaho.Received) error { return handle(ctx, m) })
				if mode == "transaction timed" {
					cfg.HandlerTimeout = time.Minute
				}
			}
			if cfg.TxHandler != nil {
				store = sqliteStore(t, filepath.Join(t.TempDir(), "store.db"))
			}
			c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
			_, err := c.Subscribe(ctx, cfg)
			require.NoError(t, err)
			for i := range n + 1 {
				m := autopaho.Message{ID: strconv.Itoa(i), Topic: "a", QoS: 1, Payload: []byte("x")}
				if i == 1 {
					m.Payload = []byte("poison")
				}
				_, err := c.Publish(ctx, m)
				require.NoError(t, err)
			}
			eventually(t, func() bool { return c.Counters().Processed == n && c.Counters().Dead == 1 }, 30*time.Second, 5*time.Millisecond, "all are through")
			letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
			require.NoError(t, err)
			require.Len(t, letters, 1)
			require.Equal(t, "handler ended its goroutine", letters[0].Reason)
			require.Equal(t, "1", letters[0].Message.ID)
			require.Equal(t, attempts, letters[0].Attempts)
			require.Zero(t, c.Counters().Stuck)
		})
	}
}

// A NotFound that ends its goroutine has failed: the message is put aside, and those
// behind it have their turn.
func TestNotFoundEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 60*time.Second)
	keepSubscription(t, b, "router", "old/#")
	publish(t, client(t, autopaho.Config{Servers: []string{b.URL()}}), "old/1", "old/2")
	store := memoryStore(t)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, ClientID: "router", Store: store, Relay: autopaho.RelayConfig{Off: true}})
	c.SetUnroutedWait(10 * time.Millisecond)
	r := autopaho.NewRouter(autopaho.SubscribeConfig{})
	r.Handle("new/#", func(context.Context, *autopaho.Received) error { return nil })
	r.NotFound(func(_ context.Context, m *autopaho.Received) error {
		if m.Topic == "old/1" {
			runtime.Goexit()
		}
		return nil
	})
	_, err := r.Start(ctx, c)
	require.NoError(t, err)
	eventually(t, func() bool { return c.Counters().Unrouted == 1 && c.Counters().Processed == 1 }, 20*time.Second, 5*time.Millisecond, "both are through")
	letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	require.Len(t, letters, 1)
	require.Contains(t, letters[0].Reason, "its handler failed: handler ended its goroutine")
}
