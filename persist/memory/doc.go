// Package memory keeps a store in the memory of the process, for tests and for
// throwaway use.
//
// # What it survives
//
// Nothing. A message that was accepted is gone when the process ends, crashes
// or closes the store; what [persist.Outbox] calls durable lasts exactly as
// long as the [Store] does. Every other rule of package persist holds, so code
// that is tested against this store meets the same order, leases, fences and
// answers as with one that keeps its promises on disk.
//
// # What it costs
//
// A few hundred bytes a message beside its payload, which is not copied: as
// package persist says, neither side changes a message after it was handed over.
// There is no goroutine and nothing to wait for; a cancelled context is
// noticed when a call begins.
package memory
