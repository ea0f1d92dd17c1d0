package autopaho

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

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
	// dedup.ByMessageID. A message without a key is processed without dedup; one of
	// which it panics becomes a dead letter, and no handler has it.
	DedupKey dedup.KeyFunc
	// Window is how old a message may be, from when it was first sent: for that
	// long, at least, a processed key is remembered. An older one may have been
	// processed and forgotten, so it becomes a dead letter and its handler does
	// not run; one that does not tell when it was sent (dedup.SentAt) has no
	// such limit, and is processed again after the window of its key.
	//
	// It must not be shorter than the broker may keep a message for this
	// session, plus the handler's retries: see [SubscribeConfig.LeastWindow].
	// Default: that, rounded up to the hour, and at least 25 h, which goes with
	// the default SessionExpiry. 1 s to 90 years. All replicas of a group have
	// the same Window and ClockSkew.
	Window time.Duration
	// ClockSkew is by how much publishers' clocks may be behind the store's
	// without their messages being too old before the time; keys are
	// remembered for as much longer. At most Window. Default 1 h, or Window if
	// that is less.
	ClockSkew time.Duration
	// Lease is how long a key stays with a replica that has died; at least
	// 1 s. Default 30 s.
	Lease time.Duration

	// Workers is how many handlers run at once. Messages with one ordering
	// key run one after another, in the order in which they came. Default 8.
	// A TxHandler has one worker, since handlers share a transaction, and a
	// BatchHandler has one as well.
	Workers int
	// OrderBy finds the ordering key. Default: the property "ordering-key",
	// else the topic. A message of which it panics becomes a dead letter, and no
	// handler has it.
	OrderBy func(*Message) string

	// Attempts is how often a message is tried before it becomes a dead
	// letter. With a group and a store that counts across restarts and replicas: a
	// message that kills its process is not begun again after as many attempts, but
	// at least 3. Default 5.
	Attempts int
	// Backoff is the wait between attempts, with full jitter.
	Backoff qos.Backoff
	// HandlerTimeout ends a handler's context. One that has not returned a second
	// later has failed with ErrHandlerTimeout: its message is tried again or becomes
	// a dead letter, and others go on, while its goroutine is left behind
	// (Counters.Stuck) and what it returns is ignored. The transaction of a TxHandler
	// is rolled back, and no use any more to whoever still has it; what shared it is
	// handled again. Until then it holds up the subscription, and with SQLite all
	// who write. A TxHandler has a minute at most in any case. Zero
	// means never.
	HandlerTimeout time.Duration

	// Receipts answers messages that ask for one, once they are processed
	// (or are dead letters): a QoS 1 message to their Response Topic with
	// their Correlation Data. The broker's acknowledgement waits for it.
	Receipts bool
	// ReceiptTopics are filters of the topics that receipts may go to, since a
	// Response Topic comes from outside. Default: "oncemq/receipts/#".
	ReceiptTopics []string

	// MaxBatch is how many messages a BatchHandler or BatchInTx gets at most: 1
	// to 10,000. No more come together than Config.ReceiveMaximum lets the
	// broker send before it gets acknowledgements, so for throughput set that
	// to twice MaxBatch or more: one batch then fills while another is at work.
	// Default 500.
	MaxBatch int
	// MaxWait is how long a batch that is not full waits for more messages. It
	// is the delay that a lone message has. Up to 1 min. Default 5 ms.
	MaxWait time.Duration

	// Handler, BatchHandler or TxHandler processes messages: one of them.
	// TxHandler is made by [InTx] or [BatchInTx], and needs a Group and a store
	// that has transactions of the handler's kind.
	Handler      Handler
	BatchHandler BatchHandler
	TxHandler    TxHandler
}

const (
	defaultWorkers  = 8
	defaultAttempts = 5
	defaultMaxBatch = 500
	defaultMaxWait  = 5 * time.Millisecond
	maxMaxWait      = time.Minute
)

