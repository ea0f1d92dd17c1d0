package postgres

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
	// Schema is the schema of the tables, which the store has to itself:
	// lower-case letters, digits and underscores, no digit first, at most 31.
	// Empty is "oncemq".
	Schema string

	// Lanes is the number of lanes, 1 to 64, which is how many relays can
	// drain the outbox at the same time. It is fixed when the store is created:
	// another number later is refused with persist.ErrInvalid, since it would
	// change the lane, and so the order, of keys. Zero is 1 for a new store and
	// whatever an existing one has.
	Lanes int

	// MaxMessages is how many messages the outbox takes, pending and delivered
	// ones together; beyond, Enqueue fails with persist.ErrOutboxFull or drops
	// [persist.Message.Droppable] messages. To count them, those who add must
	// then wait for each other, a transaction of the caller's included. Zero is
	// no limit, and nobody waits.
	MaxMessages int
	// MaxBytes is the same for the bytes of messages as they are stored, and
	// MaxAge how old a pending message may get, for which nobody waits; see
	// [persist.Limits].
	MaxBytes int64
	MaxAge   time.Duration

	// MaxConns is how many connections Open's pool has at most. Zero is what the
	// URL says, and else 10. New has the caller's pool.
	MaxConns int

	// Migrate tells what to do if the tables are missing, or older than this
	// version. The zero value is MigrateAuto.
	Migrate MigratePolicy

	// NoListen keeps the store from taking a connection for the wake-ups of
	// other processes; their messages are then found when the caller polls. No
	// such connection is taken before the first Notify.
	NoListen bool

	// Logger gets what has no caller to tell it to, a quarantined message for
	// one. Nil discards it.
	Logger *slog.Logger
}

// MigratePolicy tells when tables are created and changed.
type MigratePolicy int

const (
	// MigrateAuto brings the tables to this version when the store is opened.
	MigrateAuto MigratePolicy = iota
	// MigrateOff only looks, and fails with persist.ErrSchema.
	MigrateOff
)

const (
	defaultSchema   = "oncemq"
	defaultMaxConns = 10
	maxSchema       = 31
	// maxLanes is the most lanes a store can have.
	maxLanes = 64
)

// withDefaults checks the options, all of them, and fills in what is zero.
func (o Options) withDefaults() (Options, error) {
	var faults []string
	if o.Schema == "" {
		o.Schema = defaultSchema
	}
	if !validSchema(o.Schema) {
		faults = append(faults, fmt.Sprintf("schema is %q, must be %s", o.Schema, schemaRule))
	}
	if o.Lanes < 0 || o.Lanes > maxLanes {
		faults = append(faults, fmt.Sprintf("lanes is %d, must be 1 to %d", o.Lanes, maxLanes))
	}
	faults = append(faults, o.limits().Faults()...)
	if o.MaxConns < 0 || o.MaxConns > 1<<15 {
		faults = append(faults, fmt.Sprintf("max_conns is %d, must be 1 to %d", o.MaxConns, 1<<15))
	}
	if o.Migrate != MigrateAuto && o.Migrate != MigrateOff {
		faults = append(faults, "migrate must be auto or off")
	}
	if len(faults) > 0 {
		return o, errors.New(strings.Join(faults, "; "))
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

const schemaRule = "lower-case letters, digits and underscores, no digit first, at most 31, and not begin with pg_"

// validSchema tells whether a schema may have that name. It is quoted in SQL, and
// yet nothing that would have to be is let through.
func validSchema(name string) bool {
	if name == "" || len(name) > maxSchema || strings.HasPrefix(name, "pg_") {
		return false
	}
	for i, c := range []byte(name) {
		letter := c >= 'a' && c <= 'z' || c == '_'
		digit := c >= '0' && c <= '9'
		if !letter && (i == 0 || !digit) {
			return false
		}
	}
	return true
}
