package autopaho_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
)

// A message of which DedupKey or OrderBy can make nothing, and panics, ended the
// process, and each that came after it.
func TestFunctionOfMessagePanics(t *testing.T) {
	t.Parallel()
	modes := map[string]func(t *testing.T, eff *effects, cfg *autopaho.SubscribeConfig) persist.Store{
		"no store": func(_ *testing.T, eff *effects, cfg *autopaho.SubscribeConfig) persist.Store {
			cfg.Handler = eff.handle
			return nil
		},
		"no group": func(t *testing.T, eff *effects, cfg *autopaho.SubscribeConfig) persist.Store {
			t.Helper()
			cfg.Handler = eff.handle
			return memoryStore(t)
		},
		"leased": func(t *testing.T, eff *effects, cfg *autopaho.SubscribeConfig) persist.Store {
			t.Helper()
			cfg.Group, cfg.Handler = "g", eff.handle
			return memoryStore(t)
		},
		"batch": func(t *testing.T, eff *effects, cfg *autopaho.SubscribeConfig) persist.Store {
			t.Helper()
			cfg.BatchHandler = func(ctx context.Context, msgs []*autopaho.Received) error {
				for _, m := range msgs {
					_ = eff.handle(ctx, m)
				}
				return nil
			}
			return memoryStore(t)
		},
		"transaction": func(t *testing.T, eff *effects, cfg *autopaho.SubscribeConfig) persist.Store {
			t.Helper()
			cfg.Group = "g"
			cfg.TxHandler = autopaho.InTx(func(ctx context.Context, _ *sql.Tx, m *autopaho.Received) error { return eff.handle(ctx, m) })
			return sqliteStore(t, filepath.Join(t.TempDir(), "store.db"))
		},
		"transaction batch": func(t *testing.T, eff *effects, cfg *autopaho.SubscribeConfig) persist.Store {
			t.Helper()
			cfg.Group = "g"
			cfg.TxHandler = autopaho.BatchInTx(func(ctx context.Context, _ *sql.Tx, msgs []*autopaho.Received) error {
				for _, m := range msgs {
					_ = eff.handle(ctx, m)
				}
				return nil
			})
			return sqliteStore(t, filepath.Join(t.TempDir(), "store.db"))
		},
	}
	for name, mode := range modes {
		for _, function := range []string{"OrderBy", "DedupKey"} {
			if function == "DedupKey" && (name == "no store" || name == "no group" || name == "batch") {
				continue // it is not asked
			}
			t.Run(name+" "+function, func(t *testing.T) {
				t.Parallel()
				const n = 10
				ctx := within(t, 60*time.Second)
				b := startBroker(t, brokertest.Options{})
				eff := newEffects()
				spoil := func(m *autopaho.Message) string {
					if string(m.Payload) == "poison" {
						panic("no such field")
					}
					return m.ID
				}
				cfg := autopaho.SubscribeConfig{Filters: []string{"a"}}
				if function == "OrderBy" {
					cfg.OrderBy = spoil
				} else {
					cfg.DedupKey = func(m *autopaho.Message) (string, bool) { return spoil(m), true }
				}
				store := mode(t, eff, &cfg)
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
				eff.requireOnce(t)
				require.Len(t, eff.order, n)
				require.NotContains(t, eff.order, "poison", "no handler has it")
				if store == nil {
					return
				}
				letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
				require.NoError(t, err)
				require.Len(t, letters, 1)
				require.Equal(t, function+" panicked: no such field", letters[0].Reason)
				require.Equal(t, "1", letters[0].Message.ID)
				require.Equal(t, cfg.Group, letters[0].Group)
			})
		}
	}
}
