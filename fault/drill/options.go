package drill

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/fault"
)

// ErrOptions tells that a field of [Options] is not right.
var ErrOptions = errors.New("drill options")

// The bounds and defaults of Options.
const (
	DefaultRate  = 100
	MaxRate      = 10_000
	DefaultLimit = time.Minute

	MinScale = 0.01
	MaxScale = 100
)

// Options say what to do. Scenario, Broker and Store are required.
type Options struct {
	Scenario fault.Scenario
	Broker   Broker
	// Store is the URL of the store, in which a space of its own is made; empty is
	// a SQLite file in Folder.
	Store string
	// Folder is where files are made; it must exist, and is left with them.
	Folder string
	// Rate is how many messages are published a second, 1 to MaxRate. Zero means
	// DefaultRate.
	Rate int
	// Scale multiplies the times of the scenario and those of the clients, MinScale
	// to MaxScale. Zero means 1.
	Scale float64
	// Seed decides the faults, and which key a message has. The same seed gives the
	// same script, not the same run.
	Seed uint64
	// Sabotage is what is taken away.
	Sabotage Sabotage
	// Limit is how long after the faults everything may take to come to rest; what
	// has no effect by then is lost. Zero means DefaultLimit.
	Limit time.Duration
	// Observe is told how far it is, ten times a second, by one goroutine at a time.
	// It must not block. Nil for nobody.
	Observe func(Progress)
}

// Validate lists everything that is wrong, joined; each fault wraps ErrOptions.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...)))
	}
	if o.Rate < 1 || o.Rate > MaxRate {
		bad("rate: %d is out of range; use 1 to %d messages a second", o.Rate, MaxRate)
	}
	if !(o.Scale >= MinScale && o.Scale <= MaxScale) {
		bad("scale: %g is out of range; use %g to %g", o.Scale, MinScale, float64(MaxScale))
	}
	if o.Limit < time.Second {
		bad("limit: %s is too short; use 1s or more", o.Limit)
	}
	if o.Broker == nil {
		bad("broker: is missing")
	} else if o.Scenario.Restarts && !o.Broker.Restarts() {
		bad("%s: %s is not ours to restart", o.Scenario.Name, o.Broker)
	}
	if o.Folder == "" {
		bad("folder: is missing")
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if o.Scale == 0 {
		o.Scale = 1
	}
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	return o
}

// scaled is a time of the drill, but no less than least.
func (o *Options) scaled(d, least time.Duration) time.Duration {
	return max(least, time.Duration(float64(d)*o.Scale))
}
