package postgres

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// A consumer's letter has an ID that no message of the outbox may have. It goes
// back with one of the store's, and the letters beside it go back as well.
func TestRetryLetterWithLongID(t *testing.T) {
	t.Parallel()
	s := openStore(t, testenv.SharedPostgres(t).URL(), Options{NoListen: true})
	var letters []persist.DeadLetter
	for _, id := range []string{strings.Repeat("x", persist.MaxMessageID+1), "good"} {
		letters = append(letters, persist.DeadLetter{
			Side: persist.SideConsumer, State: persist.StateFailed, Group: "g", Key: "k", Message: plainMessage(id),
		})
	}
	require.NoError(t, s.AddDeadLetters(t.Context(), letters))
	stored, err := s.ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	moved, err := s.RetryDeadLetters(t.Context(), []persist.Retry{stored[0].Retry(), stored[1].Retry()})
	require.NoError(t, err)
	require.Len(t, moved, 2)
	require.Equal(t, map[string]bool{"good": true, fmt.Sprintf("%s-%d", s.Identity(), stored[0].Number): true}, ids(t, s))
}

// Letters that are asked for by number are not looked for among all of them.
func TestLettersByNumber(t *testing.T) {
	t.Parallel()
	url := testenv.SharedPostgres(t).URL()
	s, pool := openStore(t, url, Options{NoListen: true}), openPool(t, url)
	_, err := pool.Exec(t.Context(), `INSERT INTO oncemq.dead_letters (at, attempts, side, state, reason_code, reason, body)
		SELECT 0, 1, 2, 3, 0, '', '' FROM generate_series(1, 5000)`)
	require.NoError(t, err)
	removed := regexp.MustCompile(`"Rows Removed by Filter": (\d+)`)
	for _, numbers := range [][]int64{{4000, 4001}, {4000, 10_000}, {}, {-1 << 63, 0}} {
		for _, stmt := range []*statement{s.q.deadList, s.q.deadPurge} {
			tx, err := pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { _ = tx.Rollback(context.Background()) }()
			_, err = tx.Exec(t.Context(), s.q.steer.text)
			require.NoError(t, err)
			// Planned once for all arguments, as the server does in the end.
			_, err = tx.Exec(t.Context(), "PREPARE p AS "+stmt.text)
			require.NoError(t, err)
			list := textArray(numbers, func(n int64) string { return strconv.FormatInt(n, 10) })
			args := fmt.Sprintf("%d, 0, NULL, '%s', NULL, 0, 10", 0, list)
			if all := filterArgs(persist.DeadLetterFilter{Numbers: numbers}, 10); len(all) > 7 {
				args = fmt.Sprintf("%d, 0, NULL, '%s', NULL, 0, 10, %d", all[0], list, all[7])
			}
			var plan string
			require.NoError(t, tx.QueryRow(t.Context(), "EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE p ("+args+")",
				pgx.QueryExecModeSimpleProtocol).Scan(&plan))
			_, err = tx.Exec(t.Context(), "DEALLOCATE p")
			require.NoError(t, err)
			looked := 0
			for _, found := range removed.FindAllStringSubmatch(plan, -1) {
				n, err := strconv.Atoi(found[1])
				require.NoError(t, err)
				looked += n
			}
			require.LessOrEqual(t, looked, 1000, "%s of %v: %s", stmt.name, numbers, plan)
			require.NoError(t, tx.Rollback(t.Context()))
		}
	}
}
