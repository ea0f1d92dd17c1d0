package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

// TestWillOfReplicas: the will is for a replica that is gone for good (C14). One that
// is restarted, by SIGTERM or by kill -9 and within the Will Delay, is not; one that is
// killed and stays away is. Each process has a will of its own, so that it is known
// whose fired.
func TestWillOfReplicas(t *testing.T) {
	t.Parallel()
	ctx := within(t, 90*time.Second)
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	watch := mosquittoSub(t, m, "-t", "gone", "-F", "=%p")
	heard := func() (all []string) {
		for _, line := range watch.Stdout.Lines() {
			if payload, ok := strings.CutPrefix(line, "="); ok {
				all = append(all, payload)
			}
		}
		return all
	}
	// Long enough for a restart on a busy machine: too late, and the will is right.
	const delay = 10 * time.Second
	start := func(payload, delay string) *testenv.Process {
		t.Helper()
		return subscribed(t, m, "-t", "a", "-i", "replica", "-c",
			"--will-topic", "gone", "--will-qos", "1", "--will-payload", payload, "--will-delay", delay)
	}
	rolled := func(p *testenv.Process) {
		t.Helper()
		p.Terminate()
		require.Equal(t, exitDone, p.Wait(10*time.Second), p.Stderr.String())
	}

	rolled(start("rolled at once", "0")) // with no delay to hide in
	p := start("rolled", "10")
	rolled(p)
	p = start("killed and restarted", "10")
	p.Kill()
	killed := time.Now()
	p = start("killed for good", "10")
	require.Less(t, time.Since(killed), delay, "the machine is too slow for this test")
	p.Kill()
	killed = time.Now()
	_, err := watch.Stdout.WaitFor(ctx, func(line string) bool { return line == "=killed for good" })
	require.NoError(t, err)
	// Not before its time; mosquitto counts in whole seconds.
	require.Greater(t, time.Since(killed), delay-2*time.Second)

	p = start("killed at once", "0")
	p.Kill()
	_, err = watch.Stdout.WaitFor(ctx, func(line string) bool { return line == "=killed at once" })
	require.NoError(t, err)
	mosquittoPub(t, m, "-t", "gone", "-m", "end", "-q", "1")
	_, err = watch.Stdout.WaitFor(ctx, func(line string) bool { return line == "=end" })
	require.NoError(t, err)
	require.Equal(t, []string{"killed for good", "killed at once", "end"}, heard())
}
