package postgres

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// The outbox lies on a disk that fills up. What was accepted stays, what is refused
// leaves nothing behind, the relay goes on draining, and there is room again once the
// disk has it, or after VACUUM.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{})
	pool := openPool(t, pg.URL())
	var data string
	require.NoError(t, pool.QueryRow(t.Context(), "SHOW data_directory").Scan(&data))
	// Not within the test's own folder, which the server's user may not enter.
	dir, err := os.MkdirTemp("/tmp", "oncemq-full-") //nolint:usetesting // see above
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0755"); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	place, filler := filepath.Join(dir, "tables"), filepath.Join(dir, "filler")
	require.NoError(t, os.Mkdir(place, 0o700))
	owner, err := os.Stat(data)
	require.NoError(t, err)
	who := owner.Sys().(*syscall.Stat_t)
	require.NoError(t, os.Chown(place, int(who.Uid), int(who.Gid)))
	require.NoError(t, os.WriteFile(filler, make([]byte, 1<<20), 0o600))
	reserve := filepath.Join(dir, "reserve")
	require.NoError(t, os.WriteFile(reserve, make([]byte, 64<<10), 0o600))

	s := openStore(t, pg.URL(), Options{NoListen: true})
	for _, statement := range []string{
		"CREATE TABLESPACE small LOCATION '" + place + "'",
		"ALTER TABLE oncemq.outbox SET TABLESPACE small",
		"ALTER TABLE oncemq.outbox SET (autovacuum_enabled = false, toast.autovacuum_enabled = false)",
	} {
		_, err := pool.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	msgs := make([]persist.Message, 20)
	for i := range msgs {
		msgs[i] = plainMessage("m")
		msgs[i].Payload = []byte(strings.Repeat("x", 4000))
	}
	accepted := int64(0)
	for err == nil {
		if _, err = s.Enqueue(t.Context(), msgs); err == nil {
			accepted += int64(len(msgs))
		}
	}
	require.ErrorIs(t, err, persist.ErrStoreFull)
	require.NotErrorIs(t, err, persist.ErrUnknownOutcome)
	require.NotContains(t, err.Error(), "xxx", "a payload is shown")
	require.Greater(t, accepted, int64(100))
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = s.WithTx(tx).Enqueue(t.Context(), msgs)
	require.ErrorIs(t, err, persist.ErrStoreFull)
	require.NoError(t, tx.Rollback(t.Context()))
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, accepted, stats.Pending, "a refused call left something")

	// There is room on the disk again, and nothing else was done about it.
	require.NoError(t, os.Remove(filler))
	_, err = s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
	accepted += int64(len(msgs))

	// The disk is full again, and draining makes the room.
	for err == nil {
		if _, err = s.Enqueue(t.Context(), msgs); err == nil {
			accepted += int64(len(msgs))
		}
	}
	require.ErrorIs(t, err, persist.ErrStoreFull)
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	drained := int64(0)
	for {
		entries, err := lane.Next(t.Context(), 50, 1<<20)
		require.NoError(t, err)
		if len(entries) == 0 {
			break
		}
		settlements := make([]persist.Settlement, len(entries))
		for i := range entries {
			settlements[i].Position = entries[i].Position
		}
		require.NoError(t, lane.Settle(t.Context(), settlements))
		drained += int64(len(entries))
	}
	require.Equal(t, accepted, drained, "lost")
	require.NoError(t, os.Remove(reserve)) // VACUUM wants a page or two for its maps
	_, err = pool.Exec(t.Context(), "VACUUM oncemq.outbox")
	require.NoError(t, err)
	_, err = s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
}
