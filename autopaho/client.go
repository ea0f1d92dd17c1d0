package autopaho

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/internal/session"
)

// Client is a durable MQTT 5 client. Its methods are safe for concurrent use.
//
// It owns: the relay (one goroutine that looks after lanes, one that drains
// each, and the link of each), the link of subscriptions with the workers of
// each subscription, the link of Publish and that of responses. Close joins them all.
type Client struct {
	cfg     Config
	tracker tracker
	relay   *relay
	status  statusBoard
	store   *storeBreaker
	metrics *metrics // nil for none
	tracing *tracing // nil for none

	readiness  readiness
	stuckLimit time.Duration // tests have less time, here too:
	unrouted   time.Duration // unroutedWait
	recent     *recent       // nil for none
	// accepted: the broker has taken a connection of this client.
	accepted atomic.Bool

	// closing ends when Close begins; calls counts those that must finish
	// before anything is taken down.
	closing chan struct{}
	calls   sync.WaitGroup

	mu        sync.Mutex // guards the following
	closed    bool
	closeDone chan struct{}
	closeErr  error
	consumer  *consumer
	publisher *publisher
	requester *requester
}

// New checks the configuration and returns a client. It does not wait for the
// broker: Enqueue works without one, and connections are made in the background
// and made again for as long as the client lives. The context bounds the look
// at the store.
//
// The error wraps ErrConfig and lists every fault, or is the store's.
func New(ctx context.Context, cfg Config) (*Client, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.setDefaults()
	c := &Client{
		cfg: cfg, closing: make(chan struct{}), closeDone: make(chan struct{}),
		tracker: tracker{young: make(map[string]tracked)},
		status:  newStatusBoard(), stuckLimit: stuckLimit, unrouted: unroutedWait,
	}
	c.store = newStoreBreaker(c)
	c.tracing = newTracing(&c.cfg)
	var err error
	if c.metrics, err = newMetrics(c); err != nil {
		c.store.close()
		return nil, err
	}
	c.recent = newRecent(cfg.Recent)
	if cfg.Store != nil && !cfg.Relay.Off {
		r, err := newRelay(ctx, c)
		if err != nil {
			c.store.close()
			return nil, fmt.Errorf("start relay: %w", err)
		}
		c.relay = r
	}
	if err := c.metrics.start(); err != nil {
		return nil, errors.Join(err, c.Close(ctx))
	}
	return c, nil
}

// begin counts a call that Close waits for.
func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	c.calls.Add(1)
	return nil
}

// tracks tells whether this client's relay will report all open messages of q.
func (c *Client) tracks(q *Enqueued) bool {
	return c.relay != nil && c.relay.holdsLanesOf(q.refs) && c.tracker.knows(q)
}

// ended closes when no result will come from this client any more.
func (c *Client) ended() <-chan struct{} {
	if c.relay != nil {
		return c.relay.done
	}
	return c.closing
}

func (c *Client) endError() error {
	if c.relay != nil {
		if err := c.relay.Err(); err != nil {
			return err
		}
	}
	return ErrClosed
}

// Err tells why the client will not connect any more: it wraps ErrRefused or
// ErrDuplicateClientID, and is nil while it tries.
func (c *Client) Err() error {
	if c.relay != nil {
		if err := c.relay.Err(); err != nil && !errors.Is(err, ErrClosed) {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var links []*session.Link
	if c.consumer != nil {
		links = append(links, c.consumer.link)
	}
	if c.publisher != nil {
		links = append(links, c.publisher.link)
	}
	if c.requester != nil {
		links = append(links, c.requester.in.link)
	}
	for _, l := range links {
		if err := l.Err(); err != nil && !errors.Is(err, session.ErrClosed) {
			return err
		}
	}
	return nil
}

// Close ends the client: it stops taking messages in, finishes running
// handlers, sends the acknowledgements, waits for the broker's answers to what
// is in flight, gives its leases back and disconnects. What the context does
// not leave time for is left undone, which is safe: un-acknowledged messages
// stay in the outbox or come again from the broker. Close is idempotent and
// joins every goroutine.
//
// A client without a ClientID of its own, to whose session nobody comes back, leaves its
// groups as [Subscription.Close] does.
//
// It must not be called from a handler.
func (c *Client) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		select {
		case <-c.closeDone:
			return c.closeErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.closed = true
	close(c.closing)
	consumer, publisher, requester := c.consumer, c.publisher, c.requester
	c.mu.Unlock()

	var errs []error
	// 1. No new calls. Those under way finish: commits are short, and Publish
	// is answered, or ends with its link in step 3.
	called := make(chan struct{})
	go func() {
		c.calls.Wait()
		close(called)
	}()
	select {
	case <-called:
	case <-ctx.Done():
	}
	// 2. Handlers finish, their marks become durable, acknowledgements and
	// receipts leave, and the subscriptions' session is disconnected.
	if consumer != nil {
		consumer.leaveGroups(ctx)
		errs = append(errs, consumer.close(ctx))
	}
	// 3. The same for what Publish has under way.
	if publisher != nil {
		errs = append(errs, publisher.close(ctx))
	}
	if requester != nil {
		errs = append(errs, requester.in.close(ctx))
	}
	// 4. The relay waits for answers, settles, disconnects, and releases its
	// lanes last: nobody takes a lane whose client is still connected.
	if c.relay != nil {
		errs = append(errs, c.relay.close(ctx))
	}
	select {
	case <-called:
	case <-ctx.Done():
		// A call still waits for the store; it returns when that answers.
	}
	c.store.close()
	c.metrics.close()
	c.closeErr = errors.Join(errs...)
	close(c.closeDone)
	return c.closeErr
}

// sessionConfig is what all links of the client have in common.
func (c *Client) sessionConfig(clientID string) session.Config {
	urls, username, password := c.cfg.servers()
	return session.Config{
		Servers: urls, ClientID: clientID, Username: username, Password: password,
		Credentials: c.cfg.Credentials, Accepted: &c.accepted,
		TLS: c.cfg.TLS, TLSFiles: c.cfg.TLSFiles, Header: c.cfg.Header, Dial: c.cfg.Dial, KeepAlive: c.cfg.KeepAlive,
		SessionExpiry:  c.cfg.sessionExpiry(),
		ConnectTimeout: c.cfg.ConnectTimeout, PacketTimeout: c.cfg.PacketTimeout,
		AckTimeout: c.cfg.AckTimeout, Logger: c.cfg.Logger,
		Engine: session.EngineConfig{
			Window: c.cfg.Relay.Window, WindowBytes: c.cfg.Relay.WindowBytes,
			ReceiveMaximum: c.cfg.ReceiveMaximum, MaximumPacketSize: c.cfg.MaximumPacketSize,
			WriteTimeout: c.cfg.WriteTimeout,
			Completed:    func([]session.Completion) {},
			Received:     func([]*session.Delivery) {},
		},
	}
}

// event tells the user.
func (c *Client) event(e Event) {
	e.Time = time.Now()
	if c.recent != nil {
		c.recent.event(&e)
	}
	c.cfg.OnEvent(e)
}
