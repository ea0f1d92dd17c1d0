package qos

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is advised for each combination of needs.
func TestAdvise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		need  Need
		level Level
		drops bool
		says  string
	}{
		{Need{LossTolerable: true, DuplicatesTolerable: true, Rate: 500}, AtMostOnce, true, "may get lost"},
		{Need{LossTolerable: true}, AtMostOnce, true, "with a group and a store"},
		{Need{DuplicatesTolerable: true, Rate: 1}, AtLeastOnce, false, "receipt: true"},
		{Need{DuplicatesTolerable: true, Rate: 1e6}, AtLeastOnce, false, "until it is acknowledged"},
		{Need{}, ExactlyOnce, false, "second round trip"},
		{Need{Rate: fewMessages}, ExactlyOnce, false, "with a group and a store"},
		{Need{Rate: fewMessages + 1}, AtLeastOnce, false, "dedup at the subscriber"},
	} {
		c.need.Filter = "a/#"
		advice, err := Advise([]Need{c.need})
		require.NoError(t, err)
		require.Len(t, advice, 1)
		a := advice[0]
		require.Equal(t, c.need, a.Need)
		require.Equal(t, c.level, *a.Policy.Level, "%+v", c.need)
		require.Equal(t, c.drops, a.Policy.WhenFull == DropOldest)
		require.Equal(t, c.drops, a.Policy.Expiry == 5*time.Minute)
		require.NoError(t, a.Policy.Validate())
		require.Contains(t, strings.Join(a.Reasons, " "), c.says)
		require.Equal(t, c.need.DuplicatesTolerable, !strings.Contains(strings.Join(a.Reasons, " "), "with a group and a store"))
	}
}

// Whatever the order of the needs, every rule is reached; those that do not take
// each other's topics keep their order.
func TestAdviseOrder(t *testing.T) {
	t.Parallel()
	filters := []string{"#", "a/#", "b/c", "a/+/c", "a/b/c", "+/+/c", "$SYS/#"}
	for i := range filters {
		var needs []Need
		for j := range filters {
			needs = append(needs, Need{Filter: filters[(i+j*5)%len(filters)]}) // 5 and 7 have no divisor in common
		}
		advice, err := Advise(needs)
		require.NoError(t, err)
		p := AdvisedPolicies(advice)
		require.Len(t, p.Rules, len(filters))
		require.NoError(t, p.Validate(), "%+v", needs)
	}
	advice, err := Advise([]Need{{Filter: "z"}, {Filter: "a"}, {Filter: "m/#"}})
	require.NoError(t, err)
	require.Equal(t, "z", advice[0].Need.Filter)
	require.Equal(t, "m/#", advice[2].Need.Filter)
}

func TestAdviseFaults(t *testing.T) {
	t.Parallel()
	_, err := Advise([]Need{{Filter: "a"}, {Filter: "a"}, {Filter: "$share/g/b"}, {Filter: "c", Rate: math.NaN()}, {}, {Filter: "d", Rate: -1}})
	require.ErrorIs(t, err, ErrInvalid)
	for _, want := range []string{
		`topics[1].filter: "a" stands in topics[0] already`,
		`topics[2].filter: "$share/g/b" is a shared subscription's`,
		"topics[3].rate: NaN is out of range", "topics[4].filter: ", "topics[5].rate: -1 is out of range",
	} {
		require.ErrorContains(t, err, want)
	}
	_, err = Advise(make([]Need, MaxRules+1))
	require.ErrorContains(t, err, "topics: 1001 topics are too many")
}

// What is printed is read back as the same policies.
func TestFormatAdvice(t *testing.T) {
	t.Parallel()
	needs, err := ParseNeeds("needs.yaml", []byte(`
topics:
  - filter: "#"
    rate: 1000
  - filter: sensors/+/temperature
    loss_tolerable: true
    duplicates_tolerable: true
    rate: 0.5
  - filter: "alerts/\u00e4 \"x\"/#"
    duplicates_tolerable: false
`))
	require.NoError(t, err)
	require.Equal(t, []Need{
		{Filter: "#", Rate: 1000},
		{Filter: "sensors/+/temperature", LossTolerable: true, DuplicatesTolerable: true, Rate: 0.5},
		{Filter: `alerts/ä "x"/#`},
	}, needs)
	advice, err := Advise(needs)
	require.NoError(t, err)
	file := FormatAdvice(advice)
	got, err := ParsePolicies("policies.yaml", file)
	require.NoError(t, err, string(file))
	require.Equal(t, AdvisedPolicies(advice), got)
	require.Equal(t, "#", got.Rules[2].Filter)
	for line := range strings.Lines(string(file)) {
		require.LessOrEqual(t, len(strings.TrimRight(line, "\n")), 80)
	}
}

func TestParseNeedsFaults(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]string{
		"topics:\n  - filter: a\n    los_tolerable: true\n":           "needs.yaml:3: los_tolerable: is not a known field; did you mean loss_tolerable?",
		"topics:\n  - filtr: a\n":                                     "needs.yaml:2: filtr: is not a known field; did you mean filter?",
		"topic:\n  - filter: a\n":                                     "needs.yaml:1: topic: is not a known field; did you mean topics?",
		"topics:\n  - filter: a\n  - filter: a\n":                     `needs.yaml:3: filter: "a" stands in line 2 already; keep one of them`,
		"topics:\n  - rate: 1\n":                                      "needs.yaml:2: filter: is missing",
		"topics:\n  - filter: a\n    rate: fast\n":                    `needs.yaml:3: rate: "fast" is not a number`,
		"topics:\n  - filter: a\n    rate: -1\n":                      "needs.yaml:3: rate: -1 is out of range",
		"topics:\n  - filter: a\n    duplicates_tolerable: perhaps\n": `needs.yaml:3: duplicates_tolerable: "perhaps" is not true or false`,
		"topics: []\n":        "needs.yaml:1: topics: is missing or empty",
		"{}\n":                "needs.yaml:1: topics: is missing or empty",
		"":                    "needs.yaml: file: holds nothing",
		"topics: a\n":         `needs.yaml:1: topics: is "a"; write a list`,
		"- a\n":               "needs.yaml:1: file: is a list; write the fields topics",
		"topics:\n  - a\n":    `needs.yaml:2: topics: is "a"; write the fields filter`,
		"topics:\n\t- x: y\n": "is not YAML",
		"topics:\n  - filter: a/#/b\n    rate: 1\n": "needs.yaml:2: filter: ",
	} {
		_, err := ParseNeeds("needs.yaml", []byte(data))
		require.ErrorIs(t, err, ErrInvalid, data)
		require.ErrorContains(t, err, want, data)
	}
}

func FuzzParseNeeds(f *testing.F) {
	f.Add([]byte("topics:\n  - filter: a/#\n    rate: 3\n    loss_tolerable: true\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		needs, err := ParseNeeds("f", data)
		if err != nil {
			return
		}
		advice, err := Advise(needs)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParsePolicies("f", FormatAdvice(advice)); err != nil || len(got.Rules) != len(needs) {
			t.Fatalf("%q: %v", data, err)
		}
	})
}
