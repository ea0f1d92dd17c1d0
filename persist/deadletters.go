package persist

import (
	"context"
	"math"
	"slices"
	"strconv"
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
	// Message is the whole message. Its Expiry is the one that it had when it was
	// enqueued, or received.
	Message Message
	// ReasonCode is the MQTT reason code that decided it; zero if none did.
	ReasonCode byte
	// Reason says in words why.
	Reason string
	// Attempts counts as in [Entry]; a refusal for good is one of them.
	Attempts int
	// First and Last are the first and the last error of the message; zero if none
	// is known, as of one that expired before anybody tried. A letter of the outbox
	// has them from the settlements; of one that is added they are kept as they are.
	First, Last Failure
	// At is the store's time, in whole milliseconds.
	At time.Time
}

// Failure is an error of a message.
type Failure struct {
	// Error is what went wrong, in words.
	Error string
	// At is when, by the store's clock, in whole milliseconds.
	At time.Time
}

// DeadLetterFilter selects dead letters; a zero field selects all.
type DeadLetterFilter struct {
	Side  Side
	Group string
	// Numbers are those wanted. Nil selects all; a list without numbers none.
	Numbers []int64
	// After skips letters up to that number: the cursor of a listing.
	After int64
	// ReasonCodes are those wanted; nil selects all.
	ReasonCodes []byte
	// OlderThan selects letters that have been there for that long, by the store's
	// clock. Counted in milliseconds.
	OlderThan time.Duration
}

// Range is for those who write stores: the letters that the filter selects have numbers
// above after, and up to last.
func (f *DeadLetterFilter) Range() (after, last int64) {
	after, last = f.After, math.MaxInt64
	if f.Numbers == nil {
		return after, last
	}
	if len(f.Numbers) == 0 {
		return after, math.MinInt64
	}
	if first := slices.Min(f.Numbers); first > after {
		after = first - 1
	}
	return after, slices.Max(f.Numbers)
}

// Retry is a dead letter that is to go back into the outbox.
type Retry struct {
	// Number is the letter's.
	Number int64
	// Message is what is stored in its place: the letter's message, as it was or
	// changed. If it has no ID it is given one, which is made of the store's
	// identity and the letter's number.
	Message Message
	// KeepMark leaves the mark of a consumer's letter alone: for a message that was
	// changed so that its dedup key is another.
	KeepMark bool
}

// Retry is the letter's retry as it is: its message, under its old ID unless that
// is too long for the outbox, without expiry and delay.
func (d *DeadLetter) Retry() Retry {
	r := Retry{Number: d.Number, Message: d.Message}
	r.Message.Expiry, r.Message.Delay = 0, 0
	if len(r.Message.ID) > MaxMessageID { // of a publisher elsewhere
		r.Message.ID = ""
	}
	return r
}

// Retried is the answer for one [Retry].
type Retried struct {
	Enqueued
	// Gone tells that there is no letter of that number any more: nothing was
	// stored for it.
	Gone bool
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

	// RetryDeadLetters moves letters back into the outbox, as new entries in the
	// order of retries, in one step, and answers one by one in that order [DEAD-3].
	// As in Enqueue, a message whose ID the outbox holds already is not stored a
	// second time, and the error wraps ErrOutboxFull if a limit does not leave room
	// for all, or ErrInvalid for a message that cannot be stored or a number that
	// occurs twice; nothing is moved then. They supersede nothing: what failed is
	// older than what waits.
	//
	// In the same step the group of a consumer's letter forgets that it has
	// completed the key with a dead letter, so that the message is processed once
	// more [DEAD-4]. A key that was processed since stays, and so do those of other
	// groups.
	RetryDeadLetters(ctx context.Context, retries []Retry) ([]Retried, error)

	// PurgeDeadLetters deletes up to limit letters and tells how many. One whose
	// message cannot be read is deleted as any other [DEAD-2].
	PurgeDeadLetters(ctx context.Context, filter DeadLetterFilter, limit int) (int, error)
}

// GetDeadLetter returns the letter of a number; the error wraps ErrNotFound if
// there is none.
func GetDeadLetter(ctx context.Context, store DeadLetters, number int64) (DeadLetter, error) {
	letters, err := store.ListDeadLetters(ctx, DeadLetterFilter{Numbers: []int64{number}}, 1)
	if err == nil && len(letters) == 0 {
		err = &Error{Op: "get", Object: "dead letter " + strconv.FormatInt(number, 10), Kind: ErrNotFound}
	}
	if err != nil {
		return DeadLetter{}, err
	}
	return letters[0], nil
}
