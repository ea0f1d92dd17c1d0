package qos

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPoliciesFor(t *testing.T) {
	t.Parallel()
	policies := Policies{
		Rules: []Rule{
			{Filter: "alarms/fire", Policy: Policy{Attempts: 1}},
			{Filter: "alarms/#", Policy: Policy{Attempts: 2, Receipt: true}},
			{Filter: "+/fire", Policy: Policy{Attempts: 3}},
			{Filter: "$SYS/#", Policy: Policy{Attempts: 4}},
		},
		Default: Policy{Attempts: 5, Level: new(ExactlyOnce)},
	}
	require.NoError(t, policies.Validate())
	for topic, attempts := range map[string]int{
		"alarms/fire": 1, "alarms": 2, "alarms/water": 2, "news/fire": 3, "$SYS/x": 4, "$x/fire": 5, "news": 5, "": 5,
	} {
		require.Equal(t, attempts, policies.For(topic).Attempts, topic)
	}
	require.Nil(t, policies.For("alarms").Level, "a rule inherits nothing from the default")
	require.Equal(t, ExactlyOnce, *policies.For("news").Level)
}

func TestPoliciesForFillsDefaults(t *testing.T) {
	t.Parallel()
	var zero Policies
	require.NoError(t, zero.Validate())
	require.Equal(t, Policy{
		Attempts: 30, Backoff: Backoff{100 * time.Millisecond, 30 * time.Second, 2}, ReceiptTimeout: 30 * time.Second,
	}, zero.For("a"))

	short := Policies{Default: Policy{Backoff: Backoff{Max: 50 * time.Millisecond}}}
	require.Equal(t, 50*time.Millisecond, short.For("a").Backoff.Initial, "a default gives way to what is set")

	set := Policy{
		Level: new(AtLeastOnce), Expiry: 1 * time.Second, Attempts: 2, Backoff: Backoff{3 * time.Second, 4 * time.Second, 5},
		Order: Strict, WhenFull: DropOldest, ReceiptTimeout: 6 * time.Second,
	}
	policies := Policies{Rules: []Rule{{Filter: "#", Policy: set}}}
	require.Equal(t, set, policies.For("a"), "what is set stays")
	require.Equal(t, set, policies.Rules[0].Policy)
	require.Equal(t, Policy{}, policies.Default, "the defaults go into a copy")
}

func TestPoliciesValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policies       Policies
		field, problem string
	}{
		{rules(""), "rules[0].filter", "is empty"},
		{rules("a", "b#"), "rules[1].filter", "# at byte 1"},
		{rules("$share/g/a"), "rules[0].filter", "leave out $share/"},
		{rules("a/+", "b", "a/+"), "rules[2].filter", `"a/+" stands in rules[0] already`},
		{rules("b", "a/#", "a/+/c"), "rules[2].filter", `"a/+/c" is never reached, since "a/#" in rules[1] takes all its topics`},
		{rules("a/+", "+/b", "a/b"), "rules[2].filter", `"a/+" in rules[0]`},
		{rules("#", "a"), "rules[1].filter", "put the narrower filter first"},
		{Policies{Rules: []Rule{{"a", Policy{Attempts: -1}}}}, "rules[0].attempts", "negative"},
		{Policies{Default: Policy{Attempts: -1}}, "default.attempts", "negative"},
		{Policies{Rules: make([]Rule, MaxRules+1)}, "rules", "1001 rules are too many; write at most 1000"},
	} {
		err := c.policies.Validate()
		requireFieldError(t, err, c.field, c.problem)
		require.Len(t, joined(err), 1)
	}
	reachable := rules("#", "$SYS/#", "$app/+")
	require.NoError(t, reachable.Validate(), "# leaves out what begins with $")

	many := Policies{
		Rules: []Rule{
			{"a/#", Policy{Backoff: Backoff{Initial: 2, Max: 1}, Order: 9}},
			{"a#", Policy{Expiry: -1}},
			{"a/b", Policy{Receipt: true, WhenFull: DropOldest}},
		},
		Default: Policy{ReceiptTimeout: -1},
	}
	require.Equal(t, []string{
		"rules[0].backoff.max", "rules[0].order", "rules[1].filter", "rules[1].expiry", "rules[2].filter", "rules[2].receipt",
		"default.receipt_timeout",
	}, fieldsOf(many.Validate()))
}

func rules(filters ...string) Policies {
	var p Policies
	for _, f := range filters {
		p.Rules = append(p.Rules, Rule{Filter: f})
	}
	return p
}

func TestPoliciesForAllocatesNothing(t *testing.T) { //nolint:paralleltest // counts allocations
	policies := rules("alarms/#", "telemetry/+/temperature", "#")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if policies.For("site/berlin").Attempts != DefaultAttempts {
			panic("wrong policy")
		}
	}))
}

func BenchmarkPoliciesFor(b *testing.B) {
	for _, n := range []int{0, 1, 10, MaxRules} {
		var policies Policies
		for i := range n {
			policies.Rules = append(policies.Rules, Rule{Filter: fmt.Sprintf("site/+/line/%d/#", i)})
		}
		b.Run(fmt.Sprintf("rules=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if policies.For("site/berlin/other").Attempts == 0 {
					b.Fatal("no defaults")
				}
			}
		})
	}
}
