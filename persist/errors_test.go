package persist_test

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

func TestErrorText(t *testing.T) {
	t.Parallel()
	cause := errors.New("disk I/O error")
	for want, err := range map[string]*persist.Error{
		"enqueue":                 {Op: "enqueue"},
		"settle lane 3":           {Op: "settle", Object: "lane 3"},
		"stats: store is closed":  {Op: "stats", Kind: persist.ErrClosed},
		"claim: disk I/O error":   {Op: "claim", Err: cause},
		"renew: context canceled": {Op: "renew", Err: context.Canceled},
		"open a.db: store is corrupt: disk I/O error": {
			Op: "open", Object: "a.db", Kind: persist.ErrCorrupt, Err: cause,
		},
	} {
		require.EqualError(t, err, want)
	}
}

func TestErrorUnwraps(t *testing.T) {
	t.Parallel()
	cause := &fs.PathError{Op: "write", Path: "a.db", Err: fs.ErrPermission}
	var err error = &persist.Error{Op: "enqueue", Kind: persist.ErrReadOnly, Err: cause}
	require.ErrorIs(t, err, persist.ErrReadOnly)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.NotErrorIs(t, err, persist.ErrStoreFull)
	var path *fs.PathError
	require.ErrorAs(t, err, &path)
	var own *persist.Error
	require.ErrorAs(t, errors.Join(errors.New("other"), err), &own)
	require.Equal(t, "enqueue", own.Op)
	require.NotErrorIs(t, &persist.Error{Op: "enqueue"}, persist.ErrInvalid)
	require.ErrorIs(t, &persist.Error{Kind: persist.ErrClosed}, persist.ErrClosed)
	require.ErrorIs(t, &persist.Error{Err: context.DeadlineExceeded}, context.DeadlineExceeded)
}

// What a caller does depends on the sentinel, so no two may be taken for each
// other.
func TestSentinelsDiffer(t *testing.T) {
	t.Parallel()
	sentinels := []error{
		persist.ErrInvalid, persist.ErrNotFound, persist.ErrLeaseHeld, persist.ErrLeaseLost, persist.ErrOutboxFull,
		persist.ErrStoreFull, persist.ErrReadOnly, persist.ErrCorrupt, persist.ErrSchema, persist.ErrUnavailable,
		persist.ErrUnknownOutcome, persist.ErrClosed,
	}
	texts := make(map[string]bool)
	for i, a := range sentinels {
		require.False(t, texts[a.Error()], a.Error())
		texts[a.Error()] = true
		for k, b := range sentinels {
			require.Equal(t, i == k, errors.Is(a, b))
		}
	}
}
