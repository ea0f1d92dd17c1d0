package testenv_test

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

// startEcho starts the program in testdata/echo and waits until it is ready.
func startEcho(t *testing.T) (*testenv.Process, io.WriteCloser) {
	t.Helper()

	cmd := exec.Command(testenv.Build(t, "./internal/testenv/testdata/echo"))
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	p := testenv.Start(t, cmd)
	line, err := p.Stdout.Next(timeout(t))
	require.NoError(t, err)
	require.Equal(t, "ready", line)
	return p, stdin
}

func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testenv.DefaultTimeout)
	t.Cleanup(cancel)
	return ctx
}

func TestProcessEndsByItself(t *testing.T) {
	t.Parallel()
	p, stdin := startEcho(t)
	for i := range 3 {
		_, err := fmt.Fprintln(stdin, i)
		require.NoError(t, err)
	}
	line, err := p.Stdout.WaitFor(timeout(t), func(line string) bool { return line == "2" })
	require.NoError(t, err)
	require.Equal(t, "2", line)
	require.NoError(t, stdin.Close())
	require.Equal(t, 0, p.Wait(testenv.DefaultTimeout))
	line, err = p.Stdout.Next(timeout(t))
	require.NoError(t, err)
	require.Equal(t, "end without a newline", line)
	_, err = p.Stdout.Next(timeout(t))
	require.ErrorIs(t, err, io.EOF)
	_, err = p.Stdout.WaitFor(timeout(t), func(string) bool { return true })
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, []string{"ready", "0", "1", "2", "end without a newline"}, p.Stdout.Lines())
	require.Equal(t, []string{"a line on stderr"}, p.Stderr.Lines())
	require.False(t, p.Running())
	p.Kill() // a process that has ended is left alone
}

func TestProcessTerminate(t *testing.T) {
	t.Parallel()
	p, _ := startEcho(t)
	p.Terminate()
	require.Equal(t, 3, p.Wait(testenv.DefaultTimeout))
	require.Contains(t, p.Stdout.Lines(), "bye")
}

func TestProcessKill(t *testing.T) {
	t.Parallel()
	p, _ := startEcho(t)
	p.Kill()
	require.Equal(t, -1, p.Wait(testenv.DefaultTimeout))
	require.NotContains(t, p.Stdout.Lines(), "bye")
}

func TestProcessPause(t *testing.T) {
	t.Parallel()
	p, stdin := startEcho(t)
	p.Pause()
	_, err := fmt.Fprintln(stdin, "while paused")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = p.Stdout.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	p.Continue()
	line, err := p.Stdout.Next(timeout(t))
	require.NoError(t, err)
	require.Equal(t, "while paused", line)
}

func TestBuildIsShared(t *testing.T) {
	t.Parallel()
	const pkg = "./internal/testenv/testdata/echo"
	require.Equal(t, testenv.Build(t, pkg), testenv.Build(t, pkg))
}

// Packages of the same name, which tests of several processes build, are not mixed up.
func TestBuildsAreApart(t *testing.T) {
	t.Parallel()
	require.NotEqual(t, testenv.Build(t, "./internal/testenv/testdata/echo"), testenv.Build(t, "./internal/testenv/testdata/other/echo"))
}
