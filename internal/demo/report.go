package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/oncemq/oncemq/fault/drill"
)

// WriteTable writes the counts, a row each with what it means, and the verdict.
// With colour the verdict stands out.
func (r *Result) WriteTable(w io.Writer, colour bool) error {
	var out bytes.Buffer
	table := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
	for _, row := range r.rows() {
		if _, err := fmt.Fprintf(table, "%s\t%9s\t%s\n", row.name, thousands(row.n), row.meaning); err != nil {
			return err
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	code := red
	if r.OK {
		code = green
	}
	fmt.Fprintf(&out, "\n%s\n", paint(colour, code, r.Verdict()))
	_, err := w.Write(out.Bytes())
	return err
}

// WriteJSON writes the result as one object on one line.
func (r *Result) WriteJSON(w io.Writer) error { return json.NewEncoder(w).Encode(r) }

type row struct {
	name    string
	n       int
	meaning string
}

func (r *Result) rows() []row {
	rows := []row{
		{"enqueued", r.Enqueued, "stored by the publisher"},
		{"delivered", r.Delivered, "acknowledged by the broker, at least once: the broker's word"},
		{"acknowledged", r.Acknowledged, "answered by a replica's receipt: the consumer's word"},
		{"redelivered on the wire", r.Redelivered, "copies that the broker sent beyond the first of each message"},
		{"duplicates suppressed", r.DuplicatesSuppressed, "copies that a replica recognised and did not process"},
		{"effects", r.Effects, "rows that the replicas' handlers wrote"},
		{"lost", r.Lost, "messages that were enqueued and have no effect"},
		{"doubled", r.Doubled, "effects beyond the first of a message"},
	}
	if r.Open > 0 {
		rows = append(rows, row{"in the outbox", r.Open, "not finished when the demo stopped waiting"})
	}
	if r.Unknown > 0 {
		rows = append(rows, row{"unknown", r.Unknown, "effects of messages that nobody enqueued"})
	}
	return rows
}

// Verdict says in a sentence or two how it went.
func (r *Result) Verdict() string {
	var b strings.Builder
	switch {
	case r.Enqueued < r.Messages || r.TimedOut:
		fmt.Fprintf(&b, "Stopped before the end: %s lost, %s doubled so far", thousands(r.Lost), thousands(r.Doubled))
	case r.OK:
		b.WriteString("Nothing lost, nothing doubled")
	default:
		fmt.Fprintf(&b, "%s lost, %s doubled", thousands(r.Lost), thousands(r.Doubled))
	}
	fmt.Fprintf(&b, "; the broker was killed %s, a replica %s; %.1f s, seed %d.",
		times(r.BrokerKills), times(r.ReplicaKills), r.Seconds, r.Seed)
	switch r.Sabotage {
	case drill.Sabotage{Receipts: true}:
		b.WriteString("\nThat was without receipts.")
	case drill.Sabotage{Dedup: true}:
		b.WriteString("\nThat was without dedup.")
	case drill.Sabotage{Receipts: true, Dedup: true}:
		b.WriteString("\nThat was without receipts and without dedup.")
	}
	return b.String()
}

// Intro says what the demo is going to do with these options, in a few lines.
func (o Options) Intro() string {
	o = o.withDefaults()
	var b strings.Builder
	fmt.Fprintf(&b, "%s messages go through a broker to two replicas of one subscriber group.\n", thousands(o.Messages))
	fmt.Fprintf(&b, "The broker is killed %s and comes back with everything forgotten; one replica is\n", times(o.Kills))
	b.WriteString("killed (SIGKILL) and started again.\n")
	if o.Sabotage.Receipts {
		b.WriteString("Sabotage: no message asks for a receipt. The publisher lets go of a message when the\n" +
			"broker has acknowledged it, and what the broker then forgets is gone.\n")
	} else {
		b.WriteString("The publisher keeps each message in SQLite until a replica's receipt says that it was\n" +
			"processed, and sends it again if none comes.\n")
	}
	if o.Sabotage.Dedup {
		b.WriteString("Sabotage: the replicas share no memory of what was processed. A message that arrives\n" +
			"twice has two effects.\n")
	} else {
		b.WriteString("The replicas share one SQLite database: a handler's effect and the mark that the\n" +
			"message was processed commit together, so a copy of it is recognised.\n")
	}
	return b.String()
}

// text is an event in words; empty for progress.
func (e *Event) text(kills int) string {
	switch e.Kind {
	case EventBrokerKilled:
		return fmt.Sprintf("broker killed (%d of %d) with %s messages that it had acknowledged and sent to nobody",
			e.Number, kills, thousands(e.Held))
	case EventBrokerStarted:
		return "broker started again, empty"
	case EventReplicaKilled:
		return fmt.Sprintf("%s killed with %s messages that it had not acknowledged", e.Replica, thousands(e.Held))
	case EventReplicaStarted:
		return e.Replica + " started again"
	case EventPublished:
		return "all messages are enqueued; waiting for the last receipts and copies"
	case EventProgress:
	}
	return ""
}

func (c *Counts) String() string {
	broker := "up  "
	if !c.Connected {
		broker = "down"
	}
	return fmt.Sprintf("broker %s  enqueued %s  delivered %s  acknowledged %s  duplicates %s  effects %s",
		broker, thousands(c.Enqueued), thousands(c.Delivered), thousands(c.Acknowledged),
		thousands(c.Duplicates), thousands(c.Effects))
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return strconv.Itoa(n) + " times"
}

// thousands is a number with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func seconds(d time.Duration) string { return fmt.Sprintf("%5.1f s", d.Seconds()) }
