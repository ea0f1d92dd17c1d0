package qos

import (
	"bytes"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v4"
)

// ParseNeeds reads needs from YAML:
//
//	topics:
//	  - filter: sensors/+/temperature
//	    loss_tolerable: true        # default false: none may get lost
//	    duplicates_tolerable: true  # default false: none may be processed twice
//	    rate: 200                   # messages a second; default: not known, few
//	  - filter: alerts/#
//
// The form of the file, and of the error, is that of [ParsePolicies].
func ParseNeeds(name string, data []byte) ([]Need, error) {
	f := policyFile{name: name, list: "topics", want: "a list of topics: with the filter of each"}
	var needs []Need
	if root := f.document(data); root != nil {
		needs = f.needs(root)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return needs, nil
}

// needs reads the document, then validates what could be read of it.
func (f *policyFile) needs(root *yaml.Node) []Need {
	f.lines = make(map[place]int)
	f.faulty = make(map[place]bool)
	var needs []Need
	problem := f.mapping(root, wholeList, "", []field{
		{"topics", func(n *yaml.Node) string { return f.readNeeds(n, &needs) }},
	})
	if problem != "" {
		f.add(root.Line, "file", problem)
		return nil
	}
	if len(needs) == 0 && len(f.faults) == 0 {
		f.add(root.Line, "topics", `is missing or empty; write a list, each topic beginning with "- filter:"`)
	}
	inLine := func(i int) string { return "line " + strconv.Itoa(f.lines[place{i, "filter"}]) }
	eachNeedFault(needs, inLine, func(i int, e *FieldError) {
		if at := (place{i, e.Field}); !f.faulty[at] {
			f.add(f.lines[at], e.Field, e.Problem)
		}
	})
	return needs
}

// readNeeds reads the list of topics.
func (f *policyFile) readNeeds(n *yaml.Node, into *[]Need) string {
	if n.Kind != yaml.SequenceNode {
		return "is " + shown(n) + `; write a list, each topic beginning with "- filter:"`
	}
	needs := make([]Need, len(n.Content))
	for i, item := range n.Content {
		need := &needs[i]
		problem := f.mapping(item, i, "", []field{
			{"filter", func(n *yaml.Node) string { return readText(n, &need.Filter) }},
			{"loss_tolerable", func(n *yaml.Node) string { return readBool(n, &need.LossTolerable) }},
			{"duplicates_tolerable", func(n *yaml.Node) string { return readBool(n, &need.DuplicatesTolerable) }},
			{"rate", func(n *yaml.Node) string { return readFloat(n, &need.Rate) }},
		})
		switch {
		case problem != "":
			f.faulty[place{i, "filter"}] = true
			f.add(item.Line, "topics", problem)
		case f.lines[place{i, "filter"}] == 0:
			f.fail(item.Line, i, "filter", "is missing; name the topics, for example filter: alarms/#")
		}
	}
	*into = needs
	return ""
}

// FormatAdvice writes advice as a policy file that [ParsePolicies] reads, with the
// reasons as comments.
func FormatAdvice(advice []Advice) []byte {
	var b bytes.Buffer
	b.WriteString("# The first rule whose filter matches a message's topic decides, alone.\nrules:\n")
	for _, a := range advice {
		fmt.Fprintf(&b, "  - filter: %s\n", strconv.Quote(a.Need.Filter))
		for _, reason := range a.Reasons {
			writeComment(&b, reason)
		}
		p := a.Policy
		if p.Level != nil {
			fmt.Fprintf(&b, "    level: %s\n", p.Level)
		}
		if p.Expiry != 0 {
			fmt.Fprintf(&b, "    expiry: %s\n", p.Expiry)
		}
		if p.WhenFull != Refuse {
			fmt.Fprintf(&b, "    when_full: %s\n", p.WhenFull)
		}
	}
	return b.Bytes()
}

// writeComment writes a sentence as comment lines of at most 80 bytes.
func writeComment(b *bytes.Buffer, sentence string) {
	const width = 80
	column := 0
	for _, word := range bytes.Fields([]byte(sentence)) {
		if column == 0 || column+1+len(word) > width {
			if column > 0 {
				b.WriteByte('\n')
			}
			b.WriteString("    #")
			column = len("    #")
		}
		b.WriteByte(' ')
		b.Write(word)
		column += 1 + len(word)
	}
	b.WriteByte('\n')
}
