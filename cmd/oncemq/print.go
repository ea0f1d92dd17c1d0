package main

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/oncemq/oncemq/autopaho"
)

// printOptions tell how messages are printed.
type printOptions struct {
	verbose, noEOL bool
	json, pretty   bool
	format         string
	mode           string
	all            []*option
}

func (o *printOptions) options() []*option {
	o.all = withEnv([]*option{
		{name: "verbose", also: []string{"v"}, category: catOutput, set: on(&o.verbose), usage: "print the topic before the payload"},
		{name: "format", also: []string{"F"}, category: catOutput, set: name(&o.format), usage: "print messages by a `FORMAT`; see above"},
		{name: "no-eol", also: []string{"N"}, category: catOutput, set: on(&o.noEOL), usage: "print no newline after a message"},
		{
			name: "json", category: catOutput, set: on(&o.json),
			usage: "print an object a line: mosquitto_sub's keys, and id, dup and group; payload_base64 in place of payload if that is not UTF-8",
		},
		{
			name: "pretty", category: catOutput, set: on(&o.pretty),
			usage: "print objects of --json for reading, on several lines",
		},
		{
			name: "output", also: []string{"o"}, category: catOutput, set: oneOf(&o.mode, "text", "json", "raw"), choices: []string{"text", "json", "raw"}, def: "text",
			usage: "`MODE`: text, json (as --json), or raw, which is payloads one after another",
		},
	})
	// What is said of the form nearer by is all that is said of it.
	form := only(o.all, "verbose", "format", "json", "pretty", "output")
	for _, f := range form {
		switch f.name {
		case "format":
			f.excludes = without(form, "format")
		case "json", "output":
			f.excludes = only(form, "format", "json", "output")
		case "verbose":
			f.excludes = only(form, "format")
		}
	}
	return o.all
}

// near tells whether an option was given on the command line.
func (o *printOptions) near(name string) bool {
	return slices.ContainsFunc(o.all, func(p *option) bool { return p.name == name && p.near })
}

// given is the name of an option that was given; empty if none was.
func (o *printOptions) given() string {
	for _, p := range o.all {
		if p.given {
			return "--" + p.name
		}
	}
	return ""
}

// printer prints messages.
type printer struct {
	format  format
	verbose bool
	pretty  bool
	end     string
}

// printer makes the format that the options ask for.
func (o *printOptions) printer() (printer, error) {
	if o.json && o.mode != "" && o.mode != "json" {
		return printer{}, &usageError{option: "--json", problem: "cannot stand beside --output " + o.mode}
	}
	if o.json || o.mode == "json" {
		o.mode = "json"
	}
	switch {
	case !o.pretty || o.mode == "json":
	case !o.near("pretty"):
		o.pretty = false
	default:
		return printer{}, &usageError{option: "--pretty", problem: "needs --json beside it"}
	}
	if o.format != "" && (o.verbose || o.mode == "json" || o.mode == "raw") {
		return printer{}, &usageError{option: "--format", problem: "cannot stand beside --verbose, --json or --output; it says all of it"}
	}
	text := "%p"
	end := "\n"
	switch {
	case o.mode == "json":
		text = "%j"
	case o.mode == "raw":
		end = ""
	case o.format != "":
		text = o.format
	case o.verbose:
		text = "%t %p"
	}
	if o.noEOL {
		end = ""
	}
	f, err := parseFormat(text)
	if err != nil {
		return printer{}, &usageError{option: "--format", problem: err.Error()}
	}
	return printer{f, o.format == "" && o.verbose && o.mode != "json", o.pretty, end}, nil
}

func (p *printer) append(b []byte, m *autopaho.Received) ([]byte, bool) {
	if p.verbose && len(m.Payload) == 0 {
		return append(append(append(b, m.Topic...), " (null)"...), p.end...), true // as mosquitto_sub has it
	}
	if p.pretty {
		line, ok := p.format.append(nil, m)
		out := bytes.NewBuffer(b)
		if err := json.Indent(out, line, "", "  "); err == nil {
			return append(out.Bytes(), p.end...), ok
		}
	}
	b, ok := p.format.append(b, m)
	return append(b, p.end...), ok
}
