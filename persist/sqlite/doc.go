// Package sqlite keeps a store in one SQLite file, without cgo.
//
//	store, err := sqlite.Open(ctx, "/var/lib/app/outbox.db", sqlite.Options{})
//
// or, in a database that the program has already, so that a message is enqueued
// in the same transaction as the program's own rows:
//
//	store, err := sqlite.New(ctx, db, sqlite.Options{})
//	...
//	tx, err := db.BeginTx(ctx, nil)
//	...
//	_, err = store.WithTx(tx).Enqueue(ctx, msgs)
//
// # What it survives
//
// With the default settings a change that returned nil survives the loss of
// power, as far as the disk keeps what fdatasync has confirmed. Leases of lanes
// and claims of keys are the exception: they survive the death of the process,
// not that of the machine, because all who could hold them die with the
// machine. [Store.Durability] says it for a store as it is set up.
//
// # Commits are shared
//
// One goroutine writes. While it commits, calls queue up; it takes all of them
// into the next transaction. So a hundred goroutines that enqueue one message
// each wait for few fsyncs, not for a hundred, and nobody waits for a timer. A
// call that fails in a shared transaction does not take the others with it: the
// transaction is undone, and each call runs in one of its own.
//
// Several processes may use one file, over a local file system. Each has its
// own writer, and SQLite's locks order them.
//
// # Crashes
//
// A process may be killed at any time. What was confirmed is there, what was
// not confirmed is there in whole or not at all; positions have no gaps.
package sqlite
