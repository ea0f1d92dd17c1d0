package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

func contents(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(text)
}

// TestOutCount: exactly so many messages are appended and acknowledged, also where
// the count ends within a batch; the others stay with the broker.
func TestOutCount(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"plain": nil, "dedup": {"--group", "g", "--store", "memory:"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "out")
			require.NoError(t, os.WriteFile(file, []byte("before\n"), 0o600))
			b := startBroker(t, brokertest.Options{})
			args = append(args, "-L", b.URL(), "-i", "s", "-c", "-t", "a/#", "-T", "a/not")
			got := runOnce(t, command(append([]string{"sub", "-E"}, args...)...))
			require.Equal(t, exitDone, got.code, got.stderr)
			want := "before\n"
			for i := range 40 { // they come at once, so that most are one batch
				topic := "a/" + strconv.Itoa(i)
				if i%4 == 3 {
					topic = "a/not"
				} else {
					want += topic + " x\n"
				}
				b.Publish(brokertest.Packet{Topic: topic, Payload: []byte("x"), QoS: 1})
			}
			for range 3 {
				got := runOnce(t, command(append([]string{"sub", "-C", "10", "-W", "20", "-v", "--out", file}, args...)...))
				require.Equal(t, exitDone, got.code, got.stderr)
				require.Empty(t, got.stdout)
				require.Empty(t, got.stderr)
			}
			require.Equal(t, want, contents(t, file))
			require.Empty(t, b.Violations())
		})
	}
}

// TestOutCountBeforeAgreement: what comes of a kept session before the broker's SUBACK
// counts as well, and is acknowledged once it is in the file, also if that ends the run.
func TestOutCountBeforeAgreement(t *testing.T) {
	t.Parallel()
	var agreed atomic.Int32
	b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if d == brokertest.Out && p.Type == brokertest.SUBACK && agreed.Add(1) == 2 {
			return brokertest.Drop
		}
		return brokertest.Pass
	}})
	args := []string{"sub", "-L", b.URL(), "-i", "s", "-c", "-t", "a"}
	got := runOnce(t, command(append(args, "-E")...))
	require.Equal(t, exitDone, got.code, got.stderr)
	want, _ := numbered(20)
	for _, payload := range want { // they come at once, as one batch
		b.Publish(brokertest.Packet{Topic: "a", Payload: []byte(payload), QoS: 1})
	}

	file := filepath.Join(t.TempDir(), "out")
	o := &subOptions{out: file, count: 10, wait: 20 * time.Second, chance: 100}
	print, err := o.print.printer()
	require.NoError(t, err)
	sh := &shell{stdout: io.Discard, stderr: io.Discard, log: newReporter(io.Discard, "oncemq sub")}
	s := &subscriber{sh: sh, o: o, print: print, out: newOutput(io.Discard), ended: make(chan struct{})}
	ctx := within(t, 60*time.Second)
	f, err := openFiler(ctx, s)
	require.NoError(t, err)
	err = s.run(ctx, autopaho.Config{Servers: []string{b.URL()}, ClientID: "s", SessionExpiry: time.Hour}, autopaho.SubscribeConfig{
		Filters: []string{"a"},
		BatchHandler: func(ctx context.Context, msgs []*autopaho.Received) error {
			err := f.handle(ctx, msgs)
			look := time.NewTicker(time.Millisecond)
			defer look.Stop()
			for err != nil && ctx.Err() == nil && !isClosed(s.client) { // the end of the run is under way
				select {
				case <-look.C:
				case <-ctx.Done():
				}
			}
			return err
		},
	})
	require.NoError(t, err)
	require.NoError(t, f.close())
	require.NoError(t, s.out.close(ctx))
	require.Equal(t, strings.Join(want[:10], "\n")+"\n", contents(t, file))

	got = runOnce(t, command(append(args, "-C", "10", "-W", "20", "--out", file)...))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, strings.Join(want, "\n")+"\n", contents(t, file))
	require.Empty(t, b.Violations())
}

