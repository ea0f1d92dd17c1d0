// Package effects is how it is counted what was lost and what was doubled: handlers
// write a row for each message that they process into a table without a unique
// constraint, which would hide that a message was processed twice, and the rows are
// held against what was enqueued.
package effects

// Tally is the verdict on the effects.
type Tally struct {
	Effects int // rows
	Lost    int // enqueued messages without a row
	Doubled int // rows beyond the first of an enqueued message
	Unknown int // rows of a message that nobody enqueued
}

// Judge compares what was enqueued with what had an effect, by message IDs.
func Judge(enqueued, effects []string) Tally {
	t := Tally{Effects: len(effects)}
	rows := make(map[string]int, len(enqueued))
	for _, id := range enqueued {
		rows[id] = 0
	}
	for _, id := range effects {
		n, known := rows[id]
		switch {
		case !known:
			t.Unknown++
			continue
		case n > 0:
			t.Doubled++
		}
		rows[id] = n + 1
	}
	for _, n := range rows {
		if n == 0 {
			t.Lost++
		}
	}
	return t
}
