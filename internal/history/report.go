package history

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Report is what a checker found.
type Report struct {
	// Messages counts enqueues that were ok, Unknown those of which nobody
	// knows, Failed those that did not happen.
	Messages, Unknown, Failed int
	// Arrivals counts first arrivals, Repeated the others.
	Arrivals, Repeated int
	// Effects counts all of them, Extra those beyond the first of a message,
	// Crashes what may have caused these in leased mode.
	Effects, Extra, Crashes int
	// Dead counts dead letters, Acknowledged receipts.
	Dead, Acknowledged int
	// Faults counts by kind.
	Faults map[string]int

	// Violations by invariant: how many, and in words the first of each.
	Lost, Ghosts, Doubled, Reordered, Fences, Receipts, Wire, Stuck, Unbalanced int
	Words                                                                       []string
}

// Total is how many faults there were.
func (r *Report) Total() (n int) {
	for _, c := range r.Faults {
		n += c
	}
	return n
}

// Err is nil if nothing was found.
func (r *Report) Err() error {
	if len(r.Words) == 0 {
		return nil
	}
	return errors.New("history: " + strings.Join(r.Words, "\n"))
}

// String is the report on one line.
func (r *Report) String() string {
	var faults []string
	for _, kind := range slices.Sorted(maps.Keys(r.Faults)) {
		faults = append(faults, fmt.Sprintf("%s %d", kind, r.Faults[kind]))
	}
	return fmt.Sprintf("%d messages (%d unknown, %d failed), %d faults (%s), %d wire duplicates, %d extra effects, %d dead; "+
		"lost %d, doubled %d, reordered %d, ghosts %d, fences %d, receipts %d, wire %d, stuck %d, unbalanced %d",
		r.Messages, r.Unknown, r.Failed, r.Total(), strings.Join(faults, ", "), r.Repeated, r.Extra, r.Dead,
		r.Lost, r.Doubled, r.Reordered, r.Ghosts, r.Fences, r.Receipts, r.Wire, r.Stuck, r.Unbalanced)
}
