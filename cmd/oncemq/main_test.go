package main

import (
	"bytes"
	"context"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/oncemq/oncemq/internal/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// invocation is one command line, run within the test process.
type invocation struct {
	args  []string
	env   []string
	stdin io.Reader
}

// outcome is what a run left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

// lastLine is the last line of stderr.
func (o outcome) lastLine() string {
	lines := strings.Split(strings.TrimSuffix(o.stderr, "\n"), "\n")
	return lines[len(lines)-1]
}

// runOnce runs a command line with a state directory of its own.
func runOnce(t *testing.T, v invocation) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if v.stdin == nil {
		v.stdin = strings.NewReader("")
	}
	var stdout, stderr bytes.Buffer
	env := append([]string{"XDG_STATE_HOME=" + t.TempDir()}, v.env...)
	code := run(ctx, append([]string{"oncemq"}, v.args...), env, v.stdin, &stdout, &stderr)
	return outcome{code, stdout.String(), stderr.String()}
}

func command(args ...string) invocation { return invocation{args: args} }

// fileStore is the URL of a SQLite store in a directory of the test.
func fileStore(t *testing.T) string {
	t.Helper()
	return "sqlite://" + filepath.ToSlash(filepath.Join(t.TempDir(), "store.db"))
}

func startBroker(t *testing.T, o brokertest.Options) *brokertest.Broker {
	t.Helper()
	b, err := brokertest.NewBroker(o)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

// within is a context for waits that only a failing test spends in full.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
