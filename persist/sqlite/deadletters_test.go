package sqlite

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// A consumer's letter has an ID that no message of the outbox may have. It goes
// back with one of the store's, and the letters beside it go back as well.
func TestRetryLetterWithLongID(t *testing.T) {
	t.Parallel()
	s := open(t, file(t), Options{})
	var letters []persist.DeadLetter
	for _, id := range []string{strings.Repeat("x", persist.MaxMessageID+1), "good"} {
		letters = append(letters, persist.DeadLetter{
			Side: persist.SideConsumer, State: persist.StateFailed, Group: "g", Key: "k",
			Message: persist.Message{ID: id, Topic: "t", QoS: 1},
		})
	}
	require.NoError(t, s.AddDeadLetters(t.Context(), letters))
	stored, err := s.ListDeadLetters(t.Context(), persist.DeadLetterFilter{}, 10)
	require.NoError(t, err)
	moved, err := s.RetryDeadLetters(t.Context(), []persist.Retry{stored[0].Retry(), stored[1].Retry()})
	require.NoError(t, err)
	require.Len(t, moved, 2)
	entries, err := s.ListOutbox(t.Context(), persist.ListRequest{Limit: 10})
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Equal(t, fmt.Sprintf("%s-%d", s.Identity(), stored[0].Number), entries[0].Message.ID)
	require.Equal(t, "good", entries[1].Message.ID)
}

// Letters that are asked for by number are not looked for among all of them.
func TestLettersByNumber(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	db := database(t, path, "")
	args := filterArgs(persist.DeadLetterFilter{Numbers: []int64{4000, 4001}}, 0, 10)
	plan := func(stmt *statement) (steps []string) {
		rows, err := db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+stmt.text, args...)
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		for rows.Next() {
			var id, parent, unused int
			var detail string
			require.NoError(t, rows.Scan(&id, &parent, &unused, &detail))
			steps = append(steps, detail)
		}
		require.NoError(t, rows.Err())
		return steps
	}
	for _, stmt := range []*statement{s.q.deadList, s.q.deadPurge} {
		require.Contains(t, strings.Join(plan(stmt), "\n"), "(rowid>? AND rowid<?)", stmt.name)
	}
	require.Equal(t, []any{int64(3999), int64(4001)}, []any{args[0], args[len(args)-1]})
}
