package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// inNamespace runs a script in a mount namespace of its own, where it may mount
// small and read-only file systems without anybody else seeing them. $ONCEMQ is
// the binary, $DIR an empty directory.
func inNamespace(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	program := testenv.Program(t, "unshare", "util-linux")
	if text, err := exec.CommandContext(t.Context(), program, "-rm", "mount", "-t", "tmpfs", "tmpfs", t.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("this system does not let us mount in a namespace: %s", text)
	}
	cmd := exec.Command(program, "-rm", "sh", "-ec", script) // testenv.Start ends it
	cmd.Env = append(oncemq(t).Env, "ONCEMQ="+testenv.Build(t, "./cmd/oncemq"), "DIR="+t.TempDir())
	return cmd
}

// TestDiskFull: the disk fills up while lines are stored. What was confirmed is
// delivered, nothing is half-written, and the message says what happened.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	cmd := inNamespace(t, `
mount -t tmpfs -o size=2m tmpfs "$DIR"
code=0
"$ONCEMQ" pub -L `+nobody+` --store sqlite://"$DIR"/x.db -t a -l --json --timeout 0.1 || code=$?
mount -o remount,size=64m "$DIR"
"$ONCEMQ" relay --once -L `+b.URL()+` --store sqlite://"$DIR"/x.db
exit $code`)
	_, text := numbered(100_000)
	cmd.Stdin = strings.NewReader(text)
	p := testenv.Start(t, cmd)
	require.Equal(t, exitStore, p.Wait(30*time.Second), p.Stderr.String())
	require.Contains(t, p.Stderr.String(), "no space left for the store")
	stored := p.Stdout.Lines()
	require.Greater(t, len(stored), 1000)
	require.Less(t, len(stored), 100_000)
	arrived := payloads(b, "a")
	require.Len(t, arrived, len(stored), "what was confirmed, no more and no less")
	lines, _ := numbered(len(stored))
	require.Equal(t, lines, arrived)
}

// TestReadOnlyStore: a store that cannot be written is refused at once.
func TestReadOnlyStore(t *testing.T) {
	t.Parallel()
	p := testenv.Start(t, inNamespace(t, `
mount -t tmpfs tmpfs "$DIR"
"$ONCEMQ" pub -L `+nobody+` --store sqlite://"$DIR"/x.db -t a -m x --no-wait
mount -o remount,ro "$DIR"
exec "$ONCEMQ" pub -L `+nobody+` --store sqlite://"$DIR"/x.db -t a -m x`))
	require.Equal(t, exitStore, p.Wait(20*time.Second), p.Stderr.String())
	require.Len(t, p.Stderr.Lines(), 1)
	require.True(t, strings.HasPrefix(p.Stderr.Lines()[0], "oncemq pub: --store: open "), p.Stderr.String())
}
