package dedup

import (
	"errors"
	"fmt"
	"time"
)

// A key is remembered until its message would be refused as too old. That is
// what makes the window a promise and not a matter of luck:
//
//   - A message that was first sent at s is not admitted from
//     s + Window + ClockSkew on, by the store's clock.
//   - A key that is completed at c is remembered until
//     c + Window + ClockSkew + (s − c, if that is positive).
//
// The second is never before the first, whatever s is. So a message that comes
// again is a duplicate for as long as it is admitted, and no disagreement of
// the publishers' clocks makes it run twice: a clock that is behind has the
// message refused early, from ClockSkew on, and one that is ahead has its key
// remembered for longer.

// ErrTooOld is matched by a [TooOldError].
var ErrTooOld = errors.New("message is outside of the dedup window")

// TooOldError tells that a message came when its key may have been forgotten, so
// that nobody knows whether it was processed before. It matches ErrTooOld.
type TooOldError struct {
	// Sent is when the message was first sent, by its publisher's clock.
	Sent time.Time
	// Now is the store's time at which it was refused.
	Now time.Time
	// Window is the dedup window.
	Window time.Duration
}

// Error is one line that names the times.
func (e *TooOldError) Error() string {
	sent := e.Sent.UTC().Format(time.RFC3339)
	if e.Sent.After(e.Now) {
		return fmt.Sprintf("publisher's clock is ahead by more than the dedup window: first sent %s, now %s, window %s",
			sent, e.Now.UTC().Format(time.RFC3339), e.Window)
	}
	return fmt.Sprintf("older than the dedup window: first sent %s, window %s", sent, e.Window)
}

// Is makes every TooOldError match ErrTooOld.
func (e *TooOldError) Is(target error) bool { return target == ErrTooOld }

// admission decides which messages are too old, and how long keys are kept.
type admission struct {
	window, skew time.Duration
	clock        storeClock
}

// check returns an error if a message that was sent at that time must not be
// processed as if it were new. own is the consumer's time, after the store has
// answered that the key is not known.
func (a *admission) check(sent time.Time, own time.Duration) *TooOldError {
	if sent.IsZero() {
		return nil
	}
	now := a.clock.latest(own)
	if now.Before(sent.Add(a.window+a.skew)) && !sent.After(now.Add(a.window)) {
		return nil
	}
	return &TooOldError{Sent: sent, Now: now, Window: a.window}
}

// retention is for how long a key is remembered, if none in the call was sent
// later than newest. own is the consumer's time before the call. A clock that
// is too far ahead for its message to be processed does not have it remembered
// for ever.
func (a *admission) retention(newest time.Time, own time.Duration) time.Duration {
	keep := a.window + a.skew
	if newest.IsZero() {
		return keep
	}
	return keep + min(max(0, newest.Sub(a.clock.earliest(own))), a.window)
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
