// Package demo shows what oncemq promises while everything around it dies: it
// publishes messages with receipts to two subscriber replicas of one group
// through a broker that is killed and comes back with everything forgotten, and
// counts what was lost and what was doubled.
//
// # What runs where
//
// The broker (mochi-mqtt) and the publisher run in the calling process; each
// replica is a process of its own, so that it can be killed for real. All files
// are in one folder: outbox.db is the publisher's, replicas.db is the replicas'
// dedup state together with the table of effects.
//
// # Why it can fail
//
// Nothing is lost or doubled by chance. Before each kill the packets from the
// replicas to the broker are held up, so that the broker holds messages that it
// has acknowledged and not passed on, and the replicas have effects that nobody
// has been told of. Take away the receipts, and what the broker held is lost;
// take away the dedup, and what was sent again has a second effect: see
// [Sabotage].
//
// # What is counted
//
// An effect is a row of a table without a unique constraint, which a handler
// writes. Lost are the message IDs that Enqueue returned and that have no row;
// doubled are the rows beyond the first of an ID.
package demo
