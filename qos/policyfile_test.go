package qos

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// documented is the example in the documentation of ParsePolicies.
func documented(t *testing.T) string {
	t.Helper()
	source, err := os.ReadFile("policyfile.go")
	require.NoError(t, err)
	_, after, found := strings.Cut(string(source), "// ParsePolicies reads policies from YAML:\n//\n")
	require.True(t, found)
	example, _, found := strings.Cut(after, "//\n")
	require.True(t, found)
	return strings.ReplaceAll(example, "//\t", "")
}

func TestParsePoliciesDocumentation(t *testing.T) {
	t.Parallel()
	got, err := ParsePolicies("policies.yaml", []byte(documented(t)))
	require.NoError(t, err)
	require.Equal(t, Policies{
		Rules: []Rule{
			{"alarms/#", Policy{
				Level: new(ExactlyOnce), Order: Strict, Attempts: 100,
				Backoff: Backoff{200 * time.Millisecond, 10 * time.Second, 2}, Receipt: true, ReceiptTimeout: 10 * time.Second,
			}},
			{"telemetry/+/temperature", Policy{Expiry: 5 * time.Minute, WhenFull: DropOldest}},
			{"doors/+/state", Policy{Supersede: true}},
		},
		Default: Policy{Level: new(AtLeastOnce)},
	}, got)
}

