package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

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

// table lays rows out.
type table struct {
	b        strings.Builder
	width    int // zero: no limit
	coloured bool
}

// The columns of a wide table.
const (
	doctorSign = 15 // "does not hold" and two blanks
	doctorID   = 29
)

// row has a sign, a name and a text: side by side, or below each other where there is
// no room for that.
func (t *table) row(sign, id, text string) {
	if t.width == 0 || t.width >= 100 {
		t.line(t.colour(sign, fmt.Sprintf("%-*s", doctorSign, sign))+fmt.Sprintf("%-*s", doctorID, id), text, doctorSign+doctorID)
		return
	}
	if id != "" {
		t.b.WriteString(t.colour(sign, fmt.Sprintf("%-5s", sign)) + " " + id + "\n")
	}
	t.line(strings.Repeat(" ", 6), text, 6)
}

// line writes a text behind a head, broken into lines that are indented.
func (t *table) line(head, text string, indent int) {
	t.b.WriteString(head)
	column := indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case t.width > 0 && column+1+n > t.width:
			t.b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			t.b.WriteByte(' ')
			column++
		}
		t.b.WriteString(word)
		column += n
	}
	t.b.WriteByte('\n')
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
