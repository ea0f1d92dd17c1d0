package brokertest

import "context"

// TB is what the scripted side needs of a testing.TB. The broker that runs by itself is
// part of programs, which have no use for package testing.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(f func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}
