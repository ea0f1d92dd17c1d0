// Package persist is the storage contract of oncemq: what a backend keeps, in
// which steps, and what is true after each of them.
//
// # What a store promises
//
// A [Store] keeps an outbox (messages accepted and not yet acknowledged by the
// broker), the processed keys that subscriber replicas share, the packet state
// of MQTT sessions, and dead letters. Every method that changes something
// returns nil only once the change would survive what the backend claims to
// survive: for sqlite with its default settings, the loss of power; for memory,
// nothing but the call's return.
//
// # Rules
//
// The rules are numbered ([OUTBOX-3]) where they are documented, and the
// suite in persisttest carries the same numbers. In short:
//
//   - Time is the store's. A lease ends, a window closes and a message expires
//     by the clock of the store, never by a caller's.
//   - Order is the store's. A position in a lane is given out at commit, and
//     no caller's clock takes part in it.
//   - A holder is fenced. Whatever is done under a lease carries the epoch of
//     that lease, and is refused with [ErrLeaseLost] once a newer epoch exists.
//   - A batch is atomic. A slice method does all of it or nothing, unless its
//     comment says that members are answered one by one.
//   - An error tells the truth. If a change may or may not have happened the
//     error wraps [ErrUnknownOutcome]; with every other error it did not happen.
//
// # Crashes
//
// A process that dies holds its leases until they end; nothing else of it
// remains. No method needs to be called for a store to be sound after kill -9.
package persist
