package postgres

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

// plan is a node of what EXPLAIN shows.
type plan struct {
	Type  string `json:"Node Type"`
	Table string `json:"Relation Name"`
	Index string `json:"Index Name"`
	Cond  string `json:"Index Cond"`
	Plans []plan `json:"Plans"`
}

// unbounded are the scans of the large tables that begin at one end and stop where
// they find enough, or at the other.
func (p *plan) unbounded() (found []string) {
	column := map[string]string{"outbox": "", "claims": "key", "processed": "key"} // one group may have all keys
	by, large := column[p.Table]
	if large && strings.HasSuffix(p.Type, "Scan") && (p.Cond == "" || !strings.Contains(p.Cond, by)) {
		found = append(found, strings.TrimSpace(p.Type+" "+p.Table+" "+p.Index))
	}
	for i := range p.Plans {
		found = append(found, p.Plans[i].unbounded()...)
	}
	return found
}

// The tables are full, and each statement is planned once for all arguments, as the
// server does in the end. None of them goes through a large table for a few of its
// rows.
func TestPlans(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{NoListen: true}), openPool(t, url)
	_, err := pool.Exec(t.Context(), `
		INSERT INTO oncemq.outbox (position, enqueued_at, size, body, due, once, id)
		SELECT n, 0, 0, '', CASE WHEN n % 10 = 0 THEN n END, n % 3 = 0, CASE WHEN n % 3 < 2 THEN n::text::bytea END
		FROM generate_series(1, 30000) AS n;
		INSERT INTO oncemq.claims SELECT 1, n, 1, 1, false, n::text::bytea, '' FROM generate_series(1, 30000) AS n;
		INSERT INTO oncemq.processed (epoch, until, group_id, key) SELECT 1, n, 1, n::text::bytea FROM generate_series(1, 30000) AS n;
		ANALYZE oncemq.outbox, oncemq.claims, oncemq.processed`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	readsAll := map[string]string{ // on purpose
		"page_by_id":      "few messages have their ID in a column; for operators",
		"processed_count": "counts up to a limit; for operators",
	}
	seen := 0
	for name, q := range s.q.files() {
		text := (*q).text
		if !strings.Contains(text, ".outbox") && !strings.Contains(text, ".claims") && !strings.Contains(text, ".processed") {
			continue
		}
		seen++
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), s.q.steer.text)
		require.NoError(t, err)
		// What earlier statements leave for later ones; the planner looks at it.
		_, err = tx.Exec(t.Context(), `SELECT set_config('oncemq_saved.now', '1', true),
			set_config('oncemq_saved.epoch', '1', true), set_config('oncemq_saved.group', '1', true), set_config('oncemq_saved.rivals', '{}', true)`)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "PREPARE p AS "+text)
		require.NoError(t, err, name)
		var n int
		require.NoError(t, tx.QueryRow(t.Context(),
			"SELECT cardinality(parameter_types) FROM pg_prepared_statements WHERE name = 'p'").Scan(&n))
		args := ""
		if n > 0 {
			args = "(" + strings.TrimSuffix(strings.Repeat("NULL,", n), ",") + ")"
		}
		var out []byte
		require.NoError(t, tx.QueryRow(t.Context(), fmt.Sprintf("EXPLAIN (FORMAT JSON) EXECUTE p%s", args),
			pgx.QueryExecModeSimpleProtocol).Scan(&out), name)
		var plans []struct {
			Plan plan `json:"Plan"`
		}
		require.NoError(t, json.Unmarshal(out, &plans))
		for i := range plans {
			if found := plans[i].Plan.unbounded(); readsAll[name] == "" && len(found) > 0 {
				t.Errorf("%s: %s\n%s", name, found, out)
			}
		}
		_, err = tx.Exec(t.Context(), "DEALLOCATE p")
		require.NoError(t, err)
		require.NoError(t, tx.Rollback(t.Context()))
	}
	require.Greater(t, seen, 20)
}
