package autopaho

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/qos"
)

// consumer is the link of all subscriptions: it routes what comes to them, and
// subscribes again on every connection.
//
// Its one goroutine (keep) sends every SUBSCRIBE and UNSUBSCRIBE.
type consumer struct {
	client    *Client
	link      *session.Link
	board     *connBoard
	temporary bool // its subscriptions come and go with requests; set before the first

	ctx    context.Context //nolint:containedctx // the consumer's own life; ends with close
	cancel context.CancelFunc
	wake   chan struct{} // holds one: keep has something to do
	joined chan struct{} // closed when keep has returned
	pulse  pulse         // of received

	// routing is held while messages are dealt out, and while a subscription is added
	// and gets what waited for it: in the order in which they came, and none that came
	// before it is kept as if nobody wanted it. It is taken before mu.
	routing sync.Mutex
	// gathering is how many subscriptions are to be added before anything is dealt
	// out; routing guards it.
	gathering int

	mu       sync.Mutex // guards the following
	subs     []*Subscription
	stale    bool   // a connection came up on which nothing is subscribed yet
	present  bool   // the broker kept the session on it
	seen     uint64 // the generation of the connection that up was told of last
	unrouted []unrouted
	giveUp   *time.Timer // of the unrouted
	notFound Handler     // of the unrouted; nil for none
	taken    bool        // a router that was started has the right to notFound
	again    *time.Timer // until reconnect
	unwanted []string    // filters to unsubscribe from
	closed   bool
	// finishing are those that have left subs, and are not through yet.
	finishing []*Subscription

	dropping sync.Mutex // held while what is unrouted is put aside
	letters  patience   // for that
}

// ensureConsumer starts the link at the first Subscribe.
func (c *Client) ensureConsumer() (*consumer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed // which has seen what there is to close
	}
	if c.consumer != nil {
		return c.consumer, nil
	}
	cfg := c.sessionConfig(c.cfg.ClientID)
	cfg.CleanStart = c.cfg.CleanStart
	cfg.SessionExpiry = uint32(c.cfg.subscriberExpiry() / time.Second)
	cfg.Will, cfg.WillProperties = session.Will(c.cfg.Will, c.cfg.WillDelay)
	in, err := c.startConsumer(cfg)
	if err != nil {
		return nil, err
	}
	c.consumer = in
	return in, nil
}

// startConsumer starts a link of subscriptions.
func (c *Client) startConsumer(cfg session.Config) (*consumer, error) {
	in := &consumer{client: c, letters: patience{client: c}, wake: make(chan struct{}, 1), joined: make(chan struct{})}
	in.ctx, in.cancel = context.WithCancel(context.Background()) // ended by close
	cfg.Engine.Received = in.received
	cfg.OnUp = in.up
	cfg.OnDown = in.down
	in.board = c.follow(&cfg)
	in.board.role = RoleSubscriber
	link, err := session.Start(cfg)
	if err != nil {
		in.cancel()
		return nil, err
	}
	in.link = link
	in.board.started(link)
	go in.keep()
	return in, nil
}

func (in *consumer) up(s session.Snapshot) {
	in.mu.Lock()
	in.stale, in.present, in.seen = true, s.Present, s.Generation
	if !s.Present {
		in.unwanted = nil // the broker has forgotten them
	}
	for _, sub := range in.subs {
		sub.live.Store(false) // until keep has looked at it
	}
	in.mu.Unlock()
	in.signal()
}

// down is told that a connection has ended.
func (in *consumer) down(error) {
	in.forgetStale()
	in.mu.Lock()
	subs := append([]*Subscription(nil), in.subs...)
	in.mu.Unlock()
	for _, s := range subs {
		s.disconnected()
	}
}

func (in *consumer) signal() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// add has a subscription made, and waits until the broker has agreed.
// added is called once it is known here; nil for nothing.
func (in *consumer) add(ctx context.Context, s *Subscription, added func()) error {
	in.routing.Lock()
	in.mu.Lock()
	s.wireFilters = filtersOf(s.wire())
	s.id = subscriptionID(in.subs, s)
	in.subs = append(in.subs, s)
	in.mu.Unlock()
	in.dealHeld()
	in.routing.Unlock()
	if added != nil {
		added()
	}
	in.signal()
	select {
	case err := <-s.made:
		if err != nil {
			in.abandon(s) // of several filters some may have been granted
		}
		return err
	case <-ctx.Done():
		in.abandon(s)
		if err := in.board.status().LastError; err != nil {
			return fmt.Errorf("%w; last: %w", ctx.Err(), err)
		}
		return ctx.Err()
	case <-in.link.Done():
		in.remove(s)
		return in.link.Err()
	case <-in.client.closing:
		in.leaveClosing(ctx, s) // the broker may have dealt to it already
		in.remove(s)
		return ErrClosed
	}
}

func (in *consumer) remove(s *Subscription) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for i := range in.subs {
		if in.subs[i] == s {
			in.subs = append(in.subs[:i:i], in.subs[i+1:]...)
			return
		}
	}
}

// reconnectWait is how long deliveries that were given back wait for others.
const reconnectWait = time.Second

