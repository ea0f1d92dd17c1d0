package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// Three hundred thousand messages and keys come and go, ten thousand at a time. The
// tables do not grow with them: what autovacuum frees is used again.
func TestTablesDoNotBloat(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("moves 300,000 messages")
	}
	pg := testenv.Postgres(t, testenv.PostgresOptions{NoFsync: true, Extra: []string{"autovacuum_naptime = 1s"}})
	s := openStore(t, pg.URL(), Options{})
	l := acquire(t, s)
	const live = 10_000
	churn := func(round int) {
		msgs, keys := make([]persist.Message, 500), make([]string, 500)
		for part := range live / len(msgs) {
			for i := range msgs {
				keys[i] = fmt.Sprintf("%d.%d.%d", round, part, i)
				msgs[i] = plainMessage(keys[i])
				msgs[i].Payload = make([]byte, 256)
			}
			_, err := s.Enqueue(t.Context(), msgs)
			require.NoError(t, err)
			claims, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Keys: keys, TTL: time.Minute})
			require.NoError(t, err)
			completions := make([]persist.Completion, len(claims))
			for i := range claims {
				completions[i].Claim = claims[i]
			}
			_, err = s.Complete(t.Context(), "g", completions, time.Hour)
			require.NoError(t, err)
		}
		for left := live; left > 0; {
			entries, err := l.Next(t.Context(), 1000, 1<<30)
			require.NoError(t, err)
			settlements := make([]persist.Settlement, len(entries))
			for i := range entries {
				settlements[i].Position = entries[i].Position
			}
			require.NoError(t, l.Settle(t.Context(), settlements))
			left -= len(entries)
		}
	}
	vacuumed := func() {
		require.Eventually(t, func() bool {
			return pg.Exec("SELECT sum(n_dead_tup) < 6000 FROM pg_stat_user_tables WHERE relname IN ('outbox', 'claims')") == "t"
		}, time.Minute, 100*time.Millisecond)
	}
	size := func() (bytes int) {
		out := pg.Exec("SELECT pg_total_relation_size('oncemq.outbox') + pg_total_relation_size('oncemq.claims') +" +
			" pg_total_relation_size('oncemq.arrivals') + pg_total_relation_size('oncemq.lanes')")
		_, err := fmt.Sscan(out, &bytes)
		require.NoError(t, err)
		return bytes
	}
	most := 0
	for round := range 30 {
		churn(round)
		if round < 5 {
			most = max(most, size())
		}
		if round%5 == 4 {
			vacuumed()
		}
	}
	require.LessOrEqual(t, size(), 2*most)
	t.Logf("%d bytes at the beginning, %d at the end", most, size())
}
