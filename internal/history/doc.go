// Package history decides from a record of what was asked, answered and seen
// whether a message was lost, doubled, reordered, invented or stuck.
//
// The record is kept by an observer, a process that no fault touches, in a [Log]:
// a JSON object a line. An operation is begun by invoke and ends as ok (it
// happened), fail (it did not, and never will) or info (nobody knows: both are
// legal). What was seen, an effect for one, is ok from the start.
//
// A message is a [Value]: producer, key, and a sequence number that is dense for
// the two, so that a bitmap holds what is known of all of them.
//
// [Checker] holds the record against these invariants:
//
//	I1  every enqueue that was ok has an effect or a dead letter at the end
//	I2  no effect without an enqueue that may have happened
//	I3  one effect; in leased mode one more for each crash at most, and never
//	    two under one claim
//	I4  messages of a key come for the first time in the order of their numbers
//	I5  a claim has a higher fence than those before it, and only the latest
//	    claim of a key completes it
//	I6  receipts are of messages that had an effect; the outbox ends empty
//	I7  the packets keep to the specification, see [Wire]
//	I8  after the faults all comes to an end within a limit
//
// and against the balances of accounts, which know nothing of messages: each
// effect moves an amount from one to another.
package history
