package drill

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// The colours of a terminal (ECMA-48).
const (
	red   = "31"
	green = "32"
	dim   = "2"
)

// Widths from which on the table has all in one line, or its counts.
const (
	wide   = 120
	medium = 80
)

// Table writes results as they come, a line each; in two lines, or in a few, on a
// terminal that is not wide enough.
type Table struct {
	// W is where to write.
	W io.Writer
	// Width is how many columns there are; zero for as many as it takes.
	Width int
	// Colour has the names coloured by how it went.
	Colour bool

	began bool
}

// column is one of the table.
type column struct {
	head  string
	width int // negative: to the left
	value func(r *Result) string
}

func number(f func(r *Result) int) func(*Result) string {
	return func(r *Result) string { return fmt.Sprint(f(r)) }
}

// columns are the columns, the counts and what comes after them.
func columns() (counts, rest []column) {
	counts = []column{
		{"scenario", -17, func(r *Result) string { return r.Scenario }},
		{"time", 7, func(r *Result) string { return fmt.Sprintf("%.1f s", r.Seconds) }},
		{"sent", 6, number(func(r *Result) int { return r.Sent })},
		{"delivered", 10, number(func(r *Result) int { return r.Delivered })},
		{"copies", 7, number(func(r *Result) int { return r.WireDuplicates })},
		{"suppressed", 11, number(func(r *Result) int { return r.Suppressed })},
		{"lost", 5, number(func(r *Result) int { return r.Lost })},
		{"doubled", 8, number(func(r *Result) int { return r.Doubled })},
		{"recovery", 9, (*Result).recovery},
	}
	rest = []column{
		{"reconnects", 11, number(func(r *Result) int { return r.Reconnects })},
		{"  state", -14, func(r *Result) string { return "  " + r.ending() }},
		{"errors", -6, (*Result).errorText},
	}
	return counts, rest
}

// recovery is the time to recover.
func (r *Result) recovery() string {
	if r.RecoverySeconds < 0 {
		return "never"
	}
	return fmt.Sprintf("%.1f s", r.RecoverySeconds)
}

// ending is the state, with what is left in the outbox.
func (r *Result) ending() string {
	if r.Open > 0 {
		return fmt.Sprintf("%d open", r.Open)
	}
	if r.State == StateFailed {
		return fmt.Sprintf("%d failed", r.Failed)
	}
	return r.State
}

// errorText are the errors by class.
func (r *Result) errorText() string {
	var parts []string
	for _, class := range slices.Sorted(maps.Keys(r.Errors)) {
		parts = append(parts, fmt.Sprintf("%s %d", class, r.Errors[class]))
	}
	if r.Reason != "" {
		parts = append(parts, "failed: "+r.Reason)
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// Row writes one result.
func (t *Table) Row(r *Result) error {
	var b strings.Builder
	counts, rest := columns()
	switch {
	case t.Width > 0 && t.Width < medium:
		t.block(&b, r)
	case t.Width > 0 && t.Width < wide:
		t.line(&b, r, counts)
		fmt.Fprintf(&b, "  %s, %d reconnects; errors: %s\n", r.ending(), r.Reconnects, r.errorText())
	default:
		t.line(&b, r, append(counts, rest...))
	}
	t.began = true
	_, err := io.WriteString(t.W, b.String())
	return err
}

// Verdict writes a last line, or a few: see [Verdict].
func (t *Table) Verdict(results []*Result, seed uint64) error {
	text := Verdict(results, seed)
	if t.Width > 0 {
		text = strings.Join(wrap(text, t.Width), "\n")
	}
	_, err := fmt.Fprintln(t.W, text)
	return err
}

// line writes the columns, with their heads above the first time.
func (t *Table) line(b *strings.Builder, r *Result, columns []column) {
	if !t.began {
		var heads strings.Builder
		for _, c := range columns {
			fmt.Fprintf(&heads, "%*s", c.width, c.head)
		}
		b.WriteString(paint(t.Colour, dim, strings.TrimRight(heads.String(), " ")) + "\n")
	}
	var line strings.Builder
	for i, c := range columns {
		cell := fmt.Sprintf("%*s", c.width, c.value(r))
		if i == 0 {
			cell = paint(t.Colour, colourOf(r), cell)
		}
		line.WriteString(cell)
	}
	b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
}

// block writes a result for a narrow terminal.
func (t *Table) block(b *strings.Builder, r *Result) {
	fmt.Fprintf(b, "%s, %.1f s: %s\n", paint(t.Colour, colourOf(r), r.Scenario), r.Seconds, r.ending())
	counts, _ := columns()
	table := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	for _, c := range append(counts[2:], column{"reconnects", 0, number(func(r *Result) int { return r.Reconnects })}) {
		_, _ = fmt.Fprintf(table, "  %s\t%6s\n", c.head, c.value(r)) // into memory
	}
	_ = table.Flush() // as above
	for _, line := range wrap("errors: "+r.errorText(), t.Width-2) {
		b.WriteString("  " + line + "\n")
	}
}

// wrap breaks a text into lines of a width, between words.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// Verdict says in a sentence how it went altogether.
func Verdict(results []*Result, seed uint64) string {
	lost, doubled, failed, idle, unsettled := 0, 0, 0, 0, 0
	for _, r := range results {
		lost, doubled, failed = lost+r.Lost, doubled+r.Doubled, failed+r.Failed
		switch {
		case r.State == StateIdle:
			idle++
		case !r.OK && !r.Damage() && r.State != StateFailed:
			unsettled++
		}
	}
	text := "Nothing lost, nothing doubled"
	if lost > 0 || doubled > 0 {
		text = fmt.Sprintf("%d lost, %d doubled", lost, doubled)
	}
	if failed > 0 {
		text += fmt.Sprintf("; %d failed and are dead letters", failed)
	}
	if unsettled > 0 {
		text += fmt.Sprintf("; %d did not come to rest", unsettled)
	}
	plural, left := "s", ""
	if len(results) == 1 {
		plural = ""
	}
	switch {
	case idle == 0:
	case idle == len(results):
		return fmt.Sprintf("Nothing was sent in %d scenario%s, which shows nothing; seed %d.", idle, plural, seed)
	default:
		left = fmt.Sprintf("; nothing was sent in %d of them, which shows nothing", idle)
	}
	return fmt.Sprintf("%s in %d scenario%s%s; seed %d.", text, len(results), plural, left, seed)
}

func colourOf(r *Result) string {
	if r.OK {
		return green
	}
	return red
}

func paint(colour bool, code, s string) string {
	if !colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Line is how far it is, cut to a width: what a terminal can show in one line.
func (p *Progress) Line(width int) string {
	what := string(p.Phase)
	if p.Step != "" {
		what += ", " + p.Step
	}
	line := fmt.Sprintf("%s  %.1f s  %d of %d  %s", p.Scenario, p.Elapsed.Seconds(), p.Effects, p.Sent, what)
	return line[:min(len(line), max(1, width-1))] // ASCII; a line that wraps could not be refreshed
}
