package persisttest

import (
	"maps"
	"regexp"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// mutant is a store with one defect.
type mutant struct {
	name string
	// caught are the rules of which a case must notice the defect, each.
	caught []string
	// model: the model-based test must notice it too.
	model bool
	// durable: it shows in a store that outlives its handles.
	durable bool
	bend    func(b *bent)
}

func (m *mutant) harness() Harness {
	if m.durable {
		return durable(bend(m.bend))
	}
	return volatile(bend(m.bend))
}

// mutants are all defects.
func mutants() []mutant {
	return slices.Concat(outboxMutants(), backlogMutants(), settleMutants(), leaseMutants(), relayMutants(), claimMutants(), otherMutants())
}

// A suite that cannot fail is worth nothing: each case must pass on the store
// as it is, which TestRun shows, and some case of each rule must fail on a
// store that breaks the rule.
func TestMutantsAreCaught(t *testing.T) {
	t.Parallel()
	cases := byTag(allCases())
	for _, m := range mutants() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for _, tag := range m.caught {
				require.Contains(t, cases, tag)
				caught := 0
				for _, c := range cases[tag] {
					if c.lacks(m.harness()) == "" && len(observe(t, func(r *recorder) { c.check(r, m.harness()) })) > 0 {
						caught++
					}
				}
				if caught == 0 {
					t.Errorf("no case of %s notices it", tag)
				}
			}
			if m.model && !modelNotices(t, m.harness()) {
				t.Error("the model does not notice it")
			}
		})
	}
}

// modelNotices runs the model until it fails. Its histories are random, so that
// one run may miss what takes a rare turn; so many do not.
func modelNotices(t *testing.T, h Harness) bool {
	t.Helper()
	for range 80 {
		if len(observe(t, func(r *recorder) { runModel(r, h) })) > 0 {
			return true
		}
	}
	return false
}

// Without a change, what makes the mutants breaks nothing.
func TestMutantWithoutDefect(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{false, true} {
		m := mutant{durable: durable, bend: func(*bent) {}}
		for _, c := range allCases() {
			if c.lacks(m.harness()) == "" {
				require.Empty(t, observe(t, func(r *recorder) { c.check(r, m.harness()) }), "%s/%s", c.tag, c.name)
			}
		}
		require.Empty(t, observe(t, func(r *recorder) { runModel(r, m.harness()) }), "the model")
	}
}

// Every rule that a store in memory can break is broken by some mutant.
func TestEveryRuleHasAMutant(t *testing.T) {
	t.Parallel()
	caught := make(map[string]bool)
	for _, m := range mutants() {
		for _, tag := range m.caught {
			caught[tag] = true
		}
	}
	// These need stored bytes to damage, or transactions.
	for _, tag := range []string{"OUTBOX-8", "OUTBOX-13", "CLAIM-9", "CLAIM-12", "DEAD-2", "SESSION-4"} {
		caught[tag] = true
	}
	for _, tag := range tags(t) {
		require.True(t, caught[tag], "no mutant breaks %s; there are some for %v", tag, slices.Sorted(maps.Keys(caught)))
	}
	for tag := range byTag(allCases()) {
		if !regexp.MustCompile(`-\d+$`).MatchString(tag) {
			require.True(t, caught[tag], "no mutant breaks the cases of %s", tag)
		}
	}
}
