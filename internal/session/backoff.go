package session

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/oncemq/oncemq/qos"
)

const (
	backoffBase = 100 * time.Millisecond
	// eagerCap bounds the wait while an outage is young, lateCap after that. With
	// full jitter a server that is back is then found within 0.23 s in half of
	// the cases; with a second it would take 0.3 s, and leave no time to connect.
	eagerCap    = 800 * time.Millisecond
	eagerPeriod = 30 * time.Second
	lateCap     = 30 * time.Second
	// stableUptime is how long a connection must have lasted to count as
	// stable, if it moved no message.
	stableUptime = 5 * time.Second
	// pressedFactor times backoffBase is the least wait after the server said
	// that it is too much for it.
	pressedFactor = 10
)

// reconnect decides how long to wait before a connection attempt: not at all at
// first, then exponentially with full jitter. It starts over after a connection
// that was of use: one that moved a message or lasted. autopaho's own count
// starts over with every CONNACK, so that a server that accepts and drops would
// be asked hundreds of times a second.
//
// It is used by one goroutine, autopaho's.
type reconnect struct {
	eager, late *backoff.ExponentialBackOff
	tries       int
	since       time.Time     // of the first attempt of this outage
	pressure    time.Duration // the floor once the server said that it is too much
	floor       time.Duration
}

func newReconnect(base time.Duration) *reconnect {
	fullJitter := func(limit time.Duration) *backoff.ExponentialBackOff {
		b := backoff.NewExponentialBackOff()
		// The interval plus or minus all of it: uniform from zero to twice
		// the interval.
		b.InitialInterval, b.RandomizationFactor = base/2, 1
		b.Multiplier, b.MaxInterval = 2, limit/2
		b.Reset()
		return b
	}
	return &reconnect{eager: fullJitter(eagerCap), late: fullJitter(lateCap), pressure: pressedFactor * base}
}

// next is the wait before the next attempt.
func (r *reconnect) next(now time.Time) time.Duration {
	return r.floor + r.step(now)
}

func (r *reconnect) step(now time.Time) time.Duration {
	r.tries++
	if r.tries == 1 {
		r.since = now
		return 0
	}
	if now.Sub(r.since) < eagerPeriod {
		return r.eager.NextBackOff()
	}
	return r.late.NextBackOff()
}

// ended tells of a connection that was up and ended.
func (r *reconnect) ended(uptime time.Duration, progress bool) {
	r.floor = 0
	if !progress && uptime < stableUptime {
		return
	}
	r.eager.Reset()
	r.late.Reset()
	// One try has been made, as it were: the next one waits a little, so that
	// a server that drops every connection after a few packets is not hammered.
	r.tries, r.since = 1, time.Now()
}

// pressed tells that the server ended the connection because it has too much to
// do. Whatever the connection was good for, waits grow, from a second on.
func (r *reconnect) pressed() { r.floor = r.pressure }

// tooMuch tells whether the server ended the connection, or wants us elsewhere,
// for a reason that connecting again makes worse.
func tooMuch(cause error) bool {
	var d *DisconnectError
	if !errors.As(cause, &d) {
		return false
	}
	switch d.Code {
	case 0x89, 0x96, 0x97, 0x9F: // busy, message rate, quota, connection rate
		return true
	}
	return qos.ClassOf(qos.DISCONNECT, d.Code) == qos.Redirect
}
