package qos

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The examples of section 4.7 of the specification, and of 4.8.2.
func TestMatchSpecification(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"sport/tennis/player1/#", "sport/tennis/player1", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/ranking", true},
		{"sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true},
		{"sport/tennis/player1/#", "sport/tennis/player10", false},
		{"sport/#", "sport", true},
		{"#", "sport", true},
		{"#", "/finance", true},
		{"sport/tennis/+", "sport/tennis/player1", true},
		{"sport/tennis/+", "sport/tennis/player1/ranking", false},
		{"sport/+", "sport", false},
		{"sport/+", "sport/", true},
		{"+", "finance", true},
		{"+", "/finance", false},
		{"+/+", "/finance", true},
		{"/+", "/finance", true},
		{"+/tennis/#", "sport/tennis", true},
		{"sport/+/player1", "sport/tennis/player1", true},
		{"#", "$SYS/x", false},
		{"#", "$", false},
		{"+/monitor/Clients", "$SYS/monitor/Clients", false},
		{"+", "$SYS", false},
		{"$SYS/#", "$SYS/monitor", true},
		{"$SYS/monitor/+", "$SYS/monitor/Clients", true},
		{"a/+", "a/$x", true},
		{"ACCOUNTS", "Accounts", false},
		{"/finance", "finance", false},
		{"A\u030a", "\u00c5", false}, // no normalization
		{"$share/g/sport/#", "sport", true},
		{"$share/g/#", "$SYS/x", false},
		{"$share/g//finance", "/finance", true},
		{"$share/g/a", "$share/g/a", false},
		{"", "", false},
		{"a", "", false},
		{"", "a", false},
	} {
		require.Equal(t, c.want, Match(c.filter, c.topic), "%q, %q", c.filter, c.topic)
	}
}

// matchReference compares level by level, by the words of section 4.7.
func matchReference(filter, topic string) bool {
	if strings.HasPrefix(filter, "$share/") {
		filter = strings.Join(strings.Split(filter, "/")[2:], "/")
	}
	filterLevels, levels := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (filterLevels[0] == "+" || filterLevels[0] == "#") {
		return false
	}
	if last := len(filterLevels) - 1; filterLevels[last] == "#" {
		filterLevels = filterLevels[:last]
		if len(levels) < len(filterLevels) {
			return false
		}
		levels = levels[:len(filterLevels)]
	}
	if len(levels) != len(filterLevels) {
		return false
	}
	for i := range levels {
		if filterLevels[i] != "+" && filterLevels[i] != levels[i] {
			return false
		}
	}
	return true
}

// names makes every topic or filter of one to depth levels.
func names(levels []string, depth int) []string {
	all := append([]string(nil), levels...)
	for last := all; depth > 1; depth-- {
		var next []string
		for _, s := range last {
			for _, level := range levels {
				next = append(next, s+"/"+level)
			}
		}
		all, last = append(all, next...), next
	}
	return all
}

func smallNames() (filters, topics []string) {
	for _, s := range names([]string{"", "a", "$b", "+", "#"}, 4) {
		if ValidateFilter(s) == nil {
			filters = append(filters, s)
		}
	}
	for _, s := range names([]string{"", "a", "c", "$b"}, 5) {
		if ValidateTopic(s) == nil {
			topics = append(topics, s)
		}
	}
	return filters, topics
}

func TestMatchAllSmall(t *testing.T) {
	t.Parallel()
	filters, topics := smallNames()
	for _, filter := range filters {
		for _, topic := range topics {
			if got, want := Match(filter, topic), matchReference(filter, topic); got != want {
				t.Fatalf("Match(%q, %q) = %t", filter, topic, got)
			}
			if !Match(filter, topic) == Match("$share/g/"+filter, topic) {
				t.Fatalf("a share name changes Match(%q, %q)", filter, topic)
			}
		}
	}
}

// A rule is said to be unreachable if it is, and only then.
func TestCoversAllSmall(t *testing.T) {
	t.Parallel()
	filters, topics := smallNames()
	matched := make(map[string][]bool, len(filters))
	for _, filter := range filters {
		for _, topic := range topics {
			matched[filter] = append(matched[filter], matchReference(filter, topic))
		}
	}
	contains := func(general, specific []bool) bool {
		for i, in := range specific {
			if in && !general[i] {
				return false
			}
		}
		return true
	}
	for _, general := range filters {
		for _, specific := range filters {
			want := contains(matched[general], matched[specific])
			got := covers(general, specific)
			if got != want {
				t.Fatalf("covers(%q, %q) = %t", general, specific, got)
			}
		}
	}
}

// Two filters overlap if there is a topic for both.
func TestOverlapAllSmall(t *testing.T) {
	t.Parallel()
	filters, topics := smallNames()
	matched := make([]map[int]bool, len(filters))
	for i, filter := range filters {
		matched[i] = make(map[int]bool)
		for j, topic := range topics {
			if matchReference(filter, topic) {
				matched[i][j] = true
			}
		}
	}
	common := func(a, b map[int]bool) bool {
		if len(a) > len(b) {
			a, b = b, a
		}
		for topic := range a {
			if b[topic] {
				return true
			}
		}
		return false
	}
	for i, a := range filters {
		for j, b := range filters {
			if got, want := Overlap(a, b), common(matched[i], matched[j]); got != want {
				t.Fatalf("Overlap(%q, %q) = %t", a, b, got)
			}
		}
	}
	require.True(t, Overlap("$share/g/a/+", "a/b"))
	require.False(t, Overlap("", "a"))
}

func FuzzMatch(f *testing.F) {
	for _, s := range [][2]string{
		{"a/#", "a"}, {"+/b", "a/b"}, {"#", "$SYS"}, {"$share/g/a/+", "a/b"}, {"a//b", "a//b"}, {"/+", "/"}, {"+/", "a/"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, filter, topic string) {
		got := Match(filter, topic) // whatever they are: no panic
		if ValidateFilter(filter) != nil || ValidateTopic(topic) != nil {
			return
		}
		if want := matchReference(filter, topic); got != want {
			t.Fatalf("Match(%q, %q) = %t", filter, topic, got)
		}
		if !Match(topic, topic) && !strings.HasPrefix(topic, "$share/") {
			t.Fatalf("%q does not match itself", topic)
		}
		if general := "#"; topic[0] != '$' && !Match(general, topic) {
			t.Fatalf("# does not match %q", topic)
		}
	})
}

func TestMatchAllocatesNothing(t *testing.T) { //nolint:paralleltest // counts allocations
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if !Match("$share/workers/site/+/line/+/#", "site/berlin/line/7/temperature") {
			panic("no match")
		}
	}))
}

func BenchmarkMatch(b *testing.B) {
	const topic = "site/berlin/line/7/machine/42/temperature"
	for _, c := range []struct {
		name, filter, topic string
		want                bool
	}{
		{"exact", topic, topic, true},
		{"plus", "site/+/line/+/machine/+/temperature", topic, true},
		{"hash", "site/#", topic, true},
		{"shared", "$share/workers/site/#", topic, true},
		{"other", "plant/#", topic, false},
		{"longest", strings.Repeat("+/", 30_000) + "#", strings.Repeat("x/", 32_000), true},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if Match(c.filter, c.topic) != c.want {
					b.Fatal("wrong answer")
				}
			}
		})
	}
}
