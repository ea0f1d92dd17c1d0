package demo

import (
	"io"
	"time"
)

// The colours of a terminal (ECMA-48).
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	dim    = "2"
)

func paint(colour bool, code, s string) string {
	if !colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Display shows the events of a demo as they come: on a terminal with a line of
// counts that is refreshed in place, elsewhere with a line of counts a second.
// Its methods are called by one goroutine at a time, as Observe is.
type Display struct {
	// W is where to write; what goes wrong there is not told.
	W io.Writer
	// Terminal tells that W is one; Width is how many columns it has, 80 if
	// zero. Colour has it coloured.
	Terminal bool
	Width    int
	Colour   bool
	// Kills is how often the broker is going to be killed.
	Kills int

	shown bool          // a line of counts stands on the terminal
	next  time.Duration // when the next line of counts is due elsewhere
}

// Observe shows an event.
func (d *Display) Observe(e Event) {
	text := e.text(d.Kills)
	switch {
	case text != "":
		d.write(d.clear() + seconds(e.Elapsed) + "  " + paint(d.Colour, colourOf(e.Kind), text) + "\n")
		if d.Terminal {
			d.counts(e)
		}
	case d.Terminal:
		d.counts(e)
	case e.Elapsed >= d.next:
		d.next = e.Elapsed.Truncate(time.Second) + time.Second
		d.write(seconds(e.Elapsed) + "  " + e.Counts.String() + "\n")
	}
}

// Done takes the line of counts away.
func (d *Display) Done() { d.write(d.clear()) }

// counts refreshes the line of counts.
func (d *Display) counts(e Event) {
	width := d.Width
	if width <= 0 {
		width = 80
	}
	line := seconds(e.Elapsed) + "  " + e.Counts.String()
	line = line[:min(len(line), max(1, width-1))] // ASCII; a line that wraps could not be refreshed
	d.write(d.clear() + paint(d.Colour, dim, line))
	d.shown = true
}

// clear is what takes the line of counts away, if there is one.
func (d *Display) clear() string {
	if !d.shown {
		return ""
	}
	d.shown = false
	return "\r\x1b[K"
}

func (d *Display) write(s string) {
	if s != "" {
		_, _ = io.WriteString(d.W, s) // nobody is left to tell
	}
}

func colourOf(k EventKind) string {
	switch k {
	case EventBrokerKilled, EventReplicaKilled:
		return red
	case EventBrokerStarted, EventReplicaStarted:
		return green
	case EventProgress, EventPublished:
	}
	return yellow
}
