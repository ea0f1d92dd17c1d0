package postgres

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// A transaction of a caller that stays open supersedes more messages than a page has
// room for. They wait for its end, and nothing else of the lane does.
func TestOthersGoOnWhileOneIsSuperseded(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{}), openPool(t, url)
	const waiting = 5
	reading := func(generation string) []persist.Message {
		msgs := make([]persist.Message, waiting)
		for i := range msgs {
			msgs[i] = plainMessage(fmt.Sprintf("%s%d", generation, i))
			msgs[i].OrderingKey, msgs[i].Supersede = fmt.Sprint("sensor ", i), true
		}
		return msgs
	}
	_, err := s.Enqueue(t.Context(), reading("old"))
	require.NoError(t, err)
	enqueue(t, s, "a", "b", "c")
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }() // if the test fails before it does
	_, err = s.WithTx(tx).Enqueue(t.Context(), reading("new"))
	require.NoError(t, err)

	l := acquire(t, s)
	page := func() (ids []string) {
		entries, err := l.Next(t.Context(), 2, 1<<20)
		require.NoError(t, err)
		for i := range entries {
			ids = append(ids, entries[i].Message.ID)
		}
		return ids
	}
	var handed []string
	for ids := page(); len(ids) > 0; ids = page() {
		handed = append(handed, ids...)
	}
	require.Equal(t, []string{"a", "b", "c"}, handed)
	enqueue(t, s, "d")
	require.Equal(t, []string{"d"}, page())
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, []string{"old0", "old1"}, page(), "what waited is handed out in its order")
	require.Equal(t, []string{"old2", "old3"}, page())
	require.Equal(t, []string{"old4"}, page())
	require.Empty(t, page())
}
