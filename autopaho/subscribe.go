package autopaho

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// Received is a message as a handler sees it. It is the handler's to read, not
// to keep: a handler that goes on using it after it has returned copies it.
type Received struct {
	Message
	// Dup is the DUP flag of the PUBLISH: the broker may have sent it before.
	Dup bool
	// PacketID is the packet identifier, for logs: it means nothing once the
	// connection has ended. Zero at QoS 0.
	PacketID uint16
	// Group is the subscription's.
	Group string
	// Attempt is how often the message was begun, by all replicas of the
	// group, this time included; by this process alone without dedup.
	Attempt int
	// Epoch is the fencing token of the claim: higher for each later holder.
	// An effect outside the store (a call to another service) cannot be undone
	// when a paused replica wakes up; a service that remembers the highest
	// epoch can refuse it. Zero without dedup.
	Epoch int64
	// At is when the message was received, by this process's clock.
	At time.Time
}

// Handler processes one message. Nil completes it: the mark becomes durable,
// then the broker gets its acknowledgement. An error has it tried again, with
// back-off, up to the subscription's attempts; then, or at once if the error
// wraps [Permanent], it becomes a dead letter. A panic is an error.
//
// The context ends when the client closes and its patience is over, when the
// HandlerTimeout is, or when the claim was lost to another replica.
type Handler func(ctx context.Context, m *Received) error

// TxHandler is a Handler whose writes through tx commit together with the mark
// that the message was processed: each effect exactly once, whatever dies and
// however long a replica was paused. It must not commit or roll back.
type TxHandler func(ctx context.Context, tx *sql.Tx, m *Received) error

// ErrRelease is returned by a handler that gives a message back: it is neither
// processed nor failed, no attempt is made here again, and the broker gets no
// acknowledgement for it or for what came after it on this connection. So it
// comes again, to this replica or another, once the connection has ended: for a
// handler that is about to stop.
var ErrRelease = errors.New("message was given back")

// Permanent marks an error that trying again would not mend: the message
// becomes a dead letter at once.
func Permanent(err error) error { return &permanentError{err} }

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// PanicError is a handler's panic.
type PanicError struct {
	Value any
	Stack []byte
}

// Error tells the value, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }

// Retained tells which retained messages the broker sends (section 3.8.3.1,
// Retain Handling).
type Retained byte

// The choices of Retained.
const (
	// RetainedOnce sends them when the subscription is new: the default, since
	// every reconnection subscribes again.
	RetainedOnce Retained = iota
	// RetainedAlways sends them at every SUBSCRIBE.
	RetainedAlways
	// RetainedNever sends none.
	RetainedNever
)

func (r Retained) wire() byte { return [...]byte{1, 0, 2}[r] }

// SubscribeConfig describes a subscription. Filters and one handler are
// required.
type SubscribeConfig struct {
	// Filters are topic filters. With a Group they become
	// $share/<group>/<filter>.
	Filters []string
	// QoS is the highest level at which the broker may send: 1 or 2. Zero
	// means 1; see AtMostOnce.
	QoS byte
	// AtMostOnce subscribes at QoS 0: the broker sends each message once and
	// forgets it, and what this process does not get to is lost.
	AtMostOnce bool
	// NoLocal keeps this client's own publications away.
	NoLocal bool
	// RetainAsPublished keeps the RETAIN flag as it was published.
	RetainAsPublished bool
	// Retained tells which retained messages to send.
	Retained Retained

	// Group names the replicas that share the work and, with a store, the
	// processed keys. Empty for none: no sharing, and no dedup.
	Group string
	// Unshared has every replica of the group hear every message, through a
	// plain subscription; one of them processes it. It needs a store.
	Unshared bool

	// DedupKey finds what makes two deliveries the same message. Default:
	// dedup.ByMessageID. A message without a key is processed without dedup.
	DedupKey dedup.KeyFunc
	// Window is how long a processed key is remembered; at least 1 s. It must
	// exceed the broker's session expiry and the publisher's retries: what
	// comes later than that is processed again. Default 24 h.
	Window time.Duration
	// Lease is how long a key stays with a replica that has died; at least
	// 1 s. Default 30 s.
	Lease time.Duration

	// Workers is how many handlers run at once. Messages with one ordering
	// key run one after another, in the order in which they came. Default 8.
	// A TxHandler has one worker: SQLite has one writer.
	Workers int
	// OrderBy finds the ordering key. Default: the property "ordering-key",
	// else the topic.
	OrderBy func(*Message) string

	// Attempts is how often a message is tried before it becomes a dead
	// letter. Default 5.
	Attempts int
	// Backoff is the wait between attempts, with full jitter.
	Backoff qos.Backoff
	// HandlerTimeout ends a handler's context. Zero means never.
	HandlerTimeout time.Duration

	// Receipts answers messages that ask for one, once they are processed
	// (or are dead letters): a QoS 1 message to their Response Topic with
	// their Correlation Data. The broker's acknowledgement waits for it.
	Receipts bool
	// ReceiptTopics are filters of the topics that receipts may go to, since a
	// Response Topic comes from outside. Default: "oncemq/receipts/#".
	ReceiptTopics []string

	// Handler or TxHandler processes messages: one of them. TxHandler needs a
	// Group and a store that implements persist.SQLProcessor.
	Handler   Handler
	TxHandler TxHandler
}

