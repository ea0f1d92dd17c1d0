package dedup

// Stats are counters since New, and gauges. Every delivery that was received and
// is not Open was counted under exactly one of Processed, Dead, Duplicates and
// Released.
type Stats struct {
	// Received counts the deliveries that Submit accepted.
	Received int64
	// Unkeyed counts those among them that had no key.
	Unkeyed int64
	// Processed counts the deliveries whose mark became durable.
	Processed int64
	// Dead counts those that became dead letters.
	Dead int64
	// Duplicates counts those whose key another delivery had completed.
	Duplicates int64
	// Released counts those that were given back undecided.
	Released int64
	// Lost counts the claims that passed to another, or may have, while they
	// were in work here.
	Lost int64
	// Forgotten counts the keys whose window had closed and that this replica
	// removed from the store.
	Forgotten int64

	// Open is how many deliveries are not settled now.
	Open int64
	// Held is how many keys are busy elsewhere, and waited for.
	Held int
	// StoreError is the last error of the store, or nil if it answers.
	StoreError error
}

// counters are the counting part of Stats.
type counters struct {
	received, unkeyed, lost, forgotten int64
	outcomes                           [OutcomeReleased + 1]int64
}

func (c *counters) stats() Stats {
	s := Stats{
		Received:   c.received,
		Unkeyed:    c.unkeyed,
		Processed:  c.outcomes[OutcomeProcessed],
		Dead:       c.outcomes[OutcomeDead],
		Duplicates: c.outcomes[OutcomeDuplicate] + c.outcomes[OutcomeDuplicateDead],
		Released:   c.outcomes[OutcomeReleased],
		Lost:       c.lost,
		Forgotten:  c.forgotten,
	}
	s.Open = s.Received - s.Processed - s.Dead - s.Duplicates - s.Released
	return s
}