// TestOutRetainedOnly: a live message ends the run, and what came before it in its batch
// is in the file. It stays with the broker, and so does what came after it.
func TestOutRetainedOnly(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	args := []string{"sub", "-L", b.URL(), "-i", "s", "-c", "-t", "a", "--retain-as-published"}
	got := runOnce(t, command(append(args, "-E")...))
	require.Equal(t, exitDone, got.code, got.stderr)
	want, _ := numbered(20)
	for i, payload := range want { // they come at once, as one batch
		b.Publish(brokertest.Packet{Topic: "a", Payload: []byte(payload), QoS: 1, Retain: i != 15})
	}
	file := filepath.Join(t.TempDir(), "out")
	args = append(args, "-W", "20", "--out", file)
	for range 2 { // the second has a live message first
		got = runOnce(t, command(append(args, "--retained-only")...))
		require.Equal(t, exitDone, got.code, got.stderr)
		require.Equal(t, strings.Join(want[:15], "\n")+"\n", contents(t, file))
	}
	got = runOnce(t, command(append(args, "-C", "5")...))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, strings.Join(want, "\n")+"\n", contents(t, file))
	require.Empty(t, b.Violations())
}

// isClosed tells whether a client takes no more calls.
func isClosed(c *autopaho.Client) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Is(c.Unsubscribe(ctx, "none"), autopaho.ErrClosed)
}

// TestOutKilled: whatever was acknowledged is in the file, of a process that is
// killed again and again.
func TestOutKilled(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{MaxQueuedMessages: new(int)})
	file := filepath.Join(t.TempDir(), "out")
	args := []string{"-i", "s", "-c", "-t", "a", "--out", file}
	p := subscribed(t, m, args...)
	const lines = 3000
	want, text := numbered(lines)
	cmd := oncemq(t, "pub", "-L", m.URL(), "-t", "a", "-l")
	cmd.Stdin = strings.NewReader(text)
	pub := testenv.Start(t, cmd)
	for round := range 4 {
		eventually(t, "some messages are in the file", func() bool {
			got, err := os.ReadFile(file)
			return err == nil && strings.Count(string(got), "\n") > 300*(round+1)
		})
		p.Kill()
		p = subscribed(t, m, args...)
	}
	require.Equal(t, exitDone, pub.Wait(60*time.Second), pub.Stderr.String())
	eventually(t, "the last message is in the file", func() bool {
		return strings.Contains(contents(t, file), want[lines-1]+"\n")
	})
	p.Terminate()
	require.Equal(t, exitDone, p.Wait(20*time.Second), p.Stderr.String())
	got := strings.Split(strings.TrimSuffix(contents(t, file), "\n"), "\n")
	seen := make(map[string]bool)
	var first []string
	for _, line := range got {
		if !seen[line] {
			seen[line] = true
			first = append(first, line)
		}
	}
	require.Equal(t, want, first)
}

// TestOutDeleted: what comes after the file was deleted is in a new one, and not in one
// that nobody can find.
func TestOutDeleted(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	file := filepath.Join(t.TempDir(), "out")
	p := subscribed(t, m, "-t", "a", "--out", file)
	mosquittoPub(t, m, "-t", "a", "-q", "1", "-m", "one")
	eventually(t, "the message is in the file", func() bool { return contents(t, file) == "one\n" })
	// Before that it would be written anew, as nobody would find it.
	eventually(t, "it is acknowledged", func() bool { return strings.Contains(m.Log(), "Received PUBACK from") })
	require.NoError(t, os.Remove(file))
	mosquittoPub(t, m, "-t", "a", "-q", "1", "-m", "two")
	eventually(t, "the next is in a new file", func() bool {
		got, err := os.ReadFile(file)
		return err == nil && string(got) == "two\n"
	})
	p.Terminate()
	require.Equal(t, exitDone, p.Wait(20*time.Second), p.Stderr.String())
}

