package qos

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// MaxPolicyFile is the largest policy file in bytes.
const MaxPolicyFile = 1 << 20

// maxFileFaults is how many faults of one file are listed. A file of another
// format has one on every line.
const maxFileFaults = 100

// ParsePolicies reads policies from YAML:
//
//	# The first rule whose filter matches a message's topic decides, alone.
//	rules:
//	  - filter: alarms/#
//	    level: 2                # 0, 1 or 2; left out: the publisher's
//	    order: strict           # pipelined (default) or strict
//	    attempts: 100           # default 30
//	    backoff: {initial: 200ms, max: 10s, factor: 2}
//	    receipt: true           # default false: the publisher's choice
//	    receipt_timeout: 10s    # default 30s
//	  - filter: telemetry/+/temperature
//	    expiry: 5m              # default: for ever
//	    when_full: drop-oldest  # refuse (default) or drop-oldest
//	  - filter: doors/+/state
//	    supersede: true         # default false: the publisher's choice
//	# For topics that no rule matches.
//	default:
//	  level: 1
//
// Every field of a rule but filter may be left out, as may rules and default;
// [Policy] documents them. Durations have units: 500ms, 30s, 5m, 24h. A filter
// that begins with # must be quoted, since # begins a comment.
//
// The file is one YAML document in UTF-8 of at most [MaxPolicyFile] bytes, with
// at most [MaxRules] rules, no field that is not known, none that stands twice
// and no aliases. The error lists every fault in the order of the lines (up to
// a hundred), each as "name:line: field: problem; what would be right"; it
// wraps [ErrInvalid] and a [*FieldError] for each, and the policies are then
// the zero value. The name is only shown.
func ParsePolicies(name string, data []byte) (Policies, error) {
	f := policyFile{name: name, list: "rules", want: "rules: or default:, or {} to have the defaults"}
	f.parse(data)
	if err := f.err(); err != nil {
		return Policies{}, err
	}
	return f.policies, nil
}

// policyFile is a policy file, or one of needs, while it is read.
type policyFile struct {
	name string
	// list is what the file is a list of, want what an empty one should hold.
	list, want string
	policies   Policies
	// lines has the line of each field that was read, and of each rule and of
	// the default under "".
	lines map[place]int
	// faulty are the fields that could not be read. What is left of them is a
	// zero, which is not judged a second time.
	faulty map[place]bool
	faults []lineFault
}

// place is a field of a rule, by its index in the list, or of the default.
type place struct {
	rule  int
	field string
}

type lineFault struct {
	line  int // 0: not known
	fault *FieldError
}

func (f *policyFile) add(line int, field, problem string) {
	f.faults = append(f.faults, lineFault{line, &FieldError{field, problem}})
}

// fail adds the fault of a field that could not be read.
func (f *policyFile) fail(line, rule int, field, problem string) {
	f.faulty[place{rule, field}] = true
	f.add(line, field, problem)
}

// err joins the faults in the order of their lines; nil if there are none.
func (f *policyFile) err() error {
	slices.SortStableFunc(f.faults, func(a, b lineFault) int { return a.line - b.line })
	var errs []error
	for i, lf := range f.faults {
		switch {
		case i == maxFileFaults:
			errs = append(errs, fmt.Errorf("%s: and %d more", f.name, len(f.faults)-i))
			return errors.Join(errs...)
		case lf.line == 0:
			errs = append(errs, fmt.Errorf("%s: %w", f.name, lf.fault))
		default:
			errs = append(errs, fmt.Errorf("%s:%d: %w", f.name, lf.line, lf.fault))
		}
	}
	return errors.Join(errs...)
}

// parse reads the document, then validates what could be read of it.
func (f *policyFile) parse(data []byte) {
	root := f.document(data)
	if root == nil {
		return
	}
	f.lines = make(map[place]int)
	f.faulty = make(map[place]bool)
	problem := f.mapping(root, wholeList, "", []field{
		{"rules", f.readRules},
		{"default", func(n *yaml.Node) string {
			return f.mapping(n, defaultPolicy, "", f.policyFields(defaultPolicy, &f.policies.Default))
		}},
	})
	if problem != "" {
		f.add(root.Line, "file", problem)
		return
	}
	inLine := func(rule int) string { return "line " + strconv.Itoa(f.lines[place{rule, "filter"}]) }
	f.policies.eachFault(inLine, func(rule int, e *FieldError) {
		if at := (place{rule, e.Field}); !f.faulty[at] {
			f.add(f.lines[at], e.Field, e.Problem)
		}
	})
}

