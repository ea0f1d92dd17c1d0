package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

func newFIFO(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	return path
}

// writeFIFO writes into a FIFO once somebody reads it.
func writeFIFO(t *testing.T, path, text string) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(path, []byte(text), 0o600) }()
	t.Cleanup(func() {
		writerOf(path)() // so that it ends if nobody has read
		require.NoError(t, <-done)
	})
}

// filesAtStart are command lines that read a file before anything else, FIFO.
func filesAtStart() map[string]string {
	return map[string]string{
		"config":           "sub -t a --config FIFO",
		"policy":           "sub -t a --policy FIFO",
		"password-file":    "sub -t a --password-file FIFO",
		"receipt-key-file": "sub -t a --receipts --receipt-key-file FIFO",
		"will-file":        "sub -t a --will-topic w --will-file FIFO",
		"cafile":           "sub -t a --cafile FIFO",
		"cert":             "sub -t a --cert FIFO --key FIFO",
		"file of pub":      "pub -t a -f FIFO",
		"file of rr":       "rr -t a -f FIFO",
		"advise":           "qos --advise FIFO",
		"compare":          "bench store --compare FIFO",
	}
}

// TestFIFOWithoutWriter: a command that waits for who writes into a FIFO, or for what
// he writes, ends when it is told to, and by -W.
func TestFIFOWithoutWriter(t *testing.T) {
	t.Parallel()
	for name, line := range filesAtStart() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fifo := newFIFO(t)
			args := append([]string{"oncemq"}, strings.Fields(strings.ReplaceAll(line, "FIFO", fifo))...)
			start := func() (end func(error), code chan int, stderr *bytes.Buffer) {
				ctx, cancel := context.WithCancelCause(t.Context())
				code, stderr = make(chan int, 1), new(bytes.Buffer)
				env := []string{"XDG_STATE_HOME=" + t.TempDir()}
				go func() { code <- run(ctx, args, env, strings.NewReader(""), io.Discard, stderr) }()
				return cancel, code, stderr
			}
			ended := func(code chan int, want int, stderr *bytes.Buffer) {
				t.Helper()
				select {
				case got := <-code:
					require.Equal(t, want, got, stderr.String())
					require.Contains(t, stderr.String(), fifo)
				case <-within(t, 30*time.Second).Done():
					require.FailNow(t, "the command waits on")
				}
			}
			// Nobody writes. Whether it waits already when it is told to end is the same.
			end, code, stderr := start()
			end(signalError{syscall.SIGTERM})
			ended(code, 143, stderr)

			// Somebody has opened it, and writes nothing.
			end, code, stderr = start()
			var writer *os.File
			require.Eventually(t, func() bool {
				f, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0)
				writer = f
				return !errors.Is(err, syscall.ENXIO) // nobody reads
			}, 20*time.Second, time.Millisecond)
			end(signalError{syscall.SIGINT})
			ended(code, 130, stderr)
			require.NoError(t, writer.Close())

			if args[1] == "sub" || args[1] == "rr" {
				args = append(args, "-W", "0.2")
				_, code, stderr = start()
				ended(code, exitTimeout, stderr)
			}
		})
	}
}

// TestStdinThatIsSilent: the same for a payload on standard input.
func TestStdinThatIsSilent(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"pub", "rr"} {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(signalError{syscall.SIGTERM})
		var stderr bytes.Buffer
		env := []string{"XDG_STATE_HOME=" + t.TempDir()}
		require.Equal(t, 143, run(ctx, []string{"oncemq", name, "-t", "a", "-s"}, env, r, io.Discard, &stderr))
		require.Contains(t, stderr.String(), "standard input: ended by signal")
		require.NoError(t, w.Close()) // so that the read ends, which the process would
	}
}

// TestFIFOWithWriter: what a FIFO holds is used as that of a file is, also by the
// connection, which reads files again.
func TestFIFOWithWriter(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{"ann": "secret"}})
	t.Run("password", func(t *testing.T) {
		t.Parallel()
		fifo := newFIFO(t)
		writeFIFO(t, fifo, "secret\n")
		got := runOnce(t, command("sub", "-L", b.URL(), "-u", "ann", "--password-file", fifo, "-t", "a", "-E", "-W", "20"))
		require.Equal(t, exitDone, got.code, got.stderr)
	})
	t.Run("configuration", func(t *testing.T) {
		t.Parallel()
		fifo := newFIFO(t)
		writeFIFO(t, fifo, "url: "+b.URL()+"\nusername: ann\npw: secret\ntopic: a\n")
		require.NoError(t, os.Chmod(fifo, 0o600))
		got := runOnce(t, command("sub", "--config", fifo, "-E", "-W", "20"))
		require.Equal(t, exitDone, got.code, got.stderr)
	})
	t.Run("payload", func(t *testing.T) {
		t.Parallel()
		open := startBroker(t, brokertest.Options{})
		fifo := newFIFO(t)
		writeFIFO(t, fifo, "from a FIFO")
		got := runOnce(t, command("pub", "-L", open.URL(), "-t", "a", "-f", fifo))
		require.Equal(t, exitDone, got.code, got.stderr)
		require.Equal(t, []string{"from a FIFO"}, payloads(open, "a"))
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		open := startBroker(t, brokertest.Options{})
		a := newAuthority(t)
		front := newTLSFront(t, open.Addr(), a.demands())
		cert, key := a.write(a.client(time.Time{}), 0o600)
		fifos := make(map[string]string)
		for option, file := range map[string]string{"--cafile": a.file, "--cert": cert, "--key": key} {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			fifos[option] = newFIFO(t)
			writeFIFO(t, fifos[option], string(data))
		}
		got := runOnce(t, command("sub", "-L", front.url(), "-t", "a", "-E", "-W", "20",
			"--cafile", fifos["--cafile"], "--cert", fifos["--cert"], "--key", fifos["--key"]))
		require.Equal(t, exitDone, got.code, got.stderr)
	})
}
