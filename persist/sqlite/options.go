package sqlite

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Options tune a store. The zero value is the default.
type Options struct {
	// Lanes is the number of lanes, 1 to 64, which is how many relays can
	// drain the outbox at the same time. It is fixed when the store is created:
	// another number later is refused with persist.ErrInvalid, since it would
	// change the lane, and so the order, of keys. Zero is 1 for a new store and
	// whatever an existing one has.
	Lanes int

	// Synchronous tells when a commit counts as done. The zero value is
	// SynchronousFull.
	Synchronous Synchronous

	// BusyTimeout is how long to wait for another process, or another
	// transaction of this one, that holds the write lock. When it is over the
	// call fails with persist.ErrUnavailable. Zero is 5 s; 1 ms to 24 h.
	BusyTimeout time.Duration

	// MaxMessages is how many messages the outbox takes, pending and delivered
	// ones together; beyond, Enqueue fails with persist.ErrOutboxFull or drops
	// [persist.Message.Droppable] messages. Zero is no limit.
	MaxMessages int
	// MaxBytes is the same for the bytes of messages as they are stored, and
	// MaxAge how old a pending message may get; see [persist.Limits].
	MaxBytes int64
	MaxAge   time.Duration

	// Prefix begins the names of the tables, so that a store fits into a
	// database with others. Lower-case letters, digits and underscores, no
	// digit first, at most 31, not "sqlite_". Empty is "oncemq_".
	Prefix string

	// Clock is the store's clock; nil is time.Now. For tests.
	Clock func() time.Time

	// Logger gets what has no caller to tell it to, a quarantined message for
	// one. Nil discards it.
	Logger *slog.Logger
}

// Synchronous tells when a commit counts as done.
type Synchronous int

const (
	// SynchronousFull waits for fdatasync: a commit survives the loss of power.
	SynchronousFull Synchronous = iota
	// SynchronousNormal leaves that to the operating system: a commit survives
	// the death of the process; the loss of power may take the last ones, never
	// one from between others.
	SynchronousNormal
)

const (
	defaultBusyTimeout = 5 * time.Second
	minBusyTimeout     = time.Millisecond
	// SQLite counts it in milliseconds of 31 bits.
	maxBusyTimeout = 24 * time.Hour
	maxPrefix      = 31
)

// withDefaults checks the options, all of them, and fills in what is zero.
func (o Options) withDefaults() (Options, error) {
	var faults []string
	if o.Lanes < 0 || o.Lanes > maxLanes {
		faults = append(faults, fmt.Sprintf("lanes is %d, must be 1 to %d", o.Lanes, maxLanes))
	}
	if o.Synchronous != SynchronousFull && o.Synchronous != SynchronousNormal {
		faults = append(faults, "synchronous must be full or normal")
	}
	if o.BusyTimeout != 0 && (o.BusyTimeout < minBusyTimeout || o.BusyTimeout > maxBusyTimeout) {
		faults = append(faults, fmt.Sprintf("busy_timeout is %s, must be %s to %s", o.BusyTimeout, minBusyTimeout, maxBusyTimeout))
	}
	faults = append(faults, o.limits().Faults()...)
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if !validPrefix(o.Prefix) {
		faults = append(faults, fmt.Sprintf("prefix is %q, must be lower-case letters, digits and underscores, "+
			"no digit first, at most %d, and not begin with sqlite_", o.Prefix, maxPrefix))
	}
	if len(faults) > 0 {
		return o, errors.New(strings.Join(faults, "; "))
	}
	if o.BusyTimeout == 0 {
		o.BusyTimeout = defaultBusyTimeout
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

// limits are those of the outbox.
func (o *Options) limits() persist.Limits {
	return persist.Limits{Messages: o.MaxMessages, Bytes: o.MaxBytes, Age: o.MaxAge}
}

// validPrefix tells whether the names of tables may begin with prefix. It goes
// into SQL as it is, so nothing that would have to be quoted is let through.
func validPrefix(prefix string) bool {
	if prefix == "" || len(prefix) > maxPrefix || strings.HasPrefix(prefix, "sqlite_") {
		return false
	}
	for i, c := range []byte(prefix) {
		letter := c >= 'a' && c <= 'z' || c == '_'
		digit := c >= '0' && c <= '9'
		if !letter && (i == 0 || !digit) {
			return false
		}
	}
	return true
}