// TestOutReopened: SIGHUP has the file opened anew, as logrotate needs it, also while
// nothing comes.
func TestOutReopened(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	file := filepath.Join(t.TempDir(), "out")
	p := subscribed(t, m, "-t", "a", "--out", file)
	mosquittoPub(t, m, "-t", "a", "-q", "1", "-m", "one")
	eventually(t, "the message is in the file", func() bool { return contents(t, file) == "one\n" })
	require.NoError(t, os.Rename(file, file+".1"))
	p.Signal(syscall.SIGHUP)
	_, err := p.Stderr.WaitFor(within(t, 20*time.Second), func(line string) bool { return strings.HasSuffix(line, "is open anew") })
	require.NoError(t, err)
	require.Empty(t, contents(t, file))
	mosquittoPub(t, m, "-t", "a", "-q", "1", "-m", "two")
	eventually(t, "the message is in the new file", func() bool { return contents(t, file) == "two\n" })
	require.Equal(t, "one\n", contents(t, file+".1"))
	// One that cannot be opened leaves the old one in use.
	require.NoError(t, os.Rename(file, file+".2"))
	require.NoError(t, os.Mkdir(file, 0o700))
	p.Signal(syscall.SIGHUP)
	_, err = p.Stderr.WaitFor(within(t, 20*time.Second), func(line string) bool {
		return strings.HasPrefix(line, "oncemq sub: --out: the file was not opened anew, and the old one is still written: ")
	})
	require.NoError(t, err)
	mosquittoPub(t, m, "-t", "a", "-q", "1", "-m", "three")
	eventually(t, "the message is in the old file", func() bool { return contents(t, file+".2") == "two\nthree\n" })
	p.Terminate()
	require.Equal(t, exitDone, p.Wait(20*time.Second), p.Stderr.String())
}

// TestOutTorn: what a crash has left of a line is moved away.
func TestOutTorn(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 200_000)
	for name, test := range map[string]struct{ before, after, torn string }{
		"whole":           {"one\n", "one\n", ""},
		"torn":            {"one\ntw", "one\n", "tw\n"},
		"one line":        {"on", "", "on\n"},
		"long":            {long + "\n" + long, long + "\n", long + "\n"},
		"longer than all": {long, "", long + "\n"},
		"empty":           {"", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "out")
			require.NoError(t, os.WriteFile(file, []byte(test.before), 0o600))
			l := listen(t, brokertest.Options{}, "-t", "a", "-C", "1", "--out", file)
			l.publish("a", "new", false)
			got := l.wait(t)
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Equal(t, test.after+"new\n", contents(t, file))
			if test.torn == "" {
				require.Empty(t, got.stderr)
				require.NoFileExists(t, file+".torn")
				return
			}
			require.Contains(t, got.stderr, "the last line of ")
			require.Equal(t, test.torn, contents(t, file+".torn"))
		})
	}
}

// TestOutDiskFull: while the disk is full nothing is acknowledged and one line says
// so; when there is room everything goes on, and nothing is in the file twice.
func TestOutDiskFull(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{MaxQueuedMessages: new(int)})
	const lines = 400
	cmd := inNamespace(t, `
mount -t tmpfs -o size=128k tmpfs "$DIR"
"$ONCEMQ" sub -L `+m.URL()+` --debug -i s -c -t a -C `+strconv.Itoa(lines)+` --out "$DIR"/out &
read x
wc -c <"$DIR"/out
mount -o remount,size=4m "$DIR"
wait $!
cat "$DIR"/out`)
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	p := testenv.Start(t, cmd)
	_, err = p.Stderr.WaitFor(within(t, 20*time.Second), func(line string) bool { return strings.HasPrefix(line, "oncemq sub: subscribed to ") })
	require.NoError(t, err)
	var want []string
	for i := range lines {
		want = append(want, fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000)))
	}
	pub := oncemq(t, "pub", "-L", m.URL(), "-t", "a", "-l")
	pub.Stdin = strings.NewReader(strings.Join(want, "\n"))
	require.Equal(t, exitDone, testenv.Start(t, pub).Wait(20*time.Second))
	const full = "oncemq sub: --out: write "
	_, err = p.Stderr.WaitFor(within(t, 20*time.Second), func(line string) bool { return strings.HasPrefix(line, full) })
	require.NoError(t, err)
	_, err = in.Write([]byte("go\n"))
	require.NoError(t, err)
	require.Equal(t, exitDone, p.Wait(30*time.Second), p.Stderr.String())
	require.Equal(t, 1, strings.Count(p.Stderr.String(), "--out: "), p.Stderr.String())
	require.Contains(t, p.Stderr.String(), "no space left on device; nothing is acknowledged until the file can be written\n")
	require.Contains(t, p.Stderr.String(), `/out" is written again`)
	got := p.Stdout.Lines()
	size, err := strconv.Atoi(got[0])
	require.NoError(t, err)
	require.Less(t, size, 128<<10)
	require.Equal(t, want, got[1:])
}

