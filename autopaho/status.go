package autopaho

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// ConnState is the state of a connection.
type ConnState string

// The states of a connection.
const (
	// StateDisconnected: none is wanted, or the client was closed.
	StateDisconnected ConnState = "disconnected"
	// StateConnecting: the first connection is being made.
	StateConnecting ConnState = "connecting"
	// StateConnected: messages flow.
	StateConnected ConnState = "connected"
	// StateReconnecting: a connection was lost and is being made again.
	StateReconnecting ConnState = "reconnecting"
	// StateError: the broker refused for good; nothing is tried any more.
	StateError ConnState = "error"
)

// ConnRole tells what a client uses an MQTT session for.
type ConnRole string

// The roles of a session.
const (
	// RoleRelay: it delivers a lane of the outbox.
	RoleRelay ConnRole = "relay"
	// RoleSubscriber: it receives for all subscriptions.
	RoleSubscriber ConnRole = "subscriber"
	// RolePublisher: Publish and the receipts use it.
	RolePublisher ConnRole = "publisher"
)

// ConnStatus describes one MQTT session of the client.
type ConnStatus struct {
	ClientID string
	Role     ConnRole
	// Lane is the lane that a session of RoleRelay delivers; zero for others.
	Lane  int
	State ConnState
	Since time.Time // when State began
	// Connects counts the connections that were made.
	Connects int
	// Attempts counts failed attempts since the last connection.
	Attempts  int
	LastError error
	// SessionPresent tells whether the broker knew the session at the last
	// connection.
	SessionPresent bool
	InFlight       int
	// Unacked counts received messages that are not acknowledged yet.
	Unacked int
	// Limits is what the broker allows.
	Limits session.Limits
}

// Counters count since the client was made.
type Counters struct {
	// Sent counts messages that the broker answered; Delivered those that it
	// took, of which NoSubscribers reached nobody; Acknowledged those whose
	// receipt came; Retried refusals that are tried again; Failed and Expired
	// those that ended so; Superseded those that gave way to a newer one of their
	// key after they had been read from the store.
	Sent, Delivered, NoSubscribers, Acknowledged, Retried, Failed, Expired, Superseded uint64
	// Resent counts messages that were sent again because their receipt did
	// not come in time. UnknownReceipts answered nothing that is here;
	// ForgedReceipts were not made with one of Config.ReceiptKeys, and were
	// ignored.
	Resent, UnknownReceipts, ForgedReceipts uint64
	// Received counts messages that the broker sent, Redelivered those with
	// the DUP flag; Processed, Duplicates, Dead and HandlerErrors what became
	// of them; TooOld those of the Dead that came after the dedup window;
	// Unkeyed those that had no dedup key; Unrouted those that no subscription
	// wanted; DroppedQoS0 those that no worker had time for, or that no Subscribe came
	// for before there were too many.
	Received, Redelivered, Processed, Duplicates, Dead, TooOld, HandlerErrors, Unkeyed, Unrouted, DroppedQoS0 uint64
	// ReceiptsSent counts receipts that were published.
	ReceiptsSent uint64
	// Connects counts the connections that were made, of all sessions, and
	// ConnectErrors the attempts that failed.
	Connects, ConnectErrors uint64
	// Stuck is how many handlers are running now that have not returned in time:
	// see SubscribeConfig.HandlerTimeout. It is no count, but a gauge.
	Stuck int64
}

// Status is the client at a moment.
type Status struct {
	// Connections are the sessions in use: one for subscriptions, one for
	// Publish, and one for each lane that this client drains.
	Connections []ConnStatus
	// Lanes are the numbers of the lanes that this client drains.
	Lanes    []int
	Counters Counters
	// Subscriptions are those that were made and not closed, in the order in which
	// they were made.
	Subscriptions []SubscriptionStatus
	// Breakers are the circuit breakers: the store's if there is a store, and the
	// broker's if this client drains the outbox.
	Breakers []BreakerStatus
	// Outbox is what the store holds; nil without a store, or if it could not
	// be asked.
	Outbox *persist.Stats
	// StoreErr is why it could not.
	StoreErr error
}

// counters are the live Counters.
type counters struct {
	sent, delivered, noSubscribers, acknowledged, retried, failed, expired atomic.Uint64
	resent, unknownReceipts, forgedReceipts, superseded                    atomic.Uint64
	received, redelivered, processed, duplicates, dead, handlerErrors      atomic.Uint64
	tooOld, unkeyed, unrouted, droppedQoS0, receiptsSent                   atomic.Uint64
	connects, connectErrors                                                atomic.Uint64
	stuck                                                                  atomic.Int64
}

func (c *counters) snapshot() Counters {
	return Counters{
		Sent: c.sent.Load(), Delivered: c.delivered.Load(), NoSubscribers: c.noSubscribers.Load(),
		Acknowledged: c.acknowledged.Load(), Retried: c.retried.Load(), Failed: c.failed.Load(),
		Expired: c.expired.Load(), Resent: c.resent.Load(), UnknownReceipts: c.unknownReceipts.Load(),
		ForgedReceipts: c.forgedReceipts.Load(),
		Received:       c.received.Load(), Redelivered: c.redelivered.Load(), Processed: c.processed.Load(),
		Duplicates: c.duplicates.Load(), Dead: c.dead.Load(), HandlerErrors: c.handlerErrors.Load(),
		Unkeyed: c.unkeyed.Load(), Unrouted: c.unrouted.Load(), DroppedQoS0: c.droppedQoS0.Load(),
		Superseded:   c.superseded.Load(),
		ReceiptsSent: c.receiptsSent.Load(), TooOld: c.tooOld.Load(), Stuck: c.stuck.Load(),
		Connects: c.connects.Load(), ConnectErrors: c.connectErrors.Load(),
	}
}

