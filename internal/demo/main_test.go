package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is also the replica: the tests start themselves as one.
func TestMain(m *testing.M) {
	if value := os.Getenv(ReplicaEnv); value != "" {
		if err := RunReplica(context.Background(), value, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1) //nolint:forbidigo // a replica that fails exits with 1, as main would
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// replicaCommand runs this test program as a replica.
func replicaCommand(ctx context.Context, env []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	// The race detector would have each of them sleep a second at its end.
	cmd.Env = append(append(os.Environ(), "GORACE=atexit_sleep_ms=0"), env...)
	return cmd
}