func TestParsePolicies(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Policies{
		"{}":                           {},
		"---\n{}\n...\n":               {},
		"rules: []":                    {Rules: []Rule{}},
		"default: {}":                  {},
		"\ufeffdefault: {attempts: 7}": {Default: Policy{Attempts: 7}},
		"default: {attempts: 0, expiry: 0, receipt: false, order: pipelined, when_full: refuse}":     {},
		"default:\r\n  level: \"0\"\r\n  backoff:\r\n    factor: 1\r\n":                              {Default: Policy{Level: new(AtMostOnce), Backoff: Backoff{Factor: 1}}},
		`{"rules": [{"filter": "#", "expiry": "1h30m"}]}`:                                            {Rules: []Rule{{"#", Policy{Expiry: 90 * time.Minute}}}},
		"rules:\n- filter: 007\n- filter: +/温度\n- filter: true\n- filter: \"a b\"\n- filter: 1.50\n": rules("007", "+/温度", "true", "a b", "1.50"),
	} {
		got, err := ParsePolicies("policies.yaml", []byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

func TestParsePoliciesFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                              "p.yaml: file: holds nothing; write rules: or default:, or {} to have the defaults",
		"# nothing\n":                   "p.yaml: file: holds nothing; write rules: or default:, or {} to have the defaults",
		"---\n":                         "p.yaml: file: holds nothing; write rules: or default:, or {} to have the defaults",
		strings.Repeat("x", 65) + ": 1": `p.yaml:1: "` + strings.Repeat("x", 64) + `"… (65 bytes): is not a known field; known here are rules, default`,
		"rules:\n" + strings.Repeat("- x\n", MaxRules+1): "p.yaml:1: rules: 1001 rules are too many; write at most 1000, with wildcards in their filters",
		"---\n---\n{}":                      "p.yaml:2: file: has a second document here; write one, with one list of rules",
		"default: {}\n---\nrules: []":       "p.yaml:2: file: has a second document here; write one, with one list of rules",
		"rules":                             `p.yaml:1: file: is "rules"; write the fields rules, default`,
		"- filter: a":                       "p.yaml:1: file: is a list; write the fields rules, default",
		"rules:":                            "p.yaml:1: rules: has no value; write one, or leave the field out",
		"\nrules: {a: 1}":                   `p.yaml:2: rules: is a mapping; write a list, each rule beginning with "- filter:"`,
		"rules:\n- filter: #":               `p.yaml:2: filter: has no value; quote a filter that begins with #, which else begins a comment: filter: "#"`,
		"rules:\n- filter: [a]":             "p.yaml:2: filter: is a list; write text",
		"rules:\n- filter: ''":              "p.yaml:2: filter: is empty; a filter has 1 to 65,535 bytes",
		"rules:\n-\n  level: 1\n":           "p.yaml:3: filter: is missing; name the rule's topics, for example filter: alarms/#",
		"default:\n  filter: a":             "p.yaml:2: filter: is not a known field; known here are level, expiry, attempts, backoff, order, when_full, supersede, receipt, receipt_timeout",
		"Rules: []":                         "p.yaml:1: Rules: is not a known field; did you mean rules?",
		"polices: []":                       "p.yaml:1: polices: is not a known field; known here are rules, default",
		"\"\\e[2J\": 1":                     `p.yaml:1: "\x1b[2J": is not a known field; known here are rules, default`,
		"? [a]\n: 1":                        "p.yaml:1: a list: is not a known field; known here are rules, default",
		"default: {receptTimeout: 1s}":      "p.yaml:1: receptTimeout: is not a known field; did you mean receipt_timeout?",
		"default: {qos: 1}":                 "p.yaml:1: qos: is not a known field; known here are level, expiry, attempts, backoff, order, when_full, supersede, receipt, receipt_timeout",
		"default: {backoff: {initail: 1}}":  "p.yaml:1: backoff.initail: is not a known field; did you mean initial?",
		"default: {backoff: 5s}":            `p.yaml:1: backoff: is "5s"; write the fields initial, max, factor`,
		"default: {level: 1}\ndefault: {}":  "p.yaml:2: default: stands twice, in line 1 too; keep one of them",
		"default: {level: 3}":               `p.yaml:1: level: "3" is not a QoS level; write 0, 1 or 2`,
		"default: {level: [1]}":             "p.yaml:1: level: a list is not a QoS level; write 0, 1 or 2",
		"default: {expiry: 30}":             `p.yaml:1: expiry: "30" has no unit; write one: 500ms, 30s, 5m, 24h`,
		"default: {expiry: 7d}":             `p.yaml:1: expiry: "7d" is not a duration; write numbers with units: 500ms, 30s, 5m, 24h`,
		"default: {expiry: -1s}":            "p.yaml:1: expiry: -1s is negative; write a positive duration, or 0 for the default",
		"default: {expiry: {}}":             "p.yaml:1: expiry: a mapping is not a duration; write numbers with units: 500ms, 30s, 5m, 24h",
		"default: {attempts: 1.5}":          `p.yaml:1: attempts: "1.5" is not a whole number; write one such as 10`,
		"default: {attempts: 1e99}":         `p.yaml:1: attempts: "1e99" is not a whole number; write one such as 10`,
		"default: {backoff: {factor: x}}":   `p.yaml:1: backoff.factor: "x" is not a number; write one such as 1.5`,
		"default: {backoff: {factor: NaN}}": "p.yaml:1: backoff.factor: NaN is out of range; write 1 to 10, or 0 for the default of 2",
		"default:\n  supersede: true\n  when_full: drop-oldest":  "p.yaml:2: supersede: contradicts when_full drop-oldest: a message gives way to the next of its topic, or to any; turn one of them off",
		"default:\n  receipt: true\n  supersede: true":           "p.yaml:3: supersede: contradicts receipt: what is superseded gets none; turn one of them off",
		"default: {supersede: 1}":                                `p.yaml:1: supersede: "1" is not true or false; write one of them`,
		"default: {receipt: yes}":                                `p.yaml:1: receipt: "yes" is not true or false; write one of them`,
		"default: {order: stirct}":                               `p.yaml:1: order: "stirct" is not a choice; did you mean strict?`,
		"default: {order: 1}":                                    `p.yaml:1: order: "1" is not a choice; write pipelined or strict`,
		"default: {when_full: Drop_Oldest}":                      `p.yaml:1: when_full: "Drop_Oldest" is not a choice; did you mean drop-oldest?`,
		"default: {when_full: drop}":                             `p.yaml:1: when_full: "drop" is not a choice; write refuse or drop-oldest`,
		"default: {level: !!int 1}":                              `p.yaml:1: level: has the tag "!!int"; write the value without it`,
		"default: &a {}\nrules: [*a]":                            "p.yaml:2: rules: is an alias; write the fields filter, level, expiry, attempts, backoff, order, when_full, supersede, receipt, receipt_timeout",
		"rules: &a []\ndefault: *a":                              "p.yaml:2: default: is an alias; write the value out",
		"default:\n\tlevel: 1":                                   "p.yaml:2: file: is not YAML: while scanning for the next token, found character that cannot start any token; correct this line or the one above it, and indent with spaces, not tabs",
		"default: {}\n# \xff":                                    "p.yaml:2: file: is not UTF-8 here; save it as UTF-8",
		"\xff\xfe{\x00}\x00":                                     "p.yaml:1: file: is not UTF-8 here; save it as UTF-8",
		strings.Repeat(" ", MaxPolicyFile+1):                     "p.yaml: file: is too large; a policy file has at most 1048576 bytes",
		"rules:\n" + strings.Repeat("- filter: a\n", MaxRules+1): "p.yaml:1: rules: 1001 rules are too many; write at most 1000, with wildcards in their filters",
	} {
		got, err := ParsePolicies("p.yaml", []byte(text))
		require.EqualError(t, err, want, "%.60q", text)
		require.Equal(t, Policies{}, got)
		require.ErrorIs(t, err, ErrInvalid)
		var fe *FieldError
		require.ErrorAs(t, err, &fe)
	}
}

// All faults at once, in the order of the lines, those of form and those of
// sense together; a field that could not be read is named once.
func TestParsePoliciesListsAll(t *testing.T) {
	t.Parallel()
	_, err := ParsePolicies("p.yaml", []byte(`rules:
  - filter: a/#
    recipt: true
    attempts: few
    backoff: {max: 50ms, initial: 100ms, factor: many}
  - 5
  - filter: a/b
    level: 0
    receipt: true
  - filter: a/#
    level: 0
    level: 1
  - expiry: 1us
  - filter: b#
default:
  receipt: true
  when_full: drop-oldest
more: 1
`))
	require.Equal(t, strings.TrimSpace(`
p.yaml:3: recipt: is not a known field; did you mean receipt?
p.yaml:4: attempts: "few" is not a whole number; write one such as 10
p.yaml:5: backoff.factor: "many" is not a number; write one such as 1.5
p.yaml:5: backoff.max: 50ms is less than backoff.initial, 100ms; raise it to that at least, or lower backoff.initial
p.yaml:6: rules: is "5"; write the fields filter, level, expiry, attempts, backoff, order, when_full, supersede, receipt, receipt_timeout
p.yaml:7: filter: "a/b" is never reached, since "a/#" in line 2 takes all its topics; put the narrower filter first
p.yaml:9: receipt: a receipt cannot be promised at level 0; raise level to 1 or 2, or turn receipt off
p.yaml:10: filter: "a/#" stands in line 2 already; keep one of them
p.yaml:12: level: stands twice, in line 11 too; keep one of them
p.yaml:13: filter: is missing; name the rule's topics, for example filter: alarms/#
p.yaml:13: expiry: 1µs is less than the store can tell; write 1ms or more, or 0 for ever
p.yaml:14: filter: "b#" has # at byte 1; # stands alone, as the last level: # or a/#
p.yaml:16: receipt: a receipt cannot be promised for messages that may be dropped; set when_full to refuse, or turn receipt off
p.yaml:18: more: is not a known field; known here are rules, default
`), err.Error())
}

func TestParsePoliciesBoundsItsErrors(t *testing.T) {
	t.Parallel()
	_, err := ParsePolicies("p.yaml", []byte(strings.Repeat("x: 1\n", 5000)))
	require.Len(t, joined(err), maxFileFaults+1)
	require.ErrorContains(t, err, "p.yaml: and 4900 more")

	_, err = ParsePolicies("p.yaml", []byte(`default: {order: "`+strings.Repeat("x", 500_000)+`"}`))
	require.Less(t, len(err.Error()), 300)
	_, err = ParsePolicies("p.yaml", []byte(strings.Repeat("[", MaxPolicyFile)))
	require.ErrorContains(t, err, "is not YAML")
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"level", "expiry", "attempts", "backoff", "order", "when_full", "receipt", "receipt_timeout", "max"}
	for s, want := range map[string]string{
		"lewel": "level", "LEVEL": "level", "expires": "expiry", "expirey": "expiry", "attempt": "attempts", "retries": "",
		"whenFull": "when_full", "when-full": "when_full", "when full": "when_full", "receipts": "receipt",
		"receiptTimeout": "receipt_timeout", "receipt_time": "", "mux": "max", "mix": "max",
		"": "", "x": "", "abc": "", "ordnung": "", strings.Repeat("level", 9): "",
	} {
		require.Equal(t, want, nearest(s, known), s)
	}
	require.Equal(t, 3, edits("kitten", "sitting"))
	require.Equal(t, 7, edits("", "sitting"))
	require.Equal(t, 6, edits("kitten", ""))
}

