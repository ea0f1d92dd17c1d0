package autopaho_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// desk handles messages in one of the ways in which that can be done, and counts
// the effects: in transactional mode they are rows of a table.
type desk struct {
	mode  string
	store persist.Store
	// judge, if set, may fail a message before it has its effect.
	judge func(ctx context.Context, m *autopaho.Received) error

	eff *effects
	db  *sql.DB
}

// deskModes are the ways with dedup.
func deskModes() []string { return []string{"leased", "batch", "transaction", "transaction batch"} }

func newDesk(t *testing.T, mode string, judge func(ctx context.Context, m *autopaho.Received) error) *desk {
	t.Helper()
	d := &desk{mode: mode, judge: judge, eff: newEffects()}
	switch mode {
	case "transaction", "transaction batch":
		path := filepath.Join(t.TempDir(), "store.db")
		d.store = sqliteStore(t, path)
		d.db = effectsIn(t, path)
	default:
		d.store = memoryStore(t)
	}
	return d
}

// subscription is one with a handler of the mode.
func (d *desk) subscription(cfg autopaho.SubscribeConfig) autopaho.SubscribeConfig {
	switch d.mode {
	case "batch":
		cfg.BatchHandler = d.handleBatch
	case "transaction":
		cfg.TxHandler = autopaho.InTx(d.inTx)
	case "transaction batch":
		cfg.TxHandler = autopaho.BatchInTx(func(ctx context.Context, tx *sql.Tx, msgs []*autopaho.Received) error {
			for _, m := range msgs {
				if err := d.inTx(ctx, tx, m); err != nil {
					return err
				}
			}
			return nil
		})
	default:
		cfg.Handler = d.handle
	}
	return cfg
}

func (d *desk) handle(ctx context.Context, m *autopaho.Received) error {
	return d.handleBatch(ctx, []*autopaho.Received{m})
}

// handleBatch has the effects of all or of none.
func (d *desk) handleBatch(ctx context.Context, msgs []*autopaho.Received) error {
	if d.judge != nil {
		for _, m := range msgs {
			if err := d.judge(ctx, m); err != nil {
				return err
			}
		}
	}
	for _, m := range msgs {
		if err := d.eff.handle(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// inTx writes before it judges, so that there is something to undo.
func (d *desk) inTx(ctx context.Context, tx *sql.Tx, m *autopaho.Received) error {
	if err := insertEffect(ctx, tx, m); err != nil {
		return err
	}
	if d.judge != nil {
		return d.judge(ctx, m)
	}
	return nil
}

// effects are how many effects each message ID has had.
func (d *desk) effects(t *testing.T) map[string]int {
	t.Helper()
	count := make(map[string]int)
	if d.db == nil {
		d.eff.mu.Lock()
		defer d.eff.mu.Unlock()
		for id, n := range d.eff.count {
			count[id] = n
		}
		return count
	}
	rows, err := d.db.QueryContext(t.Context(), "SELECT id, count(*) FROM effects GROUP BY id")
	require.NoError(t, err)
	defer func() { require.NoError(t, rows.Close()) }()
	for rows.Next() {
		var id string
		var n int
		require.NoError(t, rows.Scan(&id, &n))
		count[id] = n
	}
	require.NoError(t, rows.Err())
	return count
}
