package chaos

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/internal/history"
)

// scenario is a run that finds a mutant out.
type scenario struct {
	rule    failpoint.Rule
	backend func(t *testing.T) *backend
	role    string   // whose rule is broken
	kinds   []string // of the faults
	faults  int
	change  func(o *options)
	// slow is how many milliseconds a handler takes while the rule is broken, so that
	// some are at work whenever their process is stopped: no handler begins late. Not
	// all messages need to come to their end then.
	slow int
	// found is how many violations there are of the kind that the mutant must
	// show.
	found func(r *history.Report) int
}

func leasedShared(t *testing.T) *backend {
	t.Helper()
	b := onSQLite(t, true)
	b.unshared = false
	return b
}

func leasedUnshared(t *testing.T) *backend { t.Helper(); return onSQLite(t, true) }

func transactional(t *testing.T) *backend { t.Helper(); return onSQLite(t, false) }

func heldTransactions(t *testing.T) *backend {
	t.Helper()
	b := onPostgres(t)
	b.orders = []string{"held"}
	return b
}

func scenarios() []scenario {
	lost := func(r *history.Report) int { return r.Lost }
	slowHandler := func(o *options) { o.handler = 20 }
	return []scenario{
		{
			rule: failpoint.DeleteBeforeAck, backend: transactional, role: "relay", faults: 4, found: lost,
			change: func(o *options) { o.kinds = []faultKind{killWhileSending()} },
		},
		{
			rule: failpoint.MarkBeforeEffect, backend: leasedShared, role: "subscriber", kinds: []string{"kill subscriber"}, faults: 6,
			change: slowHandler, found: lost,
		},
		{
			rule: failpoint.AckBeforeMark, backend: leasedShared, role: "subscriber", kinds: []string{"kill subscriber"}, faults: 6,
			change: slowHandler, found: lost,
		},
		{
			rule: failpoint.EpochUnchecked, backend: leasedUnshared, role: "subscriber", kinds: []string{"stop subscriber"}, faults: 4,
			change: func(o *options) { o.handler, o.most = 50, 1200 }, found: func(r *history.Report) int { return r.Fences },
			slow: 300,
		},
		{
			rule: failpoint.ResendAfterPubrec, backend: transactional, role: "relay", kinds: []string{cutPubrel}, faults: 8,
			found: func(r *history.Report) int { return r.Wire },
		},
		{
			rule: failpoint.PageByHighest, backend: heldTransactions, role: "relay", faults: 0,
			change: func(o *options) { o.messages = 4000 }, found: lost,
		},
		{
			rule: failpoint.IgnorePubrecCode, backend: transactional, role: "relay", faults: 0,
			change: func(o *options) { o.messages = 1000; o.deny = "chaos/1/0" }, found: func(r *history.Report) int { return r.Wire },
		},
	}
}

// killWhileSending kills the relays while they wait for the broker's answers.
func killWhileSending() faultKind {
	return faultKind{kind: "kill relays with messages in flight", begin: func(n *nemesis) (time.Duration, func()) {
		n.run.broker.Pause()
		n.run.pause(500 * time.Millisecond)
		for _, m := range n.run.of("relay") {
			m.kill()
		}
		return 0, n.run.broker.Continue
	}}
}

// mutantLimit is how long a mutant's run may take to come to its end: what is
// lost does not come.
const mutantLimit = 6 * time.Second

// Each rule has a run that finds out who breaks it, and passes if nobody does.
func TestMutants(t *testing.T) {
	t.Parallel()
	covered := scenarios()
	require.Len(t, covered, len(failpoint.Rules()), "a rule without a run that finds its mutant")
	for _, s := range covered {
		require.Contains(t, failpoint.Rules(), s.rule)
		t.Run(string(s.rule), func(t *testing.T) {
			t.Parallel()
			// A kill may miss the moment that matters.
			for range 3 {
				r := begin(t, s.backend(t), s.options(t, true))
				report := r.chaos()
				t.Log(report)
				t.Log(report.Err())
				if r.t.Failed() || s.found(report) > 0 {
					return
				}
			}
			require.Fail(t, "nobody noticed that a rule was broken", "%s", s.rule)
		})
		t.Run(string(s.rule)+" kept", func(t *testing.T) {
			t.Parallel()
			r := begin(t, s.backend(t), s.options(t, false))
			r.conclude(r.chaos())
		})
	}
}

func (s *scenario) options(t *testing.T, broken bool) options {
	t.Helper()
	o := options{
		seed: seed(t), messages: 600, faults: s.faults, pace: 2 * batchEach * time.Second / 500, tags: "failpoint",
	}
	for _, f := range commonFaults() {
		if slices.Contains(s.kinds, f.kind) {
			o.kinds = append(o.kinds, f)
		}
	}
	if broken {
		o.limit = mutantLimit
		o.env = map[string][]string{s.role: {failpoint.MutantVariable + "=" + string(s.rule)}}
	}
	if s.change != nil {
		s.change(&o)
	}
	if broken && s.slow > 0 {
		o.handler = s.slow
	}
	return o
}

// A name that is not known is refused, by whoever reads it.
func TestFailpointNamesAreChecked(t *testing.T) {
	t.Parallel()
	for _, variable := range []string{failpoint.Variable, failpoint.MutantVariable} {
		p := startWorker(t, append(os.Environ(), "CHAOS={}", variable+"=no-such-name"))
		require.Equal(t, 1, p.Wait(20*time.Second))
		require.Contains(t, p.Stderr.String(), variable)
		require.Contains(t, p.Stderr.String(), "no-such-name")
	}
}
