// Package drill puts a publisher and a group of two subscribers through a scenario of
// faults (package fault), and counts what was lost and what was doubled.
//
// The publisher has an outbox, the subscribers have one memory of what was processed,
// on a store of the caller's choice, in a space of its own that is removed in the
// end. Both connect to the broker through a proxy each, which is struck by the
// scenario while they work. Where the broker itself forgets, messages ask for receipts.
//
// # What is counted
//
// An effect is a row of a table without a unique constraint, which a handler writes: in
// the transaction of the mark where the store has such, else before the mark, into a
// table of SQLite. Lost are the message IDs that Enqueue returned and that have no
// row; doubled are the rows beyond the first of an ID. Copies on the wire are counted by
// the proxy.
//
// # Why it can fail
//
// Take away the receipts, and what the broker has forgotten is lost; take away the
// dedup, and what came again has a second effect: see [Options.Sabotage].
package drill