// TestOutRefused: what is no file of its own is refused before anything connects.
func TestOutRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	taken := filepath.Join(dir, "taken")
	o, _, err := openOutFile(taken, true)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, o.close()) })
	for name, test := range map[string]struct {
		args   []string
		code   int
		stderr string
	}{
		"directory":    {[]string{"--out", dir}, exitUsage, "oncemq sub: --out: " + strconv.Quote(dir) + " is not a regular file"},
		"FIFO":         {[]string{"--out", fifo}, exitUsage, "oncemq sub: --out: " + strconv.Quote(fifo) + " is not a regular file"},
		"no directory": {[]string{"--out", dir + "/no/out"}, exitFailed, "oncemq sub: --out: open " + dir + "/no/out: no such file or directory"},
		"taken":        {[]string{"--out", taken}, exitFailed, "oncemq sub: --out: another oncemq writes to " + taken},
		"workers":      {[]string{"--out", taken, "--workers", "2"}, exitUsage, "oncemq sub: --workers: cannot stand beside --out"},
		"command":      {[]string{"--out", taken, "--exec", "cat"}, exitUsage, "oncemq sub: --out: cannot stand beside --exec"},
		"printing":     {[]string{"--exec", "cat", "-v"}, exitUsage, "oncemq sub: --verbose: cannot stand beside --exec"},
		"no command":   {[]string{"--exec-timeout", "3"}, exitUsage, "oncemq sub: --exec-timeout: needs --exec beside it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command(append([]string{"sub", "-L", nobody, "-t", "a"}, test.args...)...))
			require.Equal(t, test.code, got.code)
			require.Truef(t, strings.HasPrefix(got.stderr, test.stderr), "got %q", got.stderr)
		})
	}
}

// faultyFile fails as a disk does, and tells what was asked of it.
type faultyFile struct {
	*os.File
	calls    []string
	short    int // bytes that the next write takes before it fails; -1 for all
	badSync  bool
	badTrunc bool
}

var errDisk = errors.New("disk fault")

func (f *faultyFile) Write(b []byte) (int, error) {
	f.calls = append(f.calls, "write")
	if f.short >= 0 {
		n, _ := f.File.Write(b[:f.short])
		f.short = -1
		return n, errDisk
	}
	return f.File.Write(b)
}

func (f *faultyFile) Sync() error {
	f.calls = append(f.calls, "sync")
	if f.badSync {
		f.badSync = false
		return errDisk
	}
	return f.File.Sync()
}

func (f *faultyFile) Truncate(size int64) error {
	if f.badTrunc {
		f.badTrunc = false
		return errDisk
	}
	return f.File.Truncate(size)
}

// TestOutFile: an append has synced when it returns, and one that fails leaves no
// trace, even if that cannot be wiped out at once.
func TestOutFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "out")
	o, _, err := openOutFile(path, true)
	require.NoError(t, err)
	f := &faultyFile{File: o.f.(*os.File), short: -1}
	o.f = f
	require.NoError(t, o.append([]byte("one\n")))
	require.Equal(t, []string{"write", "sync"}, f.calls)

	f.short = 2
	require.ErrorIs(t, o.append([]byte("two\n")), errDisk)
	require.Equal(t, "one\n", contents(t, path))
	f.badSync = true
	require.ErrorIs(t, o.append([]byte("two\n")), errDisk)
	require.Equal(t, "one\n", contents(t, path))
	f.short, f.badTrunc = 2, true
	require.ErrorIs(t, o.append([]byte("two\n")), errDisk)
	require.Equal(t, "one\ntw", contents(t, path))
	require.NoError(t, o.append([]byte("two\n")))
	require.Equal(t, "one\ntwo\n", contents(t, path))
	require.NoError(t, os.Truncate(path, 0)) // logrotate's copytruncate
	require.NoError(t, o.append([]byte("three\n")))
	require.Equal(t, "three\n", contents(t, path))
	require.NoError(t, o.close())
}
