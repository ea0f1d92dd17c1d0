// Package dedup is the idempotent consumer: it decides, for a group of replicas
// that share one store, which delivery of a message is processed, and which one
// is a duplicate.
//
// # What is promised
//
// Leased mode ([Consumer]): a message whose key was completed is not granted to
// any replica of the group again within the window, and a key in work is granted
// to nobody else while its lease is renewed. A handler that crashed after its
// effect and before its completion was durable runs again: effects happen at
// least once, and more than once only after a crash or a lost lease.
//
// Transactional mode ([TxConsumer]): the handler's writes and the mark commit in
// one transaction of the store's database. Each effect in that database happens
// exactly once, even when a replica is paused past any lease and wakes up.
//
// In both modes a message that was first sent longer ago than keys are remembered,
// and whose key is not known, is not processed as if it were new ([TooOldError]).
// What makes the window sound is written down in admission.go.
//
// In both modes the answer Settled comes only once the mark (or the dead letter)
// is durable, and only then may the broker get its acknowledgement. A message
// without a key is processed without dedup, and counted as such.
//
// # The way of one delivery
//
//	Submit → claim → Granted → (handler) → Complete → mark durable → Settled
//
// A delivery whose key was completed goes from the claim to Settled at once. One
// whose key is in work elsewhere is held, un-acked, and claimed again until that
// is decided. One whose key is in work in this process is attached to the
// delivery that came first, and decided with it.
//
// # Goroutines
//
// A Consumer owns six goroutines, however many deliveries are under way: one
// claims, one completes and releases, one renews, one sweeps keys whose window
// has closed, one reports the store's state, and one keeps the time for all
// others and never calls the store. Each store call takes everything that queued
// up while the one before it ran, so that batches fill under load and nothing
// waits when there is none. [Consumer.Close] joins all of them.
//
// # Calls whose outcome is unknown
//
// A completion is repeated with the same claim, which a store takes as once. A
// claim is asked for again, and what the lost answer had granted is recognised by
// its owner if the store tells the owner of a busy key ([persist.Claim]); else the
// key is held until that lease ends: correct, and slow. A release is repeated
// until the store answers, and its key is not claimed again before that.
//
// # Crashes
//
// A process that dies holds its claims until their leases end; then other
// replicas get them. Nothing needs to be called for the store to be sound.
package dedup
