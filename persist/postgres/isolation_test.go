package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// A transaction of a caller that reads by one snapshot does not see what others have
// committed since, and so can neither supersede nor count it.
func TestSnapshotOfCallersTransaction(t *testing.T) {
	t.Parallel()
	state := func(id string) persist.Message {
		m := plainMessage(id)
		m.Supersede = true
		return m
	}
	for name, c := range map[string]struct {
		limit     int
		old, late persist.Message
	}{
		"supersede": {0, state("old"), state("late")},
		"limit":     {1, plainMessage("old"), plainMessage("late")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.SharedPostgres(t).URL()
			s, pool := openStore(t, url, Options{MaxMessages: c.limit}), openPool(t, url)
			for _, isolation := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
				tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: isolation})
				require.NoError(t, err)
				_, err = tx.Exec(t.Context(), "SELECT FROM oncemq.outbox")
				require.NoError(t, err)
				if isolation == pgx.RepeatableRead {
					_, err = s.Enqueue(t.Context(), []persist.Message{c.old})
					require.NoError(t, err)
				}
				_, refused := s.WithTx(tx).Enqueue(t.Context(), []persist.Message{c.late})
				if refused == nil {
					require.NoError(t, tx.Commit(t.Context()))
				} else {
					require.NoError(t, tx.Rollback(t.Context()))
				}
				require.Len(t, ids(t, s), 1)
				require.ErrorIs(t, refused, persist.ErrInvalid)
				require.ErrorContains(t, refused, string(isolation))
				require.ErrorContains(t, refused, readCommitted)
			}
		})
	}
}
