package autopaho

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

const (
	// settleSize is how many settlements make a batch at once, settleDelay how
	// long fewer wait for company.
	settleSize  = 256
	settleDelay = 2 * time.Millisecond
	// earlyPoll is how often a lane is looked at in its first time with a holder,
	// earlyPeriod: what comes while it changes hands has waited already.
	earlyPoll   = 100 * time.Millisecond
	earlyPeriod = time.Second
	// closeTimeout bounds the writes of a drain that ends after its context.
	closeTimeout = 2 * time.Second
	// overduePause is how often the queue is looked through for messages whose time
	// has passed, which the engine finds by itself while it sends.
	overduePause = 250 * time.Millisecond
)

// drain empties one leased lane over one link.
//
// Three goroutines: run reads pages, settles and records receipts, so that the
// lane is used by one; renew keeps the lease from a path of its own; the link
// calls Take and completed from its own. What they share is guarded by mu, which
// no call to the store or the link is made under.
type drain struct {
	relay  *relay
	client *Client
	lane   persist.Lane
	work   chan struct{} // holds one: run has something to do

	receipts *receiptInbox
	ahead    time.Duration // by which our clock is ahead of the store's; for metrics
	pulse    pulse         // of loop
	answers  pulse         // of completed

	lost      chan error // why the lane or its session is not ours any more
	tenure    *tenure
	patience  patience
	mayBeMore atomic.Bool   // the lane has not been read to its end
	yield     chan struct{} // closed once the lane is to be given back
	// adopted: the lane is beyond the relay's share; yielding: yield is closed.
	// Both are guarded by relay.mu.
	adopted, yielding bool

	mu      sync.Mutex
	link    *session.Link // nil until it is started: it may call back before that
	queue   sendQueue
	out     int // handed out by the lane and not ended
	ended   []ending
	stamps  map[string]int64 // by message ID, of those that await a receipt
	states  states
	dated   bool           // some of the queue must be sent within a time
	begun   map[int64]bool // by position, of those that an earlier holder has sent at QoS 2
	stopped bool
}

// ending is a message whose end is to be settled, and what to report then.
type ending struct {
	settlement persist.Settlement
	report     *outcome          // nil if it was reported before, or is none
	over       bool              // the lane's hand-out has ended
	exchange   *session.Outgoing // what the engine keeps until this is durable; nil for nothing
}

func newDrain(r *relay, lane persist.Lane, t *tenure) *drain {
	d := &drain{
		relay: r, client: r.client, lane: lane, work: make(chan struct{}, 1), tenure: t, patience: patience{client: r.client}, yield: make(chan struct{}),
		lost:   make(chan error, 2), // one of the lease, one of the session
		states: make(states),
	}
	d.queue.init()
	d.receipts = newReceiptInbox(d)
	d.mayBeMore.Store(true)
	return d
}

// signal has run look at what is due.
func (d *drain) signal() { signal(d.work) }

// signal fills a channel that holds one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (d *drain) setLink(l *session.Link) {
	d.mu.Lock()
	d.link = l
	d.mu.Unlock()
}

// wasUseful tells whether the connection that has just ended moved a message.
func (d *drain) wasUseful() bool {
	e := d.engine()
	return e != nil && e.Snapshot().Progress
}

// engine is the link's; nil until that is started.
func (d *drain) engine() *session.Engine {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.link == nil {
		return nil
	}
	return d.link.Engine()
}

// wakeEngine tells the engine that there may be something to send.
func (d *drain) wakeEngine() {
	if e := d.engine(); e != nil {
		e.Wake()
	}
}

// look has run read the lane.
func (d *drain) look() {
	d.mayBeMore.Store(true)
	d.signal()
}

// clientID is the MQTT session of the lane: the store's, so that two stores
// never meet, and the same wherever the lane is drained.
func (d *drain) clientID() string {
	switch id := d.client.cfg.Relay.ClientID; {
	case id == "":
	case d.relay.lanes == 1:
		return id
	default:
		return fmt.Sprintf("%s-%d", id, d.lane.Number())
	}
	return fmt.Sprintf("oncemq-%s-%d", d.client.cfg.Store.Identity()[:12], d.lane.Number())
}