const (
	defaultWorkers  = 8
	defaultAttempts = 5
)

func (s *SubscribeConfig) validate(store persist.Store) error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrConfig, field, fmt.Sprintf(format, args...)))
	}
	if len(s.Filters) == 0 {
		bad("Filters", "is empty; name at least one topic filter")
	}
	for _, f := range s.Filters {
		if err := qos.ValidateFilter(f); err != nil {
			bad("Filters", "%s", err)
		} else if _, _, shared := qos.SplitShared(f); shared && s.Group != "" {
			bad("Filters", "%q is shared already; leave $share out and name the group in Group", f)
		}
	}
	if s.Group != "" {
		if _, err := qos.JoinShared(s.Group, "a"); err != nil {
			bad("Group", "%s", err)
		}
	}
	if s.QoS > 2 {
		bad("QoS", "%d is not a level; use 1 or 2", s.QoS)
	}
	if s.AtMostOnce && s.QoS != 0 {
		bad("AtMostOnce", "contradicts QoS %d", s.QoS)
	}
	if s.Retained > RetainedNever {
		bad("Retained", "%d is not a choice", s.Retained)
	}
	if s.Unshared && (s.Group == "" || store == nil) {
		bad("Unshared", "needs a group and a store: without them every replica would process every message")
	}
	if s.NoLocal && s.Group != "" && !s.Unshared {
		bad("NoLocal", "is not allowed on a shared subscription") // [MQTT-3.8.3-4]
	}
	for _, d := range []struct {
		field string
		value time.Duration
		least time.Duration
	}{
		{"Window", s.Window, dedup.MinWindow},
		{"Lease", s.Lease, dedup.MinLease},
		{"HandlerTimeout", s.HandlerTimeout, time.Millisecond},
	} {
		if d.value != 0 && d.value < d.least {
			bad(d.field, "%s is too short; use %s or more, or 0 for the default", d.value, d.least)
		}
	}
	if s.Workers < 0 || s.Workers > 10_000 {
		bad("Workers", "%d is out of range; use 1 to 10,000, or 0 for the default", s.Workers)
	}
	if s.Attempts < 0 {
		bad("Attempts", "%d is negative", s.Attempts)
	}
	if err := (qos.Policy{Backoff: s.Backoff}).Validate(); err != nil {
		bad("Backoff", "%s", err)
	}
	for _, f := range s.ReceiptTopics {
		if err := qos.ValidateFilter(f); err != nil {
			bad("ReceiptTopics", "%s", err)
		}
	}
	if (s.Handler == nil) == (s.TxHandler == nil) {
		bad("Handler", "give Handler or TxHandler, and only one")
	}
	if s.TxHandler != nil {
		if _, ok := store.(persist.SQLProcessor); !ok || s.Group == "" {
			bad("TxHandler", "needs a group and a store with transactions of database/sql")
		}
	}
	return errors.Join(errs...)
}

func (s *SubscribeConfig) setDefaults() {
	if s.QoS == 0 && !s.AtMostOnce {
		s.QoS = 1
	}
	if s.DedupKey == nil {
		s.DedupKey = dedup.ByMessageID
	}
	if s.OrderBy == nil {
		s.OrderBy = (*Message).Key
	}
	if s.Workers == 0 {
		s.Workers = defaultWorkers
	}
	if s.Attempts == 0 {
		s.Attempts = defaultAttempts
	}
	if s.ReceiptTopics == nil {
		s.ReceiptTopics = []string{"oncemq/receipts/#"}
	}
}

// Subscribe subscribes and returns once the broker has agreed. From then on the
// subscription is made again on every connection, until [Subscription.Close] or
// Client.Close.
//
// All subscriptions of a client share one MQTT session. If the broker kept that
// session from an earlier process it may send messages as soon as the first
// Subscribe connects: those of a filter that is not subscribed yet wait for
// some seconds for their Subscribe to come.
//
// The error wraps ErrConfig and lists every fault; is a *SubscribeError if the
// broker refused a filter; wraps ErrRefused, ErrClosed or the context's error.
func (c *Client) Subscribe(ctx context.Context, cfg SubscribeConfig) (*Subscription, error) {
	if err := cfg.validate(c.cfg.Store); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	cfg.setDefaults()
	if err := c.begin(); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	defer c.calls.Done()
	in, err := c.ensureConsumer()
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if cfg.Receipts {
		if _, err := c.ensurePublisher(); err != nil {
			return nil, fmt.Errorf("subscribe: %w", err)
		}
	}
	s, err := newSubscription(in, cfg)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if err := in.add(ctx, s); err != nil {
		_ = s.closeWork(ctx)
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return s, nil
}

// call runs a handler and turns a panic into an error.
func call(ctx context.Context, run func(context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return run(ctx)
}
