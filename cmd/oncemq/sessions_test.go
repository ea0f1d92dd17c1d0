package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

// sessionsOf is how many sessions a mosquitto has that publishes every second, with
// that of who asks. What it says at first may be a second old: two later signs of
// life bound that.
func sessionsOf(t *testing.T, m *testenv.MosquittoServer) string {
	t.Helper()
	const total = "=$SYS/broker/clients/total "
	p := mosquittoSub(t, m, "-t", "$SYS/broker/clients/total", "-t", "$SYS/broker/uptime", "-F", "=%t %p")
	defer p.Kill()
	uptimes := 0
	_, err := p.Stdout.WaitFor(within(t, 20*time.Second), func(line string) bool {
		if strings.HasPrefix(line, "=$SYS/broker/uptime ") {
			uptimes++
		}
		return uptimes == 3 // the first is the retained one
	})
	require.NoError(t, err)
	last := ""
	for _, line := range p.Stdout.Lines() {
		if n, ok := strings.CutPrefix(line, total); ok {
			last = n
		}
	}
	return last
}

// TestRestartsLeaveNoSessions: three replicas are restarted twenty times, every fourth
// time by kill -9, with client IDs that stay the same (S6). The broker has their three
// sessions at the end, and what was published meanwhile was kept in them.
func TestRestartsLeaveNoSessions(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{Extra: []string{"sys_interval 1"}})
	store := fileStore(t)
	var replicas [3]*testenv.Process
	printed := make(map[string]bool) // by those that have ended
	start := func(i int) {
		t.Helper()
		replicas[i] = subscribed(t, m, "-t", "a", "-i", fmt.Sprintf("replica-%d", i), "--group", "g", "--store", store)
	}
	note := func(i int) {
		for _, line := range replicas[i].Stdout.Lines() {
			printed[line] = true
		}
	}
	for i := range replicas {
		start(i)
	}
	const restarts = 20
	for n := range restarts {
		i := n % 3
		if n%4 == 3 {
			replicas[i].Kill()
		} else {
			replicas[i].Terminate()
			require.Equal(t, exitDone, replicas[i].Wait(10*time.Second), replicas[i].Stderr.String())
		}
		note(i)
		mosquittoPub(t, m, "-t", "a", "-q", "1", "-m", fmt.Sprint(n))
		start(i)
	}
	require.Equal(t, "4", sessionsOf(t, m), "three replicas, and who asks")
	require.Eventually(t, func() bool {
		for i := range replicas {
			note(i)
		}
		return len(printed) == restarts
	}, 20*time.Second, 10*time.Millisecond, "not all was printed")
	for i := range replicas {
		replicas[i].Terminate()
		require.Equal(t, exitDone, replicas[i].Wait(10*time.Second), replicas[i].Stderr.String())
	}
	require.Equal(t, "4", sessionsOf(t, m), "they are kept for when the replicas come back")
}