func (s *SubscribeConfig) validate(client *Config) error {
	store := client.Store
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
	if s.Window > dedup.MaxWindow {
		bad("Window", "%s is too long; use %s at most, or 0 for the default", s.Window, dedup.MaxWindow)
	}
	if window := s.window(client); s.ClockSkew < 0 || s.ClockSkew > window {
		bad("ClockSkew", "%s is out of range; use up to Window, %s, or 0 for the default", s.ClockSkew, window)
	}
	if err := s.checkWindow(client); err != nil {
		bad("Window", "%s", err)
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
	s.validateHandler(store, bad)
	return errors.Join(errs...)
}

func (s *SubscribeConfig) validateHandler(store persist.Store, bad func(field, format string, args ...any)) {
	handlers := 0
	for _, given := range [...]bool{s.Handler != nil, s.BatchHandler != nil, s.TxHandler != nil} {
		if given {
			handlers++
		}
	}
	if handlers != 1 {
		bad("Handler", "give one of Handler, BatchHandler and TxHandler; there are %d", handlers)
	}
	if h := s.TxHandler; h != nil {
		switch {
		case h.empty():
			bad("TxHandler", "is made of a nil function")
		case s.Group == "":
			bad("TxHandler", "needs a Group")
		case store == nil:
			bad("TxHandler", "needs a store with transactions of type %s; the client has no store", h.transaction())
		case !h.fits(store):
			bad("TxHandler", "wants a transaction of type %s, and the store has none of that type", h.transaction())
		}
	}
	batch := s.BatchHandler != nil || s.TxHandler != nil && s.TxHandler.batch()
	switch {
	case s.MaxBatch < 0 || s.MaxBatch > dedup.MaxBatch:
		bad("MaxBatch", "%d is out of range; use 1 to %d, or 0 for the default", s.MaxBatch, dedup.MaxBatch)
	case s.MaxBatch > 0 && !batch:
		bad("MaxBatch", "means nothing without BatchHandler or BatchInTx")
	}
	switch {
	case s.MaxWait < 0 || s.MaxWait > maxMaxWait:
		bad("MaxWait", "%s is out of range; use up to %s, or 0 for the default", s.MaxWait, maxMaxWait)
	case s.MaxWait > 0 && !batch:
		bad("MaxWait", "means nothing without BatchHandler or BatchInTx")
	}
	if s.BatchHandler != nil && s.Workers > 1 {
		bad("Workers", "%d is more than a BatchHandler has, which is one", s.Workers)
	}
}

func (s *SubscribeConfig) setDefaults(client *Config) {
	s.Window = s.window(client)
	if s.MaxBatch == 0 {
		s.MaxBatch = defaultMaxBatch
	}
	// More cannot come together, and would be waited for in vain.
	s.MaxBatch = min(s.MaxBatch, client.ReceiveMaximum)
	if s.MaxWait == 0 {
		s.MaxWait = defaultMaxWait
	}
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
// broker refused a filter; wraps ErrRefused, ErrClosed or the context's error. The broker
// may send before it has agreed (section 3.8.4), so that a handler may run when the
// context ends: it sees that in its own one, and Client.Close waits for it.
func (c *Client) Subscribe(ctx context.Context, cfg SubscribeConfig) (*Subscription, error) {
	return c.subscribe(ctx, cfg, nil)
}

// subscribe calls added once the subscription is known here, before the broker has
// agreed; nil for nothing.
func (c *Client) subscribe(ctx context.Context, cfg SubscribeConfig, added func()) (*Subscription, error) {
	if err := cfg.validate(&c.cfg); err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	cfg.setDefaults(&c.cfg)
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
	return in.subscribeNew(ctx, cfg, added)
}

// subscribeNew makes a subscription of a configuration that is complete.
func (in *consumer) subscribeNew(ctx context.Context, cfg SubscribeConfig, added func()) (*Subscription, error) {
	s, err := newSubscription(in, cfg)
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	if err := in.add(ctx, s, added); err != nil {
		_ = in.finish(ctx, s)
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return s, nil
}

// Unsubscribe removes subscriptions that this client's session has at the broker, such
// as those of an earlier process with the same ClientID; Filters of a group are
// $share/<group>/<filter> here. It returns once the broker has answered, within the
// context. That there is no such subscription is no error. For one of this process use
// [Subscription.Close], since this would be made again on the next connection.
//
// The error is a *SubscribeError if the broker refused; wraps ErrConfig, ErrRefused,
// ErrClosed or the context's error.
func (c *Client) Unsubscribe(ctx context.Context, filters ...string) error {
	for _, f := range filters {
		if err := qos.ValidateFilter(f); err != nil {
			return fmt.Errorf("unsubscribe: %w: %w", ErrConfig, err)
		}
	}
	if len(filters) == 0 {
		return nil
	}
	if err := c.begin(); err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	defer c.calls.Done()
	in, err := c.ensureConsumer()
	if err != nil {
		return fmt.Errorf("unsubscribe: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(in.ctx, func() { cancel(ErrClosed) })
	defer stop()
	again := time.NewTicker(unsubscribeAgain)
	defer again.Stop()
	for {
		err := in.link.Unsubscribe(ctx, filters)
		var refused *SubscribeError
		switch {
		case err == nil, errors.As(err, &refused):
			return err
		}
		select { // there is no connection: the next one does it
		case <-again.C:
		case <-c.closing:
			return fmt.Errorf("unsubscribe: %w", ErrClosed)
		case <-in.link.Done():
			return fmt.Errorf("unsubscribe: %w", in.link.Err())
		case <-ctx.Done():
			return fmt.Errorf("unsubscribe: %w", context.Cause(ctx))
		}
	}
}

// unsubscribeAgain is how often Unsubscribe looks for a connection.
const unsubscribeAgain = 50 * time.Millisecond
