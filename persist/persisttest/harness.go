package persisttest

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// T is what the suite needs of a test. Beside *testing.T, something that only
// records failures is one, so that the suite itself can be tested.
type T interface {
	Helper()
	Errorf(format string, args ...any)
	FailNow()
	Cleanup(func())
	Context() context.Context
	// TempDir makes a folder that is removed after the test.
	TempDir() string
}

// Options are what a case asks of its store.
type Options struct {
	// Lanes is the number of lanes, from 1.
	Lanes int
	// Limits are those of the outbox.
	Limits persist.Limits
}

// Harness tells the suite how to get a backend's stores, and what they can do.
type Harness struct {
	// New makes a place for one store that nothing else uses: a file, a schema,
	// a prefix. What must be cleaned up is registered with t. It is called by
	// parallel tests.
	New func(t T, opts Options) Backend

	// Durable: what was committed is there when the store is opened again.
	Durable bool
	// Shared: several handles may be open on one store at the same time, as
	// in several processes. A crash is then a handle that is not closed before
	// the next is opened; without it, the suite closes the one first.
	Shared bool
	// FrozenClock: the store's time stands still but for Advance. Without it
	// the suite allows for the time that the test takes.
	FrozenClock bool
	// Notifies: the store implements persist.Notifier.
	Notifies bool
	// Transacts: the store implements persist.TxJoiner and persist.TxProcessor,
	// and the backend TxBackend.
	Transacts bool
	// Corrupts: the backend implements Corrupter.
	Corrupts bool
}

// Backend is the place of one store.
type Backend interface {
	// Open opens the store, or one more handle of it where the harness says
	// Shared. The suite closes every handle before the test ends.
	Open(ctx context.Context) (persist.Store, error)
	// Advance moves the clock of the store, and of all its handles: forward, or
	// back if d is negative.
	Advance(d time.Duration)
}

// Corrupter is implemented by backends whose stored bytes can be damaged.
type Corrupter interface {
	// CorruptMessage makes one message of the outbox unreadable.
	CorruptMessage(ctx context.Context, ref persist.Ref) error
	// CorruptDeadLetter makes the message of one dead letter unreadable.
	CorruptDeadLetter(ctx context.Context, number int64) error
	// CorruptSession makes the packet state of one client ID unreadable.
	CorruptSession(ctx context.Context, clientID string) error
}