// document is the content of the one document in data, or nil after a fault.
func (f *policyFile) document(data []byte) *yaml.Node {
	if len(data) > MaxPolicyFile {
		f.add(0, "file", "is too large; a policy file has at most "+strconv.Itoa(MaxPolicyFile)+" bytes")
		return nil
	}
	if !utf8.Valid(data) {
		at := invalidAt(string(data))
		f.add(1+bytes.Count(data[:at], []byte("\n")), "file", "is not UTF-8 here; save it as UTF-8")
		return nil
	}
	var docs []yaml.Node
	if err := yaml.Load(data, &docs, yaml.WithAllDocuments()); err != nil {
		f.syntax(err)
		return nil
	}
	if len(docs) > 1 {
		f.add(docs[1].Line, "file", "has a second document here; write one, with one list of "+f.list)
		return nil
	}
	if len(docs) == 0 || len(docs[0].Content) == 0 || isNull(docs[0].Content[0]) {
		// A file that was emptied by accident must not pass for the defaults.
		f.add(0, "file", "holds nothing; write "+f.want)
		return nil
	}
	return docs[0].Content[0]
}

// syntax reports that the file is not YAML.
func (f *policyFile) syntax(err error) {
	line, problem := 0, err.Error()
	var load *yaml.LoadError
	if errors.As(err, &load) {
		line, problem = load.Mark.Line, load.Message
		if load.ContextMsg != "" {
			problem = load.ContextMsg + ", " + problem
		}
	}
	f.add(line, "file", "is not YAML: "+printable(problem)+"; correct this line or the one above it, and indent with spaces, not tabs")
}

// readRules reads the list of rules.
func (f *policyFile) readRules(n *yaml.Node) string {
	if n.Kind != yaml.SequenceNode {
		return "is " + shown(n) + `; write a list, each rule beginning with "- filter:"`
	}
	if len(n.Content) > MaxRules {
		return tooManyRules(len(n.Content))
	}
	f.policies.Rules = make([]Rule, len(n.Content))
	for i, item := range n.Content {
		rule := &f.policies.Rules[i]
		filter := field{"filter", func(n *yaml.Node) string { return readText(n, &rule.Filter) }}
		problem := f.mapping(item, i, "", append([]field{filter}, f.policyFields(i, &rule.Policy)...))
		switch {
		case problem != "":
			f.faulty[place{i, "filter"}] = true
			f.add(item.Line, "rules", problem)
		case f.lines[place{i, "filter"}] == 0:
			f.fail(item.Line, i, "filter", "is missing; name the rule's topics, for example filter: alarms/#")
		}
	}
	return ""
}

// policyFields are the fields of a policy.
func (f *policyFile) policyFields(rule int, p *Policy) []field {
	return []field{
		{"level", func(n *yaml.Node) string { return readLevel(n, &p.Level) }},
		{"expiry", func(n *yaml.Node) string { return readDuration(n, &p.Expiry) }},
		{"attempts", func(n *yaml.Node) string { return readInt(n, &p.Attempts) }},
		{"backoff", func(n *yaml.Node) string {
			return f.mapping(n, rule, "backoff.", []field{
				{"initial", func(n *yaml.Node) string { return readDuration(n, &p.Backoff.Initial) }},
				{"max", func(n *yaml.Node) string { return readDuration(n, &p.Backoff.Max) }},
				{"factor", func(n *yaml.Node) string { return readFloat(n, &p.Backoff.Factor) }},
			})
		}},
		{"order", func(n *yaml.Node) string { return readChoice(n, &p.Order, Pipelined, Strict) }},
		{"when_full", func(n *yaml.Node) string { return readChoice(n, &p.WhenFull, Refuse, DropOldest) }},
		{"supersede", func(n *yaml.Node) string { return readBool(n, &p.Supersede) }},
		{"receipt", func(n *yaml.Node) string { return readBool(n, &p.Receipt) }},
		{"receipt_timeout", func(n *yaml.Node) string { return readDuration(n, &p.ReceiptTimeout) }},
	}
}
