//go:build linux

package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// replaceLog puts another file in the place of each descriptor of the
// write-ahead log, so that the next commit meets a real fault of the operating
// system, and returns what undoes it. SQLite keeps no lock on the log, so that
// none is lost.
func replaceLog(t *testing.T, path string, with *os.File) (undo func()) {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	var logs []int // first all of them: what is duplicated below is one as well
	for _, entry := range dir {
		fd, err := strconv.Atoi(entry.Name())
		require.NoError(t, err)
		target, err := os.Readlink(filepath.Join("/proc/self/fd", entry.Name()))
		if err == nil && target == path+"-wal" && fd != int(with.Fd()) {
			logs = append(logs, fd)
		}
	}
	require.NotEmpty(t, logs)
	saved := make(map[int]int)
	for _, fd := range logs {
		saved[fd], err = syscall.Dup(fd)
		require.NoError(t, err)
		require.NoError(t, syscall.Dup3(int(with.Fd()), fd, syscall.O_CLOEXEC))
	}
	return func() {
		for fd, old := range saved {
			require.NoError(t, syscall.Dup3(old, fd, syscall.O_CLOEXEC))
			require.NoError(t, syscall.Close(old))
		}
	}
}

// The disk fails in the middle of a commit: whether the frames are on it nobody
// knows.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	_, err := s.Enqueue(t.Context(), []persist.Message{plainMessage("before")})
	require.NoError(t, err)
	log, err := os.Open(path + "-wal") // for reading only: each write is an error
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close()) })
	undo := replaceLog(t, path, log)
	_, err = s.Enqueue(t.Context(), []persist.Message{plainMessage("perhaps")})
	refused(t, err, persist.ErrUnknownOutcome)
	require.NotErrorIs(t, err, persist.ErrUnavailable)
	require.Contains(t, err.Error(), "enqueue")
	undo()
	_, err = s.Enqueue(t.Context(), []persist.Message{plainMessage("after")})
	require.NoError(t, err)
	require.Equal(t, []string{"before", "after"}, stored(t, s, 1))
	sound(t, path)
}

// A quota is reached while messages come in groups. What is there can be
// drained, and that makes room.
func TestQuota(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	require.NoError(t, s.submit(t.Context(), doing(1, func(ctx context.Context, tx *txn) error {
		_, err := tx.exec(ctx, &statement{text: "PRAGMA max_page_count = 200"})
		return err
	})))
	msgs := make([]persist.Message, 100)
	total := 0
	var err error
	for ; err == nil; total += len(msgs) {
		for i := range msgs {
			msgs[i] = plainMessage(fmt.Sprint(total + i))
			msgs[i].Payload = make([]byte, 256)
		}
		_, err = s.Enqueue(t.Context(), msgs)
	}
	total -= len(msgs)
	refused(t, err, persist.ErrStoreFull)
	require.Len(t, stored(t, s, 1), total, "all or none")
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	entries, err := lane.Next(t.Context(), total, 1<<30)
	require.NoError(t, err)
	settlements := make([]persist.Settlement, len(entries))
	for i := range entries {
		settlements[i].Position = entries[i].Position
	}
	require.NoError(t, lane.Settle(t.Context(), settlements))
	_, err = s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
	require.Len(t, stored(t, s, int64(total+1)), len(msgs))
	sound(t, path)
}

// A small file system of its own, full to the last block.
func TestSmallFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=2m,mode=0700"); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	filler := filepath.Join(dir, "filler")
	require.NoError(t, os.WriteFile(filler, make([]byte, 700<<10), 0o600))
	path := filepath.Join(dir, "store.db")
	s := open(t, path, Options{})
	var err error
	m := plainMessage("m")
	m.Payload = make([]byte, 4096)
	n := int64(0)
	for ; err == nil; n++ {
		_, err = s.Enqueue(t.Context(), []persist.Message{m})
	}
	refused(t, err, persist.ErrStoreFull)
	require.NotErrorIs(t, err, persist.ErrUnknownOutcome)
	require.Contains(t, err.Error(), "enqueue")
	n-- // the last was refused
	// What a page of the log leaves is filled up as well.
	rest, err := os.Create(filepath.Join(dir, "rest"))
	require.NoError(t, err)
	for err == nil {
		_, err = rest.Write(make([]byte, 512))
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, rest.Close())
	mark := func() error {
		return s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
			_, err := beginKey(ctx, p, "g", "ghost", time.Hour)
			return err
		})
	}
	refused(t, mark(), persist.ErrStoreFull)
	_, err = Open(t.Context(), filepath.Join(dir, "other.db"), Options{})
	refused(t, err, persist.ErrStoreFull)
	require.Len(t, stored(t, s, 1), int(n), "all that was confirmed can be read")

	require.NoError(t, os.Remove(filler))
	require.NoError(t, mark())
	lane, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	entries, err := lane.Next(t.Context(), 10, 1<<20)
	require.NoError(t, err)
	require.Len(t, entries, 10)
	for i := range entries {
		require.NoError(t, lane.Settle(t.Context(), []persist.Settlement{{Position: entries[i].Position}}))
	}
	require.NoError(t, s.Close(t.Context()))
	s = open(t, path, Options{})
	require.Equal(t, n-10, pending(t, s))
	require.Equal(t, persist.ClaimCompleted, claimKey(t, s, "ghost").State)
	sound(t, path)
	require.NoError(t, s.Close(t.Context()))
}

// SQLite undoes a whole transaction when the disk is full, and runs what follows
// in transactions of their own. A handler that goes on must not get its keys
// marked without its effects.
func TestProcessUndoneBySQLite(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	execute(t, database(t, path, ""), "CREATE TABLE effects (name BLOB)")
	for _, inStep := range []bool{false, true} {
		err := s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
			if _, err := beginKey(ctx, p, "g", "first", time.Hour); err != nil {
				return err
			}
			if _, err := p.Tx().ExecContext(ctx, "PRAGMA max_page_count = 60"); err != nil {
				return err
			}
			fill := func() error {
				_, err := p.Tx().ExecContext(ctx, "INSERT INTO effects VALUES (zeroblob(1000000))")
				return err
			}
			if inStep {
				require.Error(t, p.Step(ctx, fill))
			} else {
				require.Error(t, fill())
			}
			_, err := p.Tx().ExecContext(ctx, "PRAGMA max_page_count = 100000")
			require.NoError(t, err)
			_, err = beginKey(ctx, p, "g", "second", time.Hour)
			refused(t, err, persist.ErrUnavailable)
			refused(t, p.Step(ctx, func() error { return nil }), persist.ErrUnavailable)
			refused(t, p.AddDeadLetter(ctx, persist.DeadLetter{Side: persist.SideConsumer, State: persist.StateFailed}), persist.ErrUnavailable)
			return nil
		})
		refused(t, err, persist.ErrUnavailable)
		stats, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.Zero(t, stats.Completed)
		require.Zero(t, stats.ConsumerDead)
	}
	require.NoError(t, s.ProcessTx(t.Context(), func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
		claim, err := beginKey(ctx, p, "g", "first", time.Hour)
		require.Equal(t, persist.ClaimGranted, claim.State)
		return err
	}))
}
