package chaos

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The broker is killed with -9 and forgets everything: what it had acknowledged, the
// sessions and the subscriptions. With receipts every message has its effect all the
// same, once, and no receipt is for one that has not.
func TestReceipts(t *testing.T) {
	t.Parallel()
	opts := options{
		seed: seed(t), messages: 1500, faults: 12, receipts: true, pace: 2 * batchEach * time.Second / 200,
		kinds: []faultKind{{kind: "kill broker", begin: func(n *nemesis) (time.Duration, func()) {
			n.run.broker.Kill()
			return between(n.random, 0, time.Second), n.run.broker.Start
		}}},
	}
	for _, f := range commonFaults() {
		if slices.Contains([]string{"kill relay", "kill subscriber", "cut"}, f.kind) {
			opts.kinds = append(opts.kinds, f)
		}
	}
	r := begin(t, onSQLite(t, false), opts)
	report := r.chaos()
	r.conclude(report)
	require.Zero(t, report.Dead)
	require.Positive(t, report.Faults["kill broker"])
	require.Positive(t, report.Acknowledged, "receipts that the observer saw")
}
