package redis

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
	// Prefix begins the names of all keys, in braces: stores with different
	// prefixes share a server and see nothing of each other. Lower-case letters,
	// digits and "_", ".", ":", "-", 1 to 64 of them. Empty is "oncemq".
	//
	// In a Cluster a prefix is one slot, so that a store lives on one shard; who
	// needs more than one shard can do takes several stores.
	Prefix string

	// Lanes is the number of lanes, 1 to 64, which is how many relays can
	// drain the outbox at the same time. It is fixed when the store is created:
	// another number later is refused with persist.ErrInvalid, since it would
	// change the lane, and so the order, of keys. Zero is 1 for a new store and
	// whatever an existing one has.
	Lanes int

	// MaxMessages is how many messages the outbox takes, pending and delivered
	// ones together; beyond, Enqueue fails with persist.ErrOutboxFull or drops
	// [persist.Message.Droppable] messages. Zero is no limit but maxmemory. All
	// processes that enqueue should have the same.
	MaxMessages int
	// MaxBytes is the same for the bytes of messages as they are stored, and
	// MaxAge how old a pending message may get; see [persist.Limits].
	MaxBytes int64
	MaxAge   time.Duration

	// AllowEviction opens a store on a server whose maxmemory-policy is one of
	// allkeys-*, which is refused otherwise: such a server deletes messages that
	// it has accepted when its memory is full.
	AllowEviction bool

	// AllowVolatile opens a store on a server without an append only file,
	// which is refused otherwise: such a server forgets at a restart what it has
	// accepted since its last snapshot.
	AllowVolatile bool

	// WaitReplicas is how many replicas must have received a change before a
	// call returns; zero, the default, does not wait. If fewer have within
	// WaitTimeout, the error wraps persist.ErrUnknownOutcome: the change was made,
	// and a failover may undo it. This lowers the odds that a failover loses what
	// was accepted, and does not rule it out. It costs one more round
	// trip to the server for each change, and the time that the replicas take.
	// A client of the caller's must be a *redis.Client or *redis.ClusterClient.
	WaitReplicas int

	// WaitTimeout is how long to wait for replicas. Zero is 1 s; at least 1 ms.
	WaitTimeout time.Duration

	// Logger gets what has no caller to tell it to, a quarantined message for
	// one. Nil discards it.
	Logger *slog.Logger

	// clock is Lua that sets now, in place of include/clock.lua. For tests.
	clock string
}

const (
	defaultPrefix      = "oncemq"
	maxPrefix          = 64
	defaultWaitTimeout = time.Second
	minWaitTimeout     = time.Millisecond
)

// withDefaults checks the options, all of them, and fills in what is zero.
func (o Options) withDefaults() (Options, error) {
	var faults []string
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if !validPrefix(o.Prefix) {
		faults = append(faults, fmt.Sprintf("prefix is %q, must be %s", o.Prefix, prefixForm))
	}
	if o.Lanes < 0 || o.Lanes > maxLanes {
		faults = append(faults, fmt.Sprintf("lanes is %d, must be 1 to %d", o.Lanes, maxLanes))
	}
	faults = append(faults, o.limits().Faults()...)
	if o.WaitReplicas < 0 {
		faults = append(faults, fmt.Sprintf("wait_replicas is %d, must not be negative", o.WaitReplicas))
	}
	if o.WaitTimeout != 0 && o.WaitTimeout < minWaitTimeout {
		faults = append(faults, fmt.Sprintf("wait_timeout is %s, must be at least %s", o.WaitTimeout, minWaitTimeout))
	}
	if len(faults) > 0 {
		return o, errors.New(strings.Join(faults, "; "))
	}
	if o.WaitTimeout == 0 {
		o.WaitTimeout = defaultWaitTimeout
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

// limitsText is how scripts get them.
func (o *Options) limitsText() string { return fmt.Sprintf("%d %d", o.MaxMessages, o.MaxBytes) }

const prefixForm = "lower-case letters, digits and _ . : -, at most 64"

// validPrefix tells whether the names of keys may begin with prefix. It stands in
// braces, so it has none.
func validPrefix(prefix string) bool {
	if prefix == "" || len(prefix) > maxPrefix {
		return false
	}
	for _, c := range []byte(prefix) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("_.:-", rune(c)) {
			return false
		}
	}
	return true
}
