package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// showOptions are the options of commands that show one message.
type showOptions struct {
	outboxOptions
	format, mode string
}

func (o *showOptions) options() []*option {
	rest := o.outboxOptions.options()
	object := only(rest, "json")
	return append([]*option{
		{name: "format", also: []string{"F"}, category: catOutput, set: name(&o.format), excludes: object, usage: "print the message by a `FORMAT`, as oncemq sub does"},
		{
			name: "output", also: []string{"o"}, category: catOutput, set: oneOf(&o.mode, "text", "json", "raw"), choices: []string{"text", "json", "raw"}, def: "text",
			excludes: object,
			usage:    "`MODE`: text, json (as --json), or raw, which is the payload alone",
		},
	}, rest...)
}

// shower is what prints a T as the options say. received is it as sub prints
// messages.
func shower[T any](o *showOptions, text, object func(io.Writer, *T) error, received func(*T) *autopaho.Received) (func(io.Writer, *T) error, error) {
	if o.json && o.mode != "" && o.mode != "json" {
		return nil, &usageError{option: "--json", problem: "cannot stand beside --output " + o.mode}
	}
	if o.format != "" && (o.json || o.mode != "") {
		return nil, &usageError{option: "--format", problem: "cannot stand beside --json or --output; it says all of it"}
	}
	switch {
	case o.format != "":
		f, err := parseFormat(o.format)
		if err != nil {
			return nil, &usageError{option: "--format", problem: err.Error()}
		}
		return func(w io.Writer, v *T) error {
			b, _ := f.append(nil, received(v))
			_, err := w.Write(append(b, '\n'))
			return err
		}, nil
	case o.json || o.mode == "json":
		return object, nil
	case o.mode == "raw":
		return func(w io.Writer, v *T) error {
			_, err := w.Write(received(v).Payload)
			return err
		}, nil
	}
	return text, nil
}

// rowsOf adds rows of a name and a value, if there is one.
func rowsOf(t *rows) func(name string, value any) {
	return func(name string, value any) {
		if fmt.Sprint(value) != "" {
			t.add(name, value)
		}
	}
}

// messageRows shows a message by its fields; those that are empty are left out.
func messageRows(row func(name string, value any), m *persist.Message) {
	row("id", m.ID)
	row("topic", m.Topic)
	row("qos", m.QoS)
	row("retain", m.Retain)
	row("ordering key", m.OrderingKey)
	if m.Receipt {
		row("receipt", "asked for")
	}
	if m.Expiry > 0 {
		row("expiry", m.Expiry)
	}
	p := &m.Properties
	if p.UTF8 {
		row("payload format", "UTF-8")
	}
	row("content type", p.ContentType)
	row("response topic", p.ResponseTopic)
	if len(p.CorrelationData) > 0 {
		row("correlation data", printable(p.CorrelationData))
	}
	for _, u := range p.User {
		row("user property", u.Name+"="+u.Value)
	}
	row("payload bytes", len(m.Payload))
	if len(m.Payload) > 0 && !utf8.Valid(m.Payload) {
		row("payload in base64", base64.StdEncoding.EncodeToString(m.Payload))
	}
}

// showPayload ends a table and shows the payload below it, if it is text: as it is, but
// for what a terminal would act on.
func showPayload(w io.Writer, t *rows, m *persist.Message) error {
	if _, err := io.WriteString(w, t.String()); err != nil {
		return err
	}
	if len(m.Payload) == 0 || !utf8.Valid(m.Payload) {
		return nil
	}
	payload := string(m.Payload)
	if is, _, _ := terminal(w); is {
		payload = visibleLines(payload)
	}
	_, err := fmt.Fprintf(w, "\n%s\n", payload)
	return err
}

// visibleLines is visible for a text of several lines.
func visibleLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		cells := strings.Split(line, "\t")
		for j := range cells {
			cells[j] = visible(cells[j])
		}
		lines[i] = strings.Join(cells, "\t")
	}
	return strings.Join(lines, "\n")
}
