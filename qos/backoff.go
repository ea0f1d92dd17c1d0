package qos

import (
	"math"
	"math/rand/v2"
	"time"
)

// The backoff of a policy that does not set one.
const (
	DefaultBackoffInitial = 100 * time.Millisecond
	DefaultBackoffMax     = 30 * time.Second
	DefaultBackoffFactor  = 2
)

// Backoff is how long to wait between the attempts of one message. The longest
// wait grows from Initial by Factor with each attempt up to Max; each wait is
// drawn between zero and the longest (full jitter), so that messages which were
// refused together do not come back together.
type Backoff struct {
	// Initial is the longest wait after the first refusal. Zero means
	// 100 ms, or Max if that is less. Too short a time hammers a server that
	// has just said that it has enough; too long a time delays what would
	// have passed at once.
	Initial time.Duration
	// Max is the longest wait there will be. Zero means 30 s, or Initial if
	// that is more. It bounds how late a message is noticed to be welcome
	// again, and how often a hopeless one is tried.
	Max time.Duration
	// Factor is by how much the longest wait grows each time, from 1 (it does
	// not) to 10. Zero means 2.
	Factor float64
}

// Ceiling is the longest wait after the given attempt: 1 for the first. Fields
// that are zero have their defaults. It is never negative and never more than
// Max, however high the attempt.
func (b Backoff) Ceiling(attempt int) time.Duration {
	b = b.withDefaults()
	ceiling := float64(b.Initial) * math.Pow(b.Factor, float64(max(attempt-1, 0)))
	if !(ceiling < float64(b.Max)) { // so that +Inf and NaN are Max too
		return max(b.Max, 0)
	}
	return max(time.Duration(ceiling), 0)
}

// Delay is the wait after the given attempt, 1 for the first: a random time
// from zero up to its [Backoff.Ceiling].
func (b Backoff) Delay(attempt int) time.Duration {
	ceiling := b.Ceiling(attempt)
	if ceiling == 0 {
		return 0
	}
	return rand.N(ceiling) //nolint:gosec // jitter needs no secrecy
}

func (b Backoff) withDefaults() Backoff {
	if b.Initial == 0 {
		b.Initial = DefaultBackoffInitial
		if b.Max != 0 {
			b.Initial = min(b.Initial, b.Max)
		}
	}
	if b.Max == 0 {
		b.Max = max(DefaultBackoffMax, b.Initial)
	}
	if b.Factor == 0 {
		b.Factor = DefaultBackoffFactor
	}
	return b
}

// maxFactor keeps Factor from being mistaken for a number of seconds.
const maxFactor = 10

func (b Backoff) faults() []*FieldError {
	var faults []*FieldError
	if b.Initial < 0 {
		faults = append(faults, &FieldError{"backoff.initial", negative(b.Initial)})
	}
	if b.Max < 0 {
		faults = append(faults, &FieldError{"backoff.max", negative(b.Max)})
	}
	if b.Initial > 0 && b.Max > 0 && b.Max < b.Initial {
		faults = append(faults, &FieldError{
			"backoff.max",
			b.Max.String() + " is less than backoff.initial, " + b.Initial.String() + "; raise it to that at least, or lower backoff.initial",
		})
	}
	// Written so that NaN is refused as well.
	if b.Factor != 0 && !(b.Factor >= 1 && b.Factor <= maxFactor) {
		faults = append(faults, &FieldError{
			"backoff.factor", formatFloat(b.Factor) + " is out of range; write 1 to 10, or 0 for the default of 2",
		})
	}
	return faults
}
