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
