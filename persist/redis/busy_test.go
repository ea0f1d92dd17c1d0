package redis

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// A server that reads its data answers that it does, and nothing else. Calls fail
// meanwhile, nothing of them has happened, and work goes on once it is there.
func TestServerLoading(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{Extra: []string{"enable-debug-command local"}})
	s := openStore(t, server.URL(), Options{})
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	_, err = s.Enqueue(t.Context(), plainMessages("before", 3))
	require.NoError(t, err)
	// It looks up from loading after every 1,024 commands.
	server.Command("EVAL", "for i = 1, 10240 do redis.call('SET', 'filler' .. i, i) end", "0")
	server.Command("CONFIG", "SET", "key-load-delay", "100")
	loaded := make(chan error, 1)
	go func() {
		_, err := server.TryCommand(context.WithoutCancel(t.Context()), "DEBUG", "LOADAOF")
		loaded <- err
	}()
	until(t, func(ctx context.Context) error {
		_, err := s.Stats(ctx)
		if err == nil {
			return errors.New("it does not load yet")
		}
		require.ErrorContains(t, err, "LOADING")
		return nil
	})
	until(t, func(ctx context.Context) error {
		_, err := s.Enqueue(ctx, plainMessages("after", 1))
		if err != nil {
			require.ErrorIs(t, err, persist.ErrUnavailable)
			require.NotErrorIs(t, err, persist.ErrUnknownOutcome, "a server that loads does nothing")
		}
		return err
	})
	require.NoError(t, <-loaded)
	require.Equal(t, []string{"before0", "before1", "before2", "after0"}, drainAll(t, lane), "under the same lease")
}

// A server that could not write its snapshot refuses writes: the disk is full,
// nearly always. Nothing is stored then, and what comes later is.
func TestSnapshotFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := testenv.Redis(t, testenv.RedisOptions{Extra: []string{"enable-protected-configs local"}})
	s := openStore(t, server.URL(), Options{})
	_, err := s.Enqueue(t.Context(), plainMessages("before", 3))
	require.NoError(t, err)
	// A directory that is not empty cannot be replaced by a snapshot.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "dump.rdb", "in the way"), 0o700))
	server.Command("CONFIG", "SET", "dir", dir)
	server.Command("CONFIG", "SET", "save", "3600 1")
	server.Command("BGSAVE")
	until(t, func(ctx context.Context) error {
		_, err := s.Enqueue(ctx, plainMessages("refused", 1))
		if err == nil {
			return errors.New("the snapshot has not failed yet")
		}
		require.ErrorIs(t, err, persist.ErrStoreFull)
		require.Contains(t, err.Error(), "MISCONF")
		return nil
	})
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	before := stats.Pending
	_, err = s.Claim(t.Context(), persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{"k"}})
	require.ErrorIs(t, err, persist.ErrStoreFull)
	stats, err = s.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, before, stats.Pending)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "dump.rdb")))
	server.Command("BGSAVE")
	until(t, func(ctx context.Context) error {
		_, err := s.Claim(ctx, persist.ClaimRequest{Group: "g", TTL: time.Hour, Keys: []string{"k"}})
		return err
	})
	_, err = s.Enqueue(t.Context(), plainMessages("after", 1))
	require.NoError(t, err)
}
