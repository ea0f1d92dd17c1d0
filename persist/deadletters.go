package persist

import (
	"context"
	"time"
)

// Side tells which side gave a message up.
type Side uint8

// The two sides of a dead letter.
const (
	// SideOutbox: it could not be delivered to the broker, or no consumer
	// could process it.
	SideOutbox Side = iota + 1
	// SideConsumer: a consumer gave it up.
	SideConsumer
)

// String is "outbox" or "consumer".
func (s Side) String() string {
	switch s {
	case SideOutbox:
		return "outbox"
	case SideConsumer:
		return "consumer"
	}
	return "unknown"
}

// DeadLetter is a message that failed for good, kept with its reason.
type DeadLetter struct {
	// Number is the store's, increasing; zero in a letter that is to be added.
	Number int64
	Side   Side
	// State is StateFailed or StateExpired.
	State State
	// Ref is where the message was in the outbox (SideOutbox).
	Ref Ref
	// Group and Key are the subscriber group and dedup key (SideConsumer).
	Group, Key string
	Message    Message
	// ReasonCode is the MQTT reason code that decided it; zero if none did.
	ReasonCode byte
	// Reason says in words why.
	Reason string
	// Attempts counts as in [Entry]; a refusal for good is one of them.
	Attempts int
	// At is the store's time, in whole milliseconds.
	At time.Time
}

// DeadLetterFilter selects dead letters; a zero field selects all.
type DeadLetterFilter struct {
	Side    Side
	Group   string
	Numbers []int64
	// After skips letters up to that number: the cursor of a listing.
	After int64
}

// DeadLetters keeps what failed for good.
type DeadLetters interface {
	// AddDeadLetters stores letters, all or none [DEAD-1]. Completions and
	// settlements store theirs by themselves.
	AddDeadLetters(ctx context.Context, letters []DeadLetter) error

	// ListDeadLetters returns up to limit letters in the order of their
	// numbers. One whose message cannot be read comes with an empty message
	// and that reason [DEAD-2].
	ListDeadLetters(ctx context.Context, filter DeadLetterFilter, limit int) ([]DeadLetter, error)

	// RetryDeadLetters moves up to limit letters back into the outbox, as new
	// entries in the order of their numbers, under their old message IDs and
	// without expiry or delay, in one step [DEAD-3]. It tells how many it
	// moved. As in Enqueue, a message whose ID the outbox holds already is not
	// stored a second time, and the error wraps ErrOutboxFull if a limit does
	// not leave room for all. A message that came to its consumer without an ID
	// is given one. Letters whose message cannot be read stay.
	RetryDeadLetters(ctx context.Context, filter DeadLetterFilter, limit int) (int, error)

	// PurgeDeadLetters deletes up to limit letters and tells how many.
	PurgeDeadLetters(ctx context.Context, filter DeadLetterFilter, limit int) (int, error)
}
