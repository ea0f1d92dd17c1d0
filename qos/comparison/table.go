package comparison

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/oncemq/oncemq/qos"
)

// The colours of a terminal (ECMA-48).
const (
	red   = "31"
	green = "32"
	bold  = "1"
)

// table writes rows of a name and a column for each level, 40 columns wide at most.
type table struct {
	bytes.Buffer
	colour bool
}

// left and right pad a text to a width.
func left(s string, width int) string  { return fmt.Sprintf("%-*s", width, s) }
func right(s string, width int) string { return fmt.Sprintf("%*s", width, s) }

func (t *table) paint(code, s string) string {
	if !t.colour || code == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

const (
	nameWidth  = 16
	valueWidth = 8
)

func (t *table) title(s string) {
	t.WriteString(t.paint(bold, left(s, nameWidth)))
}

func (t *table) row(name string, code func(string) string, values ...string) {
	t.WriteString(left(name, nameWidth))
	for _, v := range values {
		padded := right(v, valueWidth)
		if code != nil {
			padded = t.paint(code(v), padded)
		}
		t.WriteString(padded)
	}
	t.WriteByte('\n')
}

func (t *table) heads(levels []qos.Level) {
	for _, l := range levels {
		t.WriteString(right("QoS "+l.String(), valueWidth))
	}
	t.WriteByte('\n')
}

// WriteTable writes the results of one link, a column for each.
func WriteTable(w io.Writer, results []*Result, colour bool) error {
	t := table{colour: colour}
	t.title(results[0].Link + " link")
	levels := make([]qos.Level, len(results))
	for i, r := range results {
		levels[i] = r.Level
	}
	t.heads(levels)
	row := func(name string, code func(string) string, value func(*Result) string) {
		values := make([]string, len(results))
		for i, r := range results {
			values[i] = value(r)
		}
		t.row(name, code, values...)
	}
	number := func(name string, code func(string) string, value func(*Result) int) {
		row(name, code, func(r *Result) string { return strconv.Itoa(value(r)) })
	}
	number("sent", nil, func(r *Result) int { return r.Sent })
	number("confirmed", nil, func(r *Result) int { return r.Confirmed })
	for _, k := range kinds() {
		row("  "+k.name, nil, func(r *Result) string {
			c := r.Kinds[k.name]
			return fmt.Sprintf("%d/%d", c.Confirmed, c.Sent)
		})
	}
	number("pending", someIs(red), func(r *Result) int { return r.Pending })
	number("lost", someIs(red), func(r *Result) int { return r.Lost })
	number("duplicates", nil, func(r *Result) int { return r.Duplicates })
	number("connections", nil, func(r *Result) int { return r.Connections })
	number("PUBLISH", nil, func(r *Result) int { return r.Packets.Publish })
	number("handshake", nil, func(r *Result) int { return r.Handshake })
	number("retransmitted", nil, func(r *Result) int { return r.Retransmissions })
	latency := func(name string, of func(*Result) *Latency) {
		t.WriteString(name + "\n")
		for _, p := range []struct {
			name string
			of   func(*Latency) float64
		}{
			{"  p50", func(l *Latency) float64 { return l.P50 }},
			{"  p95", func(l *Latency) float64 { return l.P95 }},
			{"  p99", func(l *Latency) float64 { return l.P99 }},
		} {
			row(p.name, nil, func(r *Result) string {
				if l := of(r); l != nil {
					return milliseconds(p.of(l))
				}
				return "-"
			})
		}
	}
	latency("latency, ms, to the subscriber", func(r *Result) *Latency { return r.Latency })
	latency("latency, ms, to the acknowledgement", func(r *Result) *Latency { return r.Answer })
	_, err := w.Write(t.Bytes())
	return err
}

// someIs colours what is not zero.
func someIs(code string) func(string) string {
	return func(v string) string {
		if v == "0" {
			return ""
		}
		return code
	}
}

// milliseconds is a latency in at most seven characters.
func milliseconds(ms float64) string {
	switch {
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 2, 64)
	case ms < 100:
		return strconv.FormatFloat(ms, 'f', 1, 64)
	}
	return strconv.FormatFloat(ms, 'f', 0, 64)
}

// WriteSessions writes the results of one kind of session, a column for each.
func WriteSessions(w io.Writer, results []*SessionResult, colour bool) error {
	t := table{colour: colour}
	title := "with a persistent session"
	if results[0].Session == NoSession {
		title = "without a session"
	}
	t.title(title)
	t.WriteByte('\n')
	t.WriteString("session present on return: ")
	if results[0].Present {
		t.WriteString(t.paint(green, "yes") + "\n")
	} else {
		t.WriteString("no\n")
	}
	t.WriteString(left("received/sent", nameWidth))
	levels := make([]qos.Level, len(results))
	for i, r := range results {
		levels[i] = r.Level
	}
	t.heads(levels)
	for _, phase := range []struct {
		name string
		of   func(*SessionResult) Got
	}{
		{"while connected", func(r *SessionResult) Got { return r.Connected }},
		{"while away", func(r *SessionResult) Got { return r.Away }},
		{"after return", func(r *SessionResult) Got { return r.Returned }},
	} {
		values := make([]string, len(results))
		for i, r := range results {
			got := phase.of(r)
			values[i] = fmt.Sprintf("%d/%d", got.Received, got.Sent)
		}
		t.row(phase.name, nil, values...)
	}
	values := make([]string, len(results))
	for i, r := range results {
		values[i] = strconv.Itoa(r.Lost)
	}
	t.row("lost", someIs(red), values...)
	_, err := w.Write(t.Bytes())
	return err
}
