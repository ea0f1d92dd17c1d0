package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// rows are names with values, side by side. On a terminal on which a value has no room
// there it is broken into lines, which stand below its name if they would be too short.
type rows struct {
	width int // of the terminal; zero: no limit
	all   [][2]string
}

// newRows are rows as wide as the terminal, if w is one.
func newRows(w io.Writer) *rows {
	_, width, _ := terminal(w)
	return &rows{width: width}
}

// add adds a row; what a terminal would act on in its value is replaced.
func (r *rows) add(name string, value any) {
	r.all = append(r.all, [2]string{name, visible(fmt.Sprint(value))})
}

// String is the rows as text.
func (r *rows) String() string {
	names := 0
	for _, row := range r.all {
		names = max(names, utf8.RuneCountInString(row[0])+columnGap)
	}
	t := table{width: r.width}
	for _, row := range r.all {
		name := fmt.Sprintf("%-*s", names, row[0])
		switch room := r.width - names; {
		case r.width <= 0 || utf8.RuneCountInString(row[1]) <= room:
			t.b.WriteString(name + row[1] + "\n")
		case room >= shortLine:
			t.line(name, row[1], names)
		default:
			if row[0] != "" {
				t.line("", row[0], 0)
			}
			t.line("  ", row[1], 2)
		}
	}
	return t.b.String()
}

const (
	// columnGap is the room between two columns.
	columnGap = 2
	// shortLine is the least room in which a text is broken into lines.
	shortLine = 30
)

// grid is a table with a head, as wide as it is. On a narrow terminal each of its lines
// is a block of rows, with an empty line behind it.
type grid struct {
	w     io.Writer
	width int // of the terminal; zero: no limit
	heads []string
	lines [][]string
}

// gridPage is how many lines are laid out at once: memory is bounded however long the
// table is.
const gridPage = 500

func newGrid(w io.Writer, heads ...string) *grid {
	_, width, _ := terminal(w)
	return &grid{w: w, width: width, heads: heads}
}

// add adds a line, and writes those that are there now and then.
func (g *grid) add(cells ...any) error {
	g.line(cells...)
	if len(g.lines) < gridPage {
		return nil
	}
	return g.flush()
}

// line adds a line; what a terminal would act on is replaced.
func (g *grid) line(cells ...any) {
	line := make([]string, len(cells))
	for i, c := range cells {
		line[i] = visible(fmt.Sprint(c))
	}
	g.lines = append(g.lines, line)
}

// flush writes what has been added.
func (g *grid) flush() error {
	if len(g.lines) == 0 {
		return nil
	}
	text := g.String()
	g.lines = nil
	_, err := io.WriteString(g.w, text)
	return err
}

// String is what has been added as text.
func (g *grid) String() string {
	text := g.table()
	if g.width > 0 && g.width < narrow && !fits(text, g.width) {
		return g.blocks()
	}
	return text
}

func (g *grid) table() string {
	var b strings.Builder
	widths := make([]int, len(g.heads))
	all := append([][]string{g.heads}, g.lines...)
	for _, line := range all {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell)+columnGap)
		}
	}
	for _, line := range all {
		for i, cell := range line {
			if i == len(line)-1 {
				b.WriteString(cell + "\n")
			} else {
				fmt.Fprintf(&b, "%-*s", widths[i], cell)
			}
		}
	}
	return b.String()
}

func (g *grid) blocks() string {
	var b strings.Builder
	for _, line := range g.lines {
		r := rows{width: g.width}
		for i, cell := range line {
			if cell != "" && cell != "-" {
				r.add(strings.ToLower(g.heads[i]), cell)
			}
		}
		b.WriteString(r.String() + "\n")
	}
	return b.String()
}

// fits tells whether no line of a text is wider than a terminal.
func fits(text string, width int) bool {
	for line := range strings.Lines(text) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > width {
			return false
		}
	}
	return true
}

// reflow breaks the lines of a text that are wider than a terminal; what follows of them
// is indented.
func reflow(text string, width int) string {
	if width <= 0 || fits(text, width) {
		return text
	}
	t := table{width: width}
	for line := range strings.Lines(text) {
		if fits(line, width) {
			t.b.WriteString(line)
		} else {
			t.line("", line, columnGap)
		}
	}
	return t.b.String()
}

// table lays rows out.
type table struct {
	b        strings.Builder
	width    int // zero: no limit
	coloured bool
}

// line writes a text behind a head, broken into lines that are indented. A word that is
// wider than a line is broken as well.
func (t *table) line(head, text string, indent int) {
	t.b.WriteString(head)
	column := indent
	newline := func() {
		t.b.WriteString("\n" + strings.Repeat(" ", indent))
		column = indent
	}
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case t.width > 0 && column+1+n > t.width:
			newline()
		default:
			t.b.WriteByte(' ')
			column++
		}
		for room := t.width - indent; t.width > 0 && room > 0 && column+n > t.width; {
			head := cutTo(word, t.width-column)
			t.b.WriteString(head)
			word = word[len(head):]
			n = utf8.RuneCountInString(word)
			newline()
		}
		t.b.WriteString(word)
		column += n
	}
	t.b.WriteByte('\n')
}
