package comparison

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// ErrOptions tells that a field of [Options] is not right.
var ErrOptions = errors.New("comparison options")

// The bounds and defaults of Options.
const (
	DefaultMessages = 200
	DefaultRate     = 500
	DefaultCutEvery = 40
	DefaultDelay    = 2 * time.Millisecond
	DefaultQuiet    = 500 * time.Millisecond
	DefaultTimeout  = 20 * time.Second
	DefaultTopic    = "oncemq/qos"

	MaxMessages = 100_000
	MaxRate     = 100_000
	MinCutEvery = 10
	MaxCutEvery = 1_000_000
	MaxDelay    = 5 * time.Second
)

// Links that messages are sent over.
const (
	Plain  = "plain"
	Faulty = "faulty"
)

// Options say what to do. NewStore is required.
type Options struct {
	// Client is what all clients have in common: the broker, which must be one
	// server, the way to it and the credentials. Without Servers a broker of the
	// package's own is started, and ends with the run.
	Client autopaho.Config
	// NewStore makes the store of one publisher's outbox; it is closed after use.
	NewStore func() persist.Store
	// Topic is what the topics of all messages begin with. Default DefaultTopic.
	Topic string
	// Links are the links to send over: Plain, Faulty or both, which is the
	// default.
	Links []string
	// Messages is how many are sent at each level over each link. Default
	// DefaultMessages.
	Messages int
	// Rate is how many are sent a second. Default DefaultRate.
	Rate int
	// CutEvery has the faulty link cut at each so-many-th PUBLISH, and at each
	// so-many-th acknowledgement of the broker; that packet is lost. Default
	// DefaultCutEvery.
	CutEvery int
	// Delay is how much later everything arrives over the faulty link, in each
	// direction. Default DefaultDelay; negative means none.
	Delay time.Duration
	// Quiet is how long nothing may have arrived for what is missing then to be
	// lost. Default DefaultQuiet.
	Quiet time.Duration
	// Timeout bounds the wait for what was sent at one level over one link; what
	// has no answer by then is pending. Default DefaultTimeout.
	Timeout time.Duration
	// Observe is told how far the run is, ten times a second, by one goroutine.
	// Nil for nobody.
	Observe func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	Link  string
	Level qos.Level
	// Sent and Seen count messages of this level over this link.
	Sent, Seen, Of int
}

// Validate lists everything that is wrong, joined; each fault wraps ErrOptions.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrOptions, field, fmt.Sprintf(format, args...)))
	}
	if o.NewStore == nil {
		bad("store", "is missing")
	}
	if o.Messages < 1 || o.Messages > MaxMessages {
		bad("messages", "%d is out of range; use 1 to %d", o.Messages, MaxMessages)
	}
	if o.Rate < 1 || o.Rate > MaxRate {
		bad("rate", "%d is out of range; use 1 to %d", o.Rate, MaxRate)
	}
	if o.CutEvery < MinCutEvery || o.CutEvery > MaxCutEvery {
		bad("cut-every", "%d is out of range; use %d to %d", o.CutEvery, MinCutEvery, MaxCutEvery)
	}
	if o.Delay > MaxDelay {
		bad("delay", "%s is too long; use up to %s", o.Delay, MaxDelay)
	}
	if o.Quiet < 10*time.Millisecond {
		bad("quiet", "%s is too short; use 10ms or more", o.Quiet)
	}
	if o.Timeout < 100*time.Millisecond {
		bad("timeout", "%s is too short; use 100ms or more", o.Timeout)
	}
	if err := qos.ValidateTopic(o.Topic); err != nil {
		bad("topic", "%s", problem(err))
	}
	for _, l := range o.Links {
		if l != Plain && l != Faulty {
			bad("link", "%q is not a choice; use %s or %s", l, Plain, Faulty)
		}
	}
	if len(o.Client.Servers) > 0 {
		if _, err := oneServer(o.Client.Servers); err != nil {
			bad("broker", "%s", err)
		}
	}
	return errors.Join(errs...)
}

func problem(err error) string {
	var f *qos.FieldError
	if errors.As(err, &f) {
		return f.Problem
	}
	return err.Error()
}

// oneServer is the server of a run.
func oneServer(servers []string) (*url.URL, error) {
	if len(servers) > 1 {
		return nil, errors.New("there are several; packets are counted on the way to one, so name one")
	}
	return session.ParseServer(servers[0])
}

func (o Options) withDefaults() Options {
	number := func(n *int, def int) {
		if *n == 0 {
			*n = def
		}
	}
	span := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	number(&o.Messages, DefaultMessages)
	number(&o.Rate, DefaultRate)
	number(&o.CutEvery, DefaultCutEvery)
	span(&o.Delay, DefaultDelay)
	span(&o.Quiet, DefaultQuiet)
	span(&o.Timeout, DefaultTimeout)
	if o.Topic == "" {
		o.Topic = DefaultTopic
	}
	if o.Links == nil {
		o.Links = []string{Plain, Faulty}
	}
	if o.Observe == nil {
		o.Observe = func(Progress) {}
	}
	return o
}