func FuzzParsePolicies(f *testing.F) {
	for _, s := range []string{
		"", "{}", "rules: []", "default: {level: 1}", "rules:\n- filter: a/#\n  backoff: {initial: 1s, max: 2s, factor: 3}\n",
		"rules: [{filter: a}, {filter: a}]", "a: &a [*a]", "a: *b", "? {a: b}\n: c", "default: !!binary aGk=", "<<: {a: 1}",
		"rules:\n  - filter: \"$share/g/a\"\n    order: strict\n    when_full: drop-oldest\n    receipt_timeout: 1h\n",
		"default: {expiry: 9223372036s, attempts: 9223372036854775807}", "---\n---\n", "%YAML 1.1\n---\n{}", "\xff", "\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePolicies("p.yaml", data)
		if err == nil {
			if err := p.Validate(); err != nil {
				t.Fatalf("read, and not valid: %v", err)
			}
			for _, topic := range []string{"a", "a/b", "$SYS"} {
				if got := p.For(topic); got.Attempts < 1 || got.Backoff.Delay(1) < 0 || got.ReceiptTimeout <= 0 {
					t.Fatalf("For(%q) = %+v", topic, got)
				}
			}
			return
		}
		if !errors.Is(err, ErrInvalid) {
			t.Fatalf("%v does not wrap ErrInvalid", err)
		}
		if len(p.Rules) != 0 {
			t.Fatal("both policies and an error")
		}
		lines := 0
		for line := range strings.Lines(err.Error()) {
			lines++
			if !strings.HasPrefix(line, "p.yaml:") || len(line) > 1200 || !utf8.ValidString(line) || strings.ContainsAny(line, "\x00\x1b\r") {
				t.Fatalf("unfit line %q", line)
			}
		}
		if lines != len(joined(err)) {
			t.Fatalf("%d faults in %d lines: %v", len(joined(err)), lines, err)
		}
	})
}
