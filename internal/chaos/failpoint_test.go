package chaos

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/failpoint"
)

// rolesOf are the processes that pass a point.
func rolesOf(p failpoint.Point) []string {
	switch {
	case p == failpoint.BeforeWrite || p == failpoint.AfterWrite:
		return []string{"relay", "subscriber"}
	case strings.HasPrefix(string(p), "enqueue-"):
		return []string{"producer"}
	case strings.HasPrefix(string(p), "consumer-") || p == failpoint.HandlerMiddle:
		return []string{"subscriber"}
	}
	return []string{"relay"}
}

// deaths are the faults that have a process of a role die at a point.
func deaths() []faultKind {
	var all []faultKind
	for _, p := range failpoint.Points() {
		for _, role := range rolesOf(p) {
			all = append(all, faultKind{
				kind: role + " dies at " + string(p), crash: role == "subscriber",
				begin: func(n *nemesis) (time.Duration, func()) {
					t := n.run.t
					m := pick(n.random, n.run.of(role))
					m.set.env = []string{fmt.Sprintf("%s=%s:%d:exit", failpoint.Variable, p, 1+n.random.IntN(12))}
					m.kill()
					m.set.env = nil
					i := m.now()
					timer := time.NewTimer(30 * time.Second)
					defer timer.Stop()
					select {
					case <-i.gone:
						require.Equal(t, 137, i.process.Wait(20*time.Second), "%s %s\n%s", m.set.ID, p, i.process.Stderr)
					case <-timer.C:
						require.FailNow(t, fmt.Sprintf("%s did not come to %s", m.set.ID, p))
					}
					m.start()
					return 0, nil
				},
			})
		}
	}
	return all
}

// A process dies at each point of a message's way, on each store, while messages
// flow; nothing is lost or doubled.
func TestFailpoints(t *testing.T) {
	t.Parallel()
	for _, name := range stores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := onStore(t, name)
			kinds := deaths()
			r := begin(t, b, options{
				seed: seed(t), messages: 1000, faults: len(kinds), kinds: kinds, relays: 1, singly: true,
				pace: 2 * batchEach * time.Second / 400, tags: "failpoint",
			})
			report := r.chaos()
			r.conclude(report)
			require.Len(t, report.Faults, len(kinds), "each of them")
		})
	}
}
