package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/oncemq/oncemq/doctor"
)

// writeDoctor prints a report as a table: as wide as the terminal, or a line for each
// finding where there is none.
func writeDoctor(w io.Writer, r *doctor.Report) error {
	is, width, coloured := terminal(w)
	t := table{width: width, coloured: coloured}
	if is && t.width <= 0 {
		t.width = 80
	}
	for _, place := range []struct{ name, value string }{{"broker", r.Broker}, {"store", r.Store}} {
		if place.value != "" {
			t.line("", place.name+": "+visible(place.value), 0)
		}
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		t.row(string(f.Severity), f.ID, visible(f.Text))
		if f.Remedy != "" && f.Severity != doctor.OK {
			t.row("", "", "→ "+visible(f.Remedy))
		}
	}
	t.b.WriteString("\n")
	for _, p := range r.Promises {
		text := p.Text
		if len(p.Because) > 0 {
			text += " (" + strings.Join(p.Because, ", ") + ")"
		}
		t.row(string(p.State), p.ID, text)
	}
	t.b.WriteString("\n")
	t.line("", r.Verdict, 0)
	_, err := io.WriteString(w, t.b.String())
	return err
}

// The columns of a wide table.
const (
	doctorSign = 15 // "does not hold" and two blanks
	doctorID   = 33 // store.synchronous-standby-names and two blanks
)

// row has a sign, a name and a text: side by side, or below each other where there is
// no room for that.
func (t *table) row(sign, id, text string) {
	if t.width == 0 || t.width >= 100 {
		t.line(t.colour(sign, fmt.Sprintf("%-*s", doctorSign, sign))+fmt.Sprintf("%-*s ", doctorID-1, id), text, doctorSign+doctorID)
		return
	}
	switch head := fmt.Sprintf("%-5s", sign); {
	case id == "":
	case len(head)+1+len(id) > t.width:
		t.b.WriteString(t.colour(sign, sign) + "\n")
		t.line("  ", id, 2)
	default:
		t.b.WriteString(t.colour(sign, head) + " " + id + "\n")
	}
	t.line(strings.Repeat(" ", 6), text, 6)
}

func (t *table) colour(sign, text string) string {
	code := map[string]string{
		"ok": "32", "warn": "33", "bad": "31;1",
		string(doctor.Holds): "32", string(doctor.Weakened): "33", string(doctor.Broken): "31;1",
	}[sign]
	if !t.coloured || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}
