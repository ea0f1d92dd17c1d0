package qos

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// field is one field that a mapping of a policy file may have. The function
// reads its value and returns what is wrong with it, or "".
type field struct {
	name string
	read func(*yaml.Node) string
}

// mapping reads the fields of n, each at most once, and adds the faults of
// each, under prefix and its name. It returns what is wrong with n as a whole,
// or "".
func (f *policyFile) mapping(n *yaml.Node, rule int, prefix string, fields []field) string {
	if n.Kind != yaml.MappingNode {
		names := make([]string, len(fields))
		for i := range fields {
			names[i] = fields[i].name
		}
		return "is " + shown(n) + "; write the fields " + strings.Join(names, ", ")
	}
	seen := make(map[string]int, len(fields))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		known := find(fields, key)
		if known == nil {
			f.add(key.Line, prefix+keyName(key), "is not a known field; "+suggest(key, fields))
			continue
		}
		name := prefix + known.name
		if line := seen[known.name]; line != 0 {
			f.add(key.Line, name, "stands twice, in line "+strconv.Itoa(line)+" too; keep one of them")
			continue
		}
		seen[known.name] = key.Line
		f.lines[place{rule, name}] = key.Line
		problem := ""
		switch {
		case value.Kind == yaml.AliasNode:
			problem = "is an alias; write the value out"
		case value.Style&yaml.TaggedStyle != 0:
			problem = "has the tag " + quote(value.Tag) + "; write the value without it"
		case isNull(value) && known.name == "filter":
			problem = `has no value; quote a filter that begins with #, which else begins a comment: filter: "#"`
		case isNull(value):
			problem = "has no value; write one, or leave the field out"
		default:
			problem = known.read(value)
		}
		if problem != "" {
			f.fail(key.Line, rule, name, problem)
		}
	}
	return ""
}

func find(fields []field, key *yaml.Node) *field {
	if key.Kind != yaml.ScalarNode {
		return nil
	}
	for i := range fields {
		if fields[i].name == key.Value {
			return &fields[i]
		}
	}
	return nil
}

// keyName shows the key of an unknown field: as it is if it looks like a
// field's name, else quoted.
func keyName(key *yaml.Node) string {
	if key.Kind != yaml.ScalarNode {
		return shown(key)
	}
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}
	if key.Value == "" || len(key.Value) > maxQuoted || strings.ContainsFunc(key.Value, odd) {
		return quote(key.Value)
	}
	return key.Value
}

// suggest names the field that was probably meant, or else all of them.
func suggest(key *yaml.Node, fields []field) string {
	names := make([]string, len(fields))
	for i := range fields {
		names[i] = fields[i].name
	}
	if meant := nearest(key.Value, names); meant != "" {
		return "did you mean " + meant + "?"
	}
	return "known here are " + strings.Join(names, ", ")
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// shown describes a node in a problem.
func shown(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	case yaml.ScalarNode:
		return quote(n.Value)
	case yaml.DocumentNode, yaml.StreamNode:
	}
	return "nothing"
}

// readText reads any scalar as it is written: a filter may look like a number.
func readText(n *yaml.Node, into *string) string {
	if n.Kind != yaml.ScalarNode {
		return "is " + shown(n) + "; write text"
	}
	*into = n.Value
	return ""
}

func readLevel(n *yaml.Node, into **Level) string {
	level, err := ParseLevel(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		return levelProblem(shown(n))
	}
	*into = &level
	return ""
}

func readInt(n *yaml.Node, into *int) string {
	i, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		return shown(n) + " is not a whole number; write one such as 10"
	}
	*into = i
	return ""
}

func readFloat(n *yaml.Node, into *float64) string {
	x, err := strconv.ParseFloat(n.Value, 64)
	if n.Kind != yaml.ScalarNode || err != nil {
		return shown(n) + " is not a number; write one such as 1.5"
	}
	*into = x
	return ""
}

func readBool(n *yaml.Node, into *bool) string {
	if n.Kind != yaml.ScalarNode || (n.Value != "true" && n.Value != "false") {
		return shown(n) + " is not true or false; write one of them"
	}
	*into = n.Value == "true"
	return ""
}

func readDuration(n *yaml.Node, into *time.Duration) string {
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		if _, err := strconv.ParseFloat(n.Value, 64); err == nil && n.Kind == yaml.ScalarNode {
			return shown(n) + " has no unit; write one: 500ms, 30s, 5m, 24h"
		}
		return shown(n) + " is not a duration; write numbers with units: 500ms, 30s, 5m, 24h"
	}
	*into = d
	return ""
}

func readChoice[T fmt.Stringer](n *yaml.Node, into *T, choices ...T) string {
	names := make([]string, len(choices))
	for i, c := range choices {
		names[i] = c.String()
		if n.Kind == yaml.ScalarNode && n.Value == names[i] {
			*into = c
			return ""
		}
	}
	problem := shown(n) + " is not a choice; "
	if meant := nearest(n.Value, names); meant != "" {
		return problem + "did you mean " + meant + "?"
	}
	return problem + "write " + strings.Join(names, " or ")
}

// nearest is the candidate that s was probably meant to be: one that differs in
// case or in the kind of hyphen, or by no more than two letters. Empty if there
// is none.
func nearest(s string, candidates []string) string {
	const maxEdits, maxLength = 2, 32
	if len(s) > maxLength {
		return ""
	}
	plain := strings.NewReplacer("-", "", "_", "", " ", "")
	s = plain.Replace(strings.ToLower(s))
	best, bestEdits := "", maxEdits+1
	for _, c := range candidates {
		p := plain.Replace(c)
		// A word that is changed more than by half is another word.
		if n := edits(s, p); n < bestEdits && 2*n < len(p) {
			best, bestEdits = c, n
		}
	}
	return best
}

// edits is the Levenshtein distance of two short strings, in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
