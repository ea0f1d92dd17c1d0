package load

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// ErrConfig is a field of a configuration that is not right.
var ErrConfig = errors.New("configuration")

// ErrStoreInUse is a store that holds messages that the run would deliver or measure.
var ErrStoreInUse = errors.New("the store's outbox is not empty; a run needs one of its own")

// Config describes a run.
type Config struct {
	// Broker is how clients connect; ClientID begins their client IDs. Not used by
	// RunStore.
	Broker autopaho.Config
	// Store makes the run durable: messages go through its outbox, and subscribers
	// are a group with its memory of keys. Nil publishes and subscribes plainly.
	Store persist.Store

	// Topic is the first part of the topics; a number for each publisher follows.
	Topic string
	QoS   byte
	// Clients is how many publish, or subscribe. With a store, publishers share its
	// relay, as the goroutines of an application do; without, each has a connection.
	// Default 1.
	Clients int
	// Subscribers is how many subscribe in RunBoth. Default 1.
	Subscribers int
	// ConnectEvery is the time from one client's start to the next one's.
	ConnectEvery time.Duration

	// Rate is how many messages are due in a second, of all clients together. Zero
	// is as many as go.
	Rate float64
	// Size is that of a payload, in bytes, at least HeaderSize. Default 256.
	Size int
	// Count ends the run after so many messages, of all clients together; Duration
	// after a time. Zero is no end by it; without either Duration is 10 s.
	Count    int64
	Duration time.Duration
	// Batch is how many messages are enqueued in one call at most. Default 100.
	Batch int
	// InFlight is how many calls of Publish a client has under way without a
	// store. Default 32.
	InFlight int
	// Settle is how long to wait for what was sent and has not arrived. Default 10 s.
	// A run ends before its Count is sent, too, if the broker answers nothing for that
	// long; until Duration is over, if there is one, it may come back.
	Settle time.Duration

	// Observe, if set, is told once a second how it goes.
	Observe func(Progress)
}

// Progress is how a run goes.
type Progress struct {
	Elapsed time.Duration
	// Phase is what is measured, Rate messages a second in the last second, and P50
	// and P99 the latencies in it.
	Phase    string
	Rate     float64
	P50, P99 time.Duration
}

func (c *Config) setDefaults() {
	num := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	num(&c.Clients, 1)
	num(&c.Subscribers, 1)
	num(&c.Size, 256)
	num(&c.Batch, 100)
	num(&c.InFlight, 32)
	if c.Count == 0 && c.Duration == 0 {
		c.Duration = 10 * time.Second
	}
	if c.Settle == 0 {
		c.Settle = 10 * time.Second
	}
	if c.Topic == "" {
		c.Topic = "oncemq/bench"
	}
}

// Validate lists what is wrong, joined; each fault wraps ErrConfig and names its field.
func (c *Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrConfig, field, fmt.Sprintf(format, args...)))
	}
	if c.Size != 0 && c.Size < HeaderSize {
		bad("Size", "%d is too small; a payload has a header of %d bytes", c.Size, HeaderSize)
	}
	if c.QoS > 2 {
		bad("QoS", "%d is not a level; use 0, 1 or 2", c.QoS)
	}
	if c.Store != nil && c.QoS == 0 {
		bad("QoS", "the outbox has no level 0; use 1 or 2, or no store")
	}
	if c.Rate < 0 || c.Count < 0 || c.Duration < 0 || c.Clients < 0 || c.Subscribers < 0 || c.Batch < 0 || c.InFlight < 0 {
		bad("Rate", "a number is negative")
	}
	return errors.Join(errs...)
}

// share is how many of the messages are the i-th client's; zero if there is no count.
func (c *Config) share(i int) int64 {
	n := c.Count / int64(c.Clients)
	if int64(i) < c.Count%int64(c.Clients) {
		n++
	}
	return n
}
