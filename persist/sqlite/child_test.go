package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// playChild is what a child process does. It prints a line for each thing that
// was confirmed to it, and ends when its standard input does.
func playChild(part string, args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stdin := make(chan struct{})
	go func() {
		defer close(stdin)
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	play := map[string]func(ctx context.Context, s *Store, name string) error{
		"open": func(_ context.Context, s *Store, _ string) error {
			_, err := fmt.Println(s.Identity())
			return err
		},
		"enqueue": childEnqueues,
		"drain":   childDrains,
		"process": childProcesses,
	}[part]
	s, err := Open(ctx, args[0], Options{BusyTimeout: 20 * time.Second})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := play(ctx, s, args[1]); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := s.Close(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// childEnqueues enqueues without end, by eight goroutines, alone and in groups.
func childEnqueues(ctx context.Context, s *Store, name string) error {
	var all sync.WaitGroup
	var mu sync.Mutex // guards standard output and failed
	var failed error
	for worker := range 8 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				msgs := make([]persist.Message, worker%3*20+1)
				var lines strings.Builder
				for i := range msgs {
					id := fmt.Sprintf("%s-%d-%d-%d", name, worker, n, i)
					msgs[i] = persist.Message{ID: id, Topic: "t", Payload: []byte(strings.Repeat(id, 10)), Receipt: worker%2 == 0}
					lines.WriteString(id + "\n")
				}
				_, err := s.Enqueue(ctx, msgs)
				mu.Lock()
				if err == nil {
					fmt.Print(lines.String())
				} else if ctx.Err() == nil {
					failed = err
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return failed
}

// childDrains settles what comes, and prints what it has settled.
func childDrains(ctx context.Context, s *Store, name string) error {
	lane, err := s.AcquireLane(ctx, 0, name, time.Hour)
	if err != nil {
		return err
	}
	for ctx.Err() == nil {
		entries, err := lane.Next(ctx, 50, 1<<20)
		if err != nil {
			return err
		}
		settlements := make([]persist.Settlement, len(entries))
		for i := range entries {
			settlements[i].Position = entries[i].Position
		}
		if err := lane.Settle(ctx, settlements); err != nil {
			return err
		}
		for i := range entries {
			fmt.Println(entries[i].Message.ID)
		}
	}
	return nil
}

// childProcesses has an effect for each of a thousand keys, in a table of its
// own, ten in a transaction.
func childProcesses(ctx context.Context, s *Store, _ string) error {
	for from := 0; from < 1000; from += 10 {
		err := s.ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[*sql.Tx]) error {
			for key := from; key < from+10; key++ {
				claim, err := beginKey(ctx, p, "g", strconv.Itoa(key), time.Hour)
				if err != nil {
					return err
				}
				if claim.State != persist.ClaimGranted {
					continue
				}
				if _, err := p.Tx().ExecContext(ctx, "INSERT INTO effects VALUES (?)", key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Println(from)
	}
	return nil
}

// child is a running child process.
type child struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	lines *bufio.Scanner
	read  []string
	err   strings.Builder
}

func startChild(t *testing.T, part string, args ...string) *child {
	t.Helper()
	c := &child{t: t, cmd: exec.Command(os.Args[0], args...)} // it ends with its input
	c.cmd.Env = append(os.Environ(), childVariable+"="+part)
	c.cmd.Stderr = &c.err
	stdin, err := c.cmd.StdinPipe()
	require.NoError(t, err)
	c.stdin = stdin
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.lines = bufio.NewScanner(out)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() { _ = c.cmd.Process.Kill() }) // it has ended, or the test has failed
	return c
}

// until reads lines until there are n.
func (c *child) until(n int) {
	c.t.Helper()
	for len(c.read) < n && c.lines.Scan() {
		c.read = append(c.read, c.lines.Text())
	}
	require.GreaterOrEqual(c.t, len(c.read), n, c.err.String())
}

// rest reads to the end.
func (c *child) rest() {
	for c.lines.Scan() {
		c.read = append(c.read, c.lines.Text())
	}
}

// kill ends the process with SIGKILL.
func (c *child) kill() {
	c.t.Helper()
	require.NoError(c.t, c.cmd.Process.Kill())
	c.rest()
	_ = c.cmd.Wait() // it says "killed"
}

// end lets the process end by itself.
func (c *child) end() {
	c.t.Helper()
	require.NoError(c.t, c.stdin.Close())
	c.rest()
	require.NoError(c.t, c.cmd.Wait(), c.err.String())
}

// stored are the IDs in the outbox, which must be dense from first on.
func stored(t *testing.T, s *Store, first int64) []string {
	t.Helper()
	entries, err := s.ListOutbox(t.Context(), persist.ListRequest{Limit: 1 << 20})
	require.NoError(t, err)
	all := make([]string, len(entries))
	for i := range entries {
		require.Equal(t, first+int64(i), entries[i].Position, "a gap")
		all[i] = entries[i].Message.ID
	}
	return all
}

func sound(t *testing.T, path string) {
	t.Helper()
	var answer string
	require.NoError(t, database(t, path, "").QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&answer))
	require.Equal(t, "ok", answer)
}

func rounds() int {
	if raceEnabled {
		return 2
	}
	return 5
}

// A process is killed while it enqueues: what was confirmed is there, and calls
// that were not are there in whole or not at all.
func TestKilledWhileEnqueuing(t *testing.T) {
	t.Parallel()
	path := file(t)
	var confirmed []string
	for round := range rounds() {
		c := startChild(t, "enqueue", path, strconv.Itoa(round))
		c.until(100 + 150*round)
		c.kill()
		if n := len(c.read); n > 0 && !strings.Contains(c.read[n-1], "-") {
			c.read = c.read[:n-1] // cut by the kill
		}
		confirmed = append(confirmed, c.read[:len(c.read)-1]...)
	}
	s := open(t, path, Options{})
	all := stored(t, s, 1)
	require.Subset(t, all, confirmed)
	groups := make(map[string]int)
	for _, id := range all {
		groups[id[:strings.LastIndexByte(id, '-')]]++
	}
	for name, n := range groups {
		worker, err := strconv.Atoi(strings.Split(name, "-")[1])
		require.NoError(t, err)
		require.Equal(t, worker%3*20+1, n, "%s is there in part", name)
	}
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, len(all), stats.Pending, "the counter")
	sound(t, path)
}

// A process is killed while it drains: what it settled is gone for good, and the
// counters are right.
func TestKilledWhileDraining(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	// Lines of such length fill the pipe soon, so that the child does not run
	// away from the reader.
	id := func(n int) string { return fmt.Sprintf("%0100d", n) }
	msgs := make([]persist.Message, 8000)
	for i := range msgs {
		msgs[i] = plainMessage(id(i))
	}
	_, err := s.Enqueue(t.Context(), msgs)
	require.NoError(t, err)
	settled := 0
	for range rounds() {
		c := startChild(t, "drain", path, "child")
		c.until(200)
		c.kill()
		for i, id := range c.read[:len(c.read)-1] { // the last line may be cut
			n, err := strconv.Atoi(id)
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, settled+i, "settled again")
		}
		left := stored(t, s, int64(len(msgs))+1-pending(t, s))
		settled = len(msgs) - len(left)
		require.Equal(t, id(settled), left[0])
		// Its lease has an hour left, and nobody who could use it.
		execute(t, database(t, path, ""), "UPDATE oncemq_lanes SET holder = 0")
	}
	sound(t, path)
}

func pending(t *testing.T, s *Store) int64 {
	t.Helper()
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	return stats.Pending
}

// Two processes enqueue and a third drains, on one file at the same time.
func TestThreeProcesses(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	one, two := startChild(t, "enqueue", path, "a"), startChild(t, "enqueue", path, "b")
	one.until(1)
	two.until(1)
	drain := startChild(t, "drain", path, "c")
	drain.until(200)
	one.until(300)
	two.until(300)
	one.end()
	two.end()
	drain.until(400)
	drain.end()
	all := append([]string(nil), drain.read...)
	execute(t, database(t, path, ""), "UPDATE oncemq_lanes SET holder = 0")
	lane, err := s.AcquireLane(t.Context(), 0, "parent", time.Hour)
	require.NoError(t, err)
	for {
		entries, err := lane.Next(t.Context(), 1000, 1<<30)
		require.NoError(t, err)
		if len(entries) == 0 {
			break
		}
		for i := range entries {
			all = append(all, entries[i].Message.ID)
		}
	}
	// Messages that ask for a receipt stay after the child has sent them.
	seen := make(map[string]int)
	for _, id := range all {
		seen[id]++
	}
	for _, id := range append(one.read, two.read...) {
		require.Equal(t, 1, seen[id], id)
	}
	require.Len(t, all, len(one.read)+len(two.read))
	sound(t, path)
}

// Ten processes find no file.
func TestTenProcessesCreate(t *testing.T) {
	t.Parallel()
	path := file(t)
	all := make([]*child, 10)
	for i := range all {
		all[i] = startChild(t, "open", path, "")
	}
	for _, c := range all {
		c.until(1)
		c.end()
		require.Len(t, c.read, 1)
		require.Equal(t, all[0].read, c.read)
	}
}

// Two processes work on the same keys in transactions, and one is killed: each
// effect is there once.
func TestProcessesShareKeys(t *testing.T) {
	t.Parallel()
	path := file(t)
	s := open(t, path, Options{})
	db := database(t, path, "")
	execute(t, db, "CREATE TABLE effects (key INTEGER)")
	one, two := startChild(t, "process", path, ""), startChild(t, "process", path, "")
	one.until(10)
	one.kill()
	two.rest()
	two.end()
	three := startChild(t, "process", path, "")
	three.rest()
	three.end()
	var n, distinct int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT count(*), count(DISTINCT key) FROM effects").Scan(&n, &distinct))
	require.Equal(t, 1000, n)
	require.Equal(t, 1000, distinct)
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1000, stats.Completed)
}
