// Package postgres keeps a store in a schema of a PostgreSQL database, for any
// number of processes on any number of machines.
//
//	store, err := postgres.Open(ctx, "postgres://app@db.example/app", postgres.Options{})
//
// or with a pool that the program has already:
//
//	store, err := postgres.New(ctx, pool, postgres.Options{})
//
// and then, in a transaction of the program, beside its own rows:
//
//	tx, err := pool.Begin(ctx)
//	...
//	_, err = store.WithTx(tx).Enqueue(ctx, msgs)
//
// It needs PostgreSQL 13 or later.
//
// # What it survives
//
// A change that returned nil was committed, and survives what the server's
// commits survive: with fsync and synchronous_commit on, which is PostgreSQL's
// default, the loss of power; the loss of the machine only with a synchronous
// standby. [Store.Durability] says it for the server as it is set up.
//
// # Round trips
//
// Each call is one transaction in one round trip, whatever the number of messages
// or keys in it; only limits and the moving of dead letters take more. Concurrent
// calls of Enqueue share a commit: while one is under way the next ones gather.
//
// # Connections
//
// Nothing depends on which connection a call gets: leases are rows, there are no
// session locks and no settings that outlive a transaction. So a pooler such as
// PgBouncer in transaction mode may stand between. One is recognised when the
// store opens, and prepared statements are not used then. Wake-ups between
// processes (LISTEN) need a connection of their own, which a pooler does not
// give; behind one, processes learn of each other's messages when they poll.
//
// # Rights
//
// Creating or migrating the schema needs the right to create in the database.
// After that a role needs USAGE on the schema, on its sequences and EXECUTE on
// now_ms, and SELECT, INSERT, UPDATE and DELETE on the tables.
//
// # Crashes
//
// A process may be killed at any time, and so may the server. What was confirmed
// is there; what was not confirmed is there in whole or not at all. If a
// connection breaks while a change is under way, the error wraps
// [persist.ErrUnknownOutcome], and nothing is repeated that may have happened.
package postgres