// statusBoard keeps what Status shows.
type statusBoard struct {
	counters *counters

	mu    sync.Mutex
	conns map[*connBoard]struct{}
}

func newStatusBoard() statusBoard {
	return statusBoard{counters: new(counters), conns: make(map[*connBoard]struct{})}
}

// connBoard follows one link.
type connBoard struct {
	client   *Client
	clientID string
	role     ConnRole
	lane     int
	link     *session.Link // set once, before anybody asks

	mu       sync.Mutex
	state    ConnState
	since    time.Time
	connects int
	attempts int
	lastErr  error
	present  bool
}

// follow prepares a link's configuration so that its life shows in Status and
// in events. The link is to be given to started.
func (c *Client) follow(cfg *session.Config) *connBoard {
	b := &connBoard{client: c, clientID: cfg.ClientID, state: StateConnecting, since: time.Now()}
	onUp, onDown, onError := cfg.OnUp, cfg.OnDown, cfg.OnError
	cfg.OnUp = func(s session.Snapshot) {
		b.up(s)
		if onUp != nil {
			onUp(s)
		}
	}
	cfg.OnDown = func(err error) {
		b.down(err)
		if onDown != nil {
			onDown(err)
		}
	}
	cfg.OnError = func(err error) {
		b.failed(err)
		if onError != nil {
			onError(err)
		}
	}
	return b
}

func (b *connBoard) started(l *session.Link) {
	b.mu.Lock()
	b.link = l
	b.mu.Unlock()
	b.client.status.mu.Lock()
	b.client.status.conns[b] = struct{}{}
	b.client.status.mu.Unlock()
}

func (b *connBoard) ended() {
	b.client.status.mu.Lock()
	delete(b.client.status.conns, b)
	b.client.status.mu.Unlock()
}

func (b *connBoard) up(s session.Snapshot) {
	b.client.status.counters.connects.Add(1)
	b.mu.Lock()
	again := b.connects > 0
	b.connects++
	b.attempts, b.lastErr, b.present = 0, nil, s.Present
	b.state, b.since = StateConnected, time.Now()
	b.mu.Unlock()
	kind := EventConnected
	if again {
		kind = EventReconnected
	}
	b.client.event(Event{Kind: kind, ClientID: b.clientID})
	if again && !s.Present {
		b.client.event(Event{Kind: EventSessionLost, ClientID: b.clientID})
	}
}

func (b *connBoard) down(err error) {
	b.mu.Lock()
	b.state, b.since, b.lastErr = StateReconnecting, time.Now(), err
	b.mu.Unlock()
	b.client.cfg.Logger.WarnContext(context.Background(), "connection ended", "client_id", b.clientID, "error", err)
	b.client.event(Event{Kind: EventDisconnected, ClientID: b.clientID, Err: err})
}

func (b *connBoard) failed(err error) {
	b.client.status.counters.connectErrors.Add(1)
	b.mu.Lock()
	b.attempts++
	b.lastErr = err
	b.mu.Unlock()
	b.client.cfg.Logger.WarnContext(context.Background(), "cannot connect", "client_id", b.clientID, "error", err)
	b.client.event(Event{Kind: EventError, ClientID: b.clientID, Err: err})
}

func (b *connBoard) status() ConnStatus {
	b.mu.Lock()
	s := ConnStatus{
		ClientID: b.clientID, Role: b.role, Lane: b.lane, State: b.state, Since: b.since, Connects: b.connects,
		Attempts: b.attempts, LastError: b.lastErr, SessionPresent: b.present,
	}
	l := b.link
	b.mu.Unlock()
	if l == nil {
		return s
	}
	if err := l.Err(); err != nil {
		s.State, s.LastError = StateError, err
		if errors.Is(err, session.ErrClosed) {
			s.State, s.LastError = StateDisconnected, nil
		}
	}
	snap := l.Engine().Snapshot()
	s.InFlight, s.Unacked, s.Limits = snap.InFlight, snap.Unacked, snap.Limits
	return s
}

// boards are those of the sessions in use: the subscriber's, the publisher's, and
// those of the lanes by number.
func (c *Client) boards() []*connBoard {
	c.status.mu.Lock()
	boards := slices.Collect(maps.Keys(c.status.conns))
	c.status.mu.Unlock()
	slices.SortFunc(boards, func(a, b *connBoard) int {
		return cmp.Or(-cmp.Compare(a.role, b.role), cmp.Compare(a.lane, b.lane))
	})
	return boards
}

// Counters are the client's counters at this moment; asking costs next to
// nothing.
func (c *Client) Counters() Counters { return c.status.counters.snapshot() }

// Status describes the client at this moment. The context bounds the look at
// the store.
func (c *Client) Status(ctx context.Context) Status {
	s := c.statusOf()
	if c.cfg.Store == nil {
		return s
	}
	if s.StoreErr = c.store.permit(); s.StoreErr != nil {
		return s // without waiting for a time-out
	}
	st, err := c.cfg.Store.Stats(ctx)
	if err != nil {
		s.StoreErr = err
	} else {
		s.Outbox = &st
	}
	return s
}

// statusOf is Status without a look at the store.
func (c *Client) statusOf() Status {
	s := Status{Counters: c.status.counters.snapshot()}
	for _, b := range c.boards() {
		s.Connections = append(s.Connections, b.status())
	}
	s.Subscriptions = c.Subscriptions()
	if c.relay != nil {
		s.Lanes = c.relay.held()
		s.Breakers = append(s.Breakers, c.relay.breaker.snapshot())
	}
	if c.cfg.Store != nil {
		s.Breakers = append(s.Breakers, c.store.snapshot())
	}
	return s
}