// run drains until the relay closes or gives the lane back (nil), the lease is
// lost, another client takes the session, or the broker refuses for good.
func (d *drain) run() error {
	ctx, cancel := context.WithCancel(d.relay.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	wg.Go(func() { d.renew(ctx) })
	d.ahead = d.client.metrics.storeAhead(ctx)
	before, err := d.restore(ctx)
	if err != nil {
		d.release(err)
		return unlessStopped(err)
	}
	cfg := d.client.sessionConfig(d.clientID())
	// A session in which nothing was in flight at QoS 2 is of no use to go on
	// with. Later connections of this process keep it in any case.
	cfg.CleanStart = len(before.exchanges) == 0
	cfg.Engine.Restored = before.exchanges
	d.begun = before.begun()
	cfg.Engine.Save = d.savePackets
	if d.lane.Number() == 0 {
		cfg.Will, cfg.WillProperties = session.Will(d.client.cfg.Relay.Will, d.client.cfg.WillDelay)
	}
	cfg.Engine.Source = d
	cfg.Engine.Gate = true
	cfg.Engine.Completed = d.completed
	cfg.Engine.Received = d.receipts.received
	breaker := d.relay.breaker
	cfg.OnUp = func(session.Snapshot) {
		breaker.up(d)
		signal(d.tenure.up)
		d.receipts.signal()
	}
	cfg.OnDown = func(err error) { breaker.down(d, err, d.wasUseful()) }
	cfg.OnError = func(err error) { breaker.down(d, err, false) }
	defer breaker.gone(d)
	cfg.Permit = d.tenure.permit
	board := d.client.follow(&cfg)
	board.role, board.lane = RoleRelay, d.lane.Number()
	link, err := session.Start(cfg)
	if err != nil {
		d.release(err)
		return err
	}
	d.setLink(link)
	board.started(link)
	defer board.ended()
	wg.Go(func() { d.receipts.listen(ctx, link) })
	d.put(before.entries)
	err = unlessStopped(d.loop(ctx, link))
	if kept := d.finish(link, err); !kept && errors.Is(err, ErrDuplicateClientID) {
		// Who took the session is the lane's next holder, and right to do so.
		return fmt.Errorf("lane %d: %w", d.lane.Number(), persist.ErrLeaseLost)
	}
	return err
}

// errDrainStops ends the loop of a drain whose relay closes or gives the lane
// back. A save that fails with it was given up.
var errDrainStops = fmt.Errorf("drain stops: %w", context.Canceled)

func unlessStopped(err error) error {
	if errors.Is(err, errDrainStops) {
		return nil
	}
	return err
}

// loop reads, settles and records receipts as they become due.
func (d *drain) loop(ctx context.Context, link *session.Link) error {
	settle := time.NewTimer(time.Hour)
	defer settle.Stop()
	retry := time.NewTimer(time.Hour)
	defer retry.Stop()
	overdue := time.NewTicker(overduePause)
	defer overdue.Stop()
	defer d.pulse.rest()
	armed := false // settle is running: it is not put off by what comes later
	early := time.NewTicker(earlyPoll)
	defer early.Stop()
	for begun := time.Now(); ; {
		d.pulse.beat(time.Now())
		if err := d.settle(ctx, false); err != nil {
			return err
		}
		if err := d.receipts.record(ctx); err != nil {
			return err
		}
		if err := d.refill(ctx); err != nil {
			return err
		}
		switch waiting := d.waiting(); {
		case waiting && !armed:
			settle.Reset(settleDelay)
			armed = true
		case !waiting:
			armed = false
		}
		if next, ok := d.retryDue(time.Now()); ok {
			retry.Reset(next)
		}
		select {
		case <-d.work:
		case <-settle.C:
			armed = false
			if err := d.settle(ctx, true); err != nil {
				return err
			}
		case <-retry.C:
		case <-overdue.C:
			d.endOverdue(time.Now())
		case <-early.C:
			d.mayBeMore.Store(true)
			if time.Since(begun) > earlyPeriod {
				early.Stop()
			}
		case <-link.Done():
			return link.Err()
		case err := <-d.lost:
			return err
		case <-d.yield:
			return nil
		case <-d.relay.stop:
			return nil
		}
	}
}

// hold waits a moment after an error of the store; a lost lease ends the drain.
func (d *drain) hold(ctx context.Context, what string, err error) error {
	if errors.Is(err, persist.ErrLeaseLost) || errors.Is(err, persist.ErrClosed) {
		return fmt.Errorf("%s: %w", what, err)
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // it is the drain that ends, not the store
	}
	d.relay.trouble(what, err)
	d.sleep(ctx, 200*time.Millisecond)
	d.signal()
	return nil
}

// sleep waits; it is false if the drain should end.
func (d *drain) sleep(ctx context.Context, t time.Duration) bool {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-d.yield:
	case <-d.relay.stop:
	}
	return false
}