// reconnect has the broker send again what was given back: until then nothing
// that came after it could be acknowledged [MQTT-4.6.0-2].
func (in *consumer) reconnect() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closed || in.again != nil {
		return
	}
	in.again = time.AfterFunc(reconnectWait, func() {
		in.mu.Lock()
		in.again = nil
		closed := in.closed
		in.mu.Unlock()
		if !closed {
			in.link.Drop()
		}
	})
}

// keep subscribes: what is new, and on a new connection everything. If the
// broker kept the session that is not needed, but harmless and a check.
func (in *consumer) keep() {
	defer close(in.joined)
	for {
		select {
		case <-in.ctx.Done():
			return
		case <-in.link.Done():
			return
		case <-in.wake:
		}
		in.mu.Lock()
		if in.stale {
			in.stale = false
			for _, s := range in.subs {
				s.pending = s.pending || !s.agreed || !in.present || s.cfg.Retained != RetainedAlways
				s.live.Store(!s.pending)
			}
		}
		// Both at once: one that goes in between is in neither, or in unwanted alone.
		var subs []*Subscription
		var leaving []*Subscription
		for _, s := range in.subs {
			if s.told == nil {
				subs = append(subs, s)
			} else if !s.gone {
				s.gone = true
				leaving = append(leaving, s)
			}
		}
		unwanted := in.unwanted
		in.unwanted = nil
		in.mu.Unlock()
		in.haveTold(leaving, in.unsubscribe(unwanted, subs))
		for _, s := range subs {
			if s.pending && !in.subscribe(s) {
				break // the next connection goes on
			}
		}
	}
}

// subscribe makes one subscription; it is false if the connection is gone. Only
// keep calls it, and only keep uses pending and agreed after they were set.
func (in *consumer) subscribe(s *Subscription) bool {
	snap := in.link.Engine().Snapshot()
	if !snap.Connected {
		return false
	}
	id := s.id
	if !snap.Limits.SubscriptionIDs {
		id = 0
	}
	in.mu.Lock()
	if snap.Generation != in.seen { // up is still to be told, and has all made then
		in.mu.Unlock()
		return false
	}
	if !slices.Contains(in.subs, s) { // it has gone since, and nobody will tell the broker
		in.mu.Unlock()
		return true
	}
	s.asked = true
	in.mu.Unlock()
	before := in.client.status.counters.received.Load()
	_, err := in.link.Subscribe(in.ctx, s.wire(), id)
	if errors.Is(err, session.ErrTooManyRequests) { // their answers stand behind much
		ctx, cancel := context.WithTimeout(in.ctx, in.client.cfg.PacketTimeout)
		err = in.link.Engine().WaitRequest(ctx)
		cancel()
		if err == nil {
			in.signal()
			return false
		}
	}
	var refused *SubscribeError
	switch {
	case err == nil:
		s.pending, s.agreed = false, true
		s.live.Store(true)
		s.tell(nil)
	case errors.As(err, &refused), !errors.Is(err, ErrConnectionLost) && in.ctx.Err() == nil && !isTimeout(err):
		s.pending = false
		s.tell(err)
		if s.agreed {
			// It was agreed to once: the broker changed its mind.
			in.client.cfg.Logger.ErrorContext(in.ctx, "subscription refused", "error", err)
			in.client.event(Event{Kind: EventError, ClientID: in.board.clientID, Err: err})
		}
	case isTimeout(err) && (in.client.status.counters.received.Load() != before || in.link.Engine().Snapshot().Crowded):
		// The answer stands behind what the broker has kept for the session, and
		// that comes as fast as it is processed, or is read once it is.
		in.signal()
		return false
	case isTimeout(err):
		in.link.Drop() // a broker that does not answer SUBSCRIBE is not alive
		return false
	default:
		return false
	}
	return true
}

func isTimeout(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// close finishes what is in work and disconnects.
func (in *consumer) close(ctx context.Context) error {
	in.mu.Lock()
	in.closed = true
	for _, t := range []*time.Timer{in.giveUp, in.again} {
		if t != nil {
			t.Stop()
		}
	}
	subs, finishing := slices.Clone(in.subs), slices.Clone(in.finishing)
	in.mu.Unlock()
	var errs []error
	for _, s := range subs {
		errs = append(errs, s.closeWork(ctx, ctx))
	}
	for _, s := range finishing {
		errs = append(errs, s.awaitClosed(ctx))
	}
	in.waitDropped(ctx)
	if in.link.Engine().Snapshot().Connected {
		_ = in.link.Engine().WaitFlushed(ctx) // the acknowledgements of what was finished
	}
	in.cancel()
	<-in.joined
	for _, s := range finishing {
		<-s.closed
	}
	errs = append(errs, in.link.Close(ctx))
	in.board.ended()
	return errors.Join(errs...)
}

// wire is the subscription as SUBSCRIBE has it.
func (s *Subscription) wire() []session.Subscription {
	subs := make([]session.Subscription, len(s.cfg.Filters))
	for i, f := range s.cfg.Filters {
		if s.shared() {
			f, _ = qos.JoinShared(s.cfg.Group, f) // validated
		}
		subs[i] = session.Subscription{
			Filter: f, QoS: s.cfg.QoS, NoLocal: s.cfg.NoLocal,
			RetainAsPublished: s.cfg.RetainAsPublished, RetainHandling: s.cfg.Retained.wire(),
		}
	}
	return subs
}
