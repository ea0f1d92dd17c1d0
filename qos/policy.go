package qos

import (
	"errors"
	"math"
	"strconv"
	"time"
)

// The values that stand for zero in a [Policy].
const (
	// DefaultAttempts outlasts a server's restart and a quota that is counted
	// by the minute: with the default backoff the 29 waits are at most eleven
	// minutes together, and half of that on average. Then a message that is
	// never welcome shows up among the dead letters instead of being sent for
	// ever.
	DefaultAttempts = 30
	// DefaultReceiptTimeout leaves a consumer time to restart.
	DefaultReceiptTimeout = 30 * time.Second
)

// maxExpiry is the longest Message Expiry Interval, a number of seconds in four
// bytes (section 3.3.2.3.3).
const maxExpiry = math.MaxUint32 * time.Second

// Order is what happens to the order of a key around a refusal.
type Order byte

// The settings of Order.
const (
	// Pipelined sends messages of a key without waiting for each other's
	// acknowledgement. Their order holds, except around a refusal: those that
	// were on their way already overtake the refused one.
	Pipelined Order = iota
	// Strict has one message of a key in flight at a time, and many keys at
	// once. The order holds always. A key gets one message a round trip, and a
	// message that is refused for now holds up its key, and the rest of its lane
	// as well once some hundred messages wait behind it.
	Strict
)

// String is the setting as a policy file has it.
func (o Order) String() string {
	switch o {
	case Pipelined:
		return "pipelined"
	case Strict:
		return "strict"
	}
	return "order " + strconv.Itoa(int(o))
}

// WhenFull is what happens to a message that a full outbox has no room for.
type WhenFull byte

// The settings of WhenFull.
const (
	// Refuse returns an error to the publisher, and nothing is stored.
	Refuse WhenFull = iota
	// DropOldest makes room by dropping the oldest pending messages that may
	// be dropped as well. They are counted, and are lost.
	DropOldest
)

// String is the setting as a policy file has it.
func (w WhenFull) String() string {
	switch w {
	case Refuse:
		return "refuse"
	case DropOldest:
		return "drop-oldest"
	}
	return "when_full " + strconv.Itoa(int(w))
}

// Policy is how the messages of a topic are delivered. The zero value is good:
// every field has the default that it documents.
type Policy struct {
	// Level, if it is not nil, is the QoS level of every message, whatever the
	// publisher asked for. Nil, the default, leaves the publisher's. A level
	// that is too low loses messages: AtMostOnce gives up the outbox's promise.
	// One that is too high costs a round trip for each message, and a server
	// that offers less refuses it.
	Level *Level

	// Expiry is how long a message is worth sending that came without an
	// expiry of its own; 1 ms to 4,294,967,295 s. Zero, the default, means for
	// ever. One that is shorter than the outages to be survived ends messages
	// as expired; for ever lets old readings arrive after a long outage.
	Expiry time.Duration

	// Attempts is after how many refusals that may be retried (class [Retry])
	// a message fails for good. Zero means [DefaultAttempts]. Refusals of class
	// [Permanent] fail at the first, and lost connections do not count. Too few
	// make a dead letter of what a busy server would have taken a minute later;
	// too many let a hopeless message come back again and again, and in strict
	// order hold up its key.
	Attempts int

	// Backoff is how long to wait between attempts.
	Backoff Backoff

	// Order is Pipelined by default.
	Order Order

	// WhenFull is Refuse by default.
	WhenFull WhenFull

	// Supersede keeps only the newest message of a topic while it waits to be sent,
	// for topics that tell a state: a reading, a position, whether something is on.
	// What it takes the place of is counted, and ends as superseded. False, the
	// default, leaves the choice to the publisher. Topics that tell of events lose
	// all but the last of an outage by it.
	Supersede bool

	// Receipt asks every message's consumer for an end-to-end acknowledgement.
	// False, the default, leaves the choice to the publisher. Messages to which
	// nobody answers are sent again and again: ask only where every consumer
	// sends receipts.
	Receipt bool

	// ReceiptTimeout is how long to wait for a receipt, whoever asked for it,
	// before the message is sent again; 1 ms or more. It doubles with each time
	// that it was sent in vain, up to 16 times. Zero means
	// [DefaultReceiptTimeout]. A time below what a consumer needs doubles the
	// traffic, and its dedup has to sort that out; a long one delays what a
	// broker forgot.
	ReceiptTimeout time.Duration
}

// Validate reports every fault of the policy at once: each is a [*FieldError]
// that wraps [ErrInvalid], joined with errors.Join. It changes nothing.
func (p Policy) Validate() error {
	var errs []error
	for _, f := range p.faults() {
		errs = append(errs, f)
	}
	return errors.Join(errs...)
}

func (p Policy) faults() []*FieldError {
	var faults []*FieldError
	add := func(field, problem string) { faults = append(faults, &FieldError{field, problem}) }

	if p.Level != nil && !p.Level.Valid() {
		add("level", levelProblem(p.Level.String()))
	}
	switch {
	case p.Expiry < 0:
		add("expiry", negative(p.Expiry))
	case p.Expiry > 0 && p.Expiry < time.Millisecond:
		// Stored in milliseconds: it would become zero, which is for ever.
		add("expiry", p.Expiry.String()+" is less than the store can tell; write 1ms or more, or 0 for ever")
	case p.Expiry > maxExpiry:
		add("expiry", p.Expiry.String()+" is more than MQTT can carry; write at most 4294967295s, or 0 for ever")
	}
	if p.Attempts < 0 {
		add("attempts", strconv.Itoa(p.Attempts)+" is negative; write 1 or more, or 0 for the default of "+strconv.Itoa(DefaultAttempts))
	}
	faults = append(faults, p.Backoff.faults()...)
	if p.Order > Strict {
		add("order", strconv.Itoa(int(p.Order))+" is not an order; use Pipelined or Strict")
	}
	if p.WhenFull > DropOldest {
		add("when_full", strconv.Itoa(int(p.WhenFull))+" is not a choice; use Refuse or DropOldest")
	}
	if p.Receipt && p.Level != nil && *p.Level == AtMostOnce {
		add("receipt", "a receipt cannot be promised at level 0; raise level to 1 or 2, or turn receipt off")
	}
	if p.Receipt && p.WhenFull == DropOldest {
		add("receipt", "a receipt cannot be promised for messages that may be dropped; set when_full to refuse, or turn receipt off")
	}
	if p.Supersede && p.WhenFull == DropOldest {
		add("supersede", "contradicts when_full drop-oldest: a message gives way to the next of its topic, or to any; turn one of them off")
	}
	if p.Supersede && p.Receipt {
		add("supersede", "contradicts receipt: what is superseded gets none; turn one of them off")
	}
	switch {
	case p.ReceiptTimeout < 0:
		add("receipt_timeout", negative(p.ReceiptTimeout))
	case p.ReceiptTimeout > 0 && p.ReceiptTimeout < time.Millisecond:
		// As above: zero waits for ever in the store.
		add("receipt_timeout", p.ReceiptTimeout.String()+" is less than the store can tell; write 1ms or more, or 0 for the default of 30s")
	}
	return faults
}

// withDefaults is the policy with its zero fields filled in.
func (p Policy) withDefaults() Policy {
	if p.Attempts == 0 {
		p.Attempts = DefaultAttempts
	}
	p.Backoff = p.Backoff.withDefaults()
	if p.ReceiptTimeout == 0 {
		p.ReceiptTimeout = DefaultReceiptTimeout
	}
	return p
}

func negative(d time.Duration) string {
	return d.String() + " is negative; write a positive duration, or 0 for the default"
}

func formatFloat(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
