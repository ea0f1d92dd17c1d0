package autopaho

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/qos"
)

// Subscription is one subscription with its handler, workers and dedup state.
type Subscription struct {
	consumer *consumer
	client   *Client
	cfg      SubscribeConfig
	// Set by consumer.add and not changed: the Subscription Identifier, and the filters
	// as the broker has them, those of a group with its prefix.
	id          int
	wireFilters []string

	ctx    context.Context //nolint:containedctx // the handlers' life, longer than the call that began it
	cancel context.CancelFunc
	leased *dedup.Consumer // nil without a group and a store, or
	tx     transactional   // in transactional mode
	pool   runner          // nil in transactional mode
	qos0   chan struct{}   // counts QoS 0 messages in work
	solo   chan struct{}   // holds one: a message that may kill is in its handler

	letters patience // for its dead letters, without a group

	filters []filterCounters // one for each of cfg.Filters
	live    atomic.Bool      // the broker has agreed, and the connection is up

	made    chan error // holds one: the broker's first answer
	pending bool       // to be subscribed; used by the consumer's keep
	agreed  bool       // the broker has agreed once
	asked   bool       // the broker was asked once; guarded by consumer.mu

	told chan struct{} // closed when the broker has been told that it ends; nil while it stays. consumer.mu guards it and
	gone bool          // that keep has seen it
	left chan struct{} // closed when the broker has no more for it; nil before it ends. consumer.mu guards it
	idle chan struct{} // holds one: nothing is in work

	mu      sync.Mutex // guards the following
	items   itemList   // messages in work
	closing bool
	empty   chan struct{} // closed when open is zero and closing
	closed  chan struct{} // closed when closeWork has ended
}

func newSubscription(in *consumer, cfg SubscribeConfig) (*Subscription, error) {
	c := in.client
	s := &Subscription{
		consumer: in, client: c, cfg: cfg, letters: patience{client: c}, made: make(chan error, 1), pending: true,
		qos0: make(chan struct{}, qos0Most(&c.cfg)),
		idle: make(chan struct{}, 1), empty: make(chan struct{}), closed: make(chan struct{}), solo: make(chan struct{}, 1), filters: newFilterCounters(&cfg, in.temporary),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background()) // ended by closeWork
	storeError := func(err error) {
		c.store.note(err)
		c.event(Event{Kind: EventError, Err: fmt.Errorf("group %s: %w", cfg.Group, err)})
	}
	storeBack := func() { c.event(Event{Kind: EventStoreBack}) }
	var err error
	switch {
	case cfg.TxHandler != nil:
		s.tx, err = cfg.TxHandler.start(s, txSettings{
			store: c.cfg.Store, onStoreError: storeError, onStoreBack: storeBack,
		})
	case cfg.Group != "" && c.cfg.Store != nil:
		s.leased, err = dedup.New(dedup.Config{
			Store: c.claims(), Group: cfg.Group, Owner: c.cfg.ClientID, Lease: cfg.Lease, TellsBegin: true,
			Window: cfg.Window, ClockSkew: cfg.ClockSkew, Logger: c.cfg.Logger, OnStoreError: storeError, OnStoreBack: storeBack,
		})
	}
	if err != nil {
		s.cancel()
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	switch {
	case s.tx != nil:
	case cfg.BatchHandler != nil:
		many := &batchRun{sub: s}
		// Nothing runs before something is put.
		many.batcher = newBatcher(cfg.MaxBatch, cfg.MaxWait, many.run, s.work)
		s.pool = many.batcher
	default:
		s.pool = newPool(cfg.Workers, s.work)
	}
	return s, nil
}

// qos0Most is how many messages of QoS 0 may be in work, or wait to be: nothing else
// bounds them.
func qos0Most(c *Config) int { return max(1024, 4*c.ReceiveMaximum) }

// tell reports the broker's first answer to the caller of Subscribe.
func (s *Subscription) tell(err error) {
	select {
	case s.made <- err:
	default:
	}
}

// match is the first filter that a topic matches; nil if there is none.
func (s *Subscription) match(topic string) *filterCounters {
	for i := range s.filters {
		if f := &s.filters[i]; qos.Match(f.filter, topic) {
			return f
		}
	}
	return nil
}

// disconnected gives back what came by a connection that has ended and is not
// begun: it comes again. While the store is away and the connection flaps, it
// would otherwise pile up with every redelivery.
func (s *Subscription) disconnected() {
	s.live.Store(false)
	s.mu.Lock()
	var stale []*item
	for it := s.items.head; it != nil; it = it.next {
		if it.del.Stale() {
			stale = append(stale, it)
		}
	}
	s.mu.Unlock()
	for _, it := range stale {
		switch {
		case s.leased != nil:
			s.leased.Withdraw(it)
		case s.tx != nil:
			s.tx.release(it)
		}
	}
}

// take begins the work on a message that came by one of the filters. It is called
// by the link's reader.
func (s *Subscription) take(del *session.Delivery, sh *share, by *filterCounters, now time.Time) {
	by.received.Add(1)
	if del.Message.QoS == 0 && !s.roomForQoS0() {
		s.client.status.counters.droppedQoS0.Add(1)
		return
	}
	it := &item{sub: s, del: del, share: sh, by: by, received: Received{
		Message: del.Message, Dup: del.Dup, PacketID: del.PacketID(), Group: s.cfg.Group, At: now,
	}}
	it.ask("OrderBy", func(m *Message) { it.order = s.cfg.OrderBy(m) })
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		s.giveBack(del)
		return
	}
	s.items.add(it)
	s.mu.Unlock()
	if t := s.client.tracing; t != nil {
		it.span = t.received(s, it, now)
	}

	key, sent := s.keyOf(it)
	if key == "" && it.spoilt == nil && (s.leased != nil || s.tx != nil) {
		s.client.status.counters.unkeyed.Add(1)
	}
	var err error
	switch {
	case s.tx != nil:
		err = s.tx.submit(it, key, sent)
	case s.leased != nil:
		err = s.leased.Submit(it, key, sent)
	default:
		it.Granted(dedup.Grant{Attempts: 1})
	}
	if err != nil {
		s.over(it, dedup.OutcomeReleased) // it is closing
	}
}

// keyOf is the dedup key of a message, empty for none, and when it was first sent.
func (s *Subscription) keyOf(it *item) (key string, sent time.Time) {
	if s.leased == nil && s.tx == nil {
		return "", time.Time{}
	}
	ok := false
	it.ask("DedupKey", func(m *Message) { key, ok = s.cfg.DedupKey(m) })
	if !ok || it.spoilt != nil {
		return "", time.Time{}
	}
	sent, _ = dedup.SentTo(&it.received.Message, s.cfg.Group)
	return key, sent
}

// claimedAgain submits a message whose lost claim was given back; false if the
// subscription ends.
func (s *Subscription) claimedAgain(it *item) bool {
	key, sent := s.keyOf(it)
	return s.leased.Submit(it, key, sent) == nil
}

// roomForQoS0 waits a while for a worker, which the broker feels as a slow
// reader. Nothing else bounds QoS 0.
func (s *Subscription) roomForQoS0() bool {
	select {
	case s.qos0 <- struct{}{}:
		return true
	default:
	}
	beating := s.consumer.pulse.pause()
	defer func() { s.consumer.pulse.resume(beating) }()
	t := time.NewTimer(s.client.cfg.KeepAlive / 2)
	defer t.Stop()
	select {
	case s.qos0 <- struct{}{}:
		return true
	case <-t.C:
	case <-s.ctx.Done():
	}
	return false
}

// settled acknowledges, once the outcome is durable.
func (s *Subscription) settled(it *item, o dedup.Outcome) {
	counters := s.client.status.counters
	switch o {
	case dedup.OutcomeProcessed:
		counters.processed.Add(1)
		it.by.processed.Add(1)
	case dedup.OutcomeDead:
		counters.dead.Add(1)
		it.by.dead.Add(1)
		if it.tooOld != nil {
			counters.tooOld.Add(1)
			s.client.event(Event{Kind: EventTooOld, MessageID: it.received.ID, Topic: it.received.Topic, Err: it.tooOld})
		}
	case dedup.OutcomeDuplicate, dedup.OutcomeDuplicateDead:
		counters.duplicates.Add(1)
		it.by.duplicates.Add(1)
	case dedup.OutcomeReleased:
	}
	if r := s.client.recent; r != nil {
		r.settled(it, o)
	}
	if o.Acknowledge() && s.cfg.Receipts && s.wantsReceipt(it) {
		s.sendReceipt(it, o)
		return
	}
	s.over(it, o)
}

// outcomeNames are those of a span.
func outcomeNames(o dedup.Outcome) string {
	switch o {
	case dedup.OutcomeProcessed:
		return "processed"
	case dedup.OutcomeDead:
		return "dead"
	case dedup.OutcomeDuplicate, dedup.OutcomeDuplicateDead:
		return "duplicate"
	default:
		return "released"
	}
}

// over ends the work on an item.
func (s *Subscription) over(it *item, o dedup.Outcome) {
	switch {
	case !o.Acknowledge():
		s.giveBack(it.del)
	case it.share == nil || it.share.left.Add(-1) == 0:
		it.del.Ack(0)
	}
	if it.span != nil {
		it.span.SetAttributes(attrOutcome.String(outcomeNames(o)))
		it.span.End()
	}
	if it.received.QoS == 0 {
		<-s.qos0
	}
	s.mu.Lock()
	s.items.remove(it)
	idle, closing := s.items.len == 0, s.closing
	s.mu.Unlock()
	switch {
	case idle && closing:
		close(s.empty)
	case idle:
		signal(s.idle)
	}
}

// giveBack has the broker send a message again. What came after it could not be
// acknowledged otherwise.
func (s *Subscription) giveBack(del *session.Delivery) {
	del.Release()
	if del.Message.QoS > 0 && !del.Stale() {
		s.consumer.reconnect()
	}
}

// closeWork stops taking messages in and waits until what was taken is settled. What
// patience leaves no time for is given back; the handlers that have begun see it in
// their context, and have until ctx ends to have settled what they did: what has
// happened must not happen again. Who calls it while another does waits for that one.
func (s *Subscription) closeWork(ctx, patience context.Context) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return s.awaitClosed(ctx)
	}
	s.closing = true
	defer close(s.closed)
	idle := s.items.len == 0
	s.mu.Unlock()
	if idle {
		close(s.empty)
	}
	if s.pool != nil {
		s.pool.hasten() // what waits for another attempt is given back
	}
	if s.tx != nil {
		s.tx.Hasten()
	}
	var err error
	select {
	case <-s.empty:
	case <-patience.Done():
		if s.isEmpty() {
			break
		}
		err = fmt.Errorf("subscription closed with handlers still running: %w", patience.Err())
		s.consumer.reconnect() // what they hold must not hold up the others
	}
	s.cancel() // those that are left see it in their context
	var leased chan error
	if s.leased != nil {
		leased = make(chan error, 1)
		go func() { leased <- s.leased.Close(ctx) }() // nothing is granted any more
	}
	if s.tx != nil {
		err = errors.Join(err, s.tx.Close(patience)) // an open transaction is rolled back
	}
	select {
	case <-s.empty:
	case <-ctx.Done():
	}
	if s.pool != nil {
		err = errors.Join(err, s.pool.close(ctx))
	}
	if leased != nil {
		err = errors.Join(err, <-leased)
	}
	return err
}

// awaitClosed waits until closeWork has ended.
func (s *Subscription) awaitClosed(ctx context.Context) error {
	select {
	case <-s.closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("subscription is being closed: %w", ctx.Err())
	}
}

// shared tells whether the broker deals messages out to the members of a group.
func (s *Subscription) shared() bool { return s.cfg.Group != "" && !s.cfg.Unshared }

// awaitIdle waits until all that was taken is settled; false if ctx or stop ends before.
func (s *Subscription) awaitIdle(ctx context.Context, stop <-chan struct{}) bool {
	for !s.isEmpty() {
		select {
		case <-s.idle:
		case <-ctx.Done():
			return false
		case <-stop:
			return false
		}
	}
	return true
}

// taken is how many messages have come.
func (s *Subscription) taken() (n uint64) {
	for i := range s.filters {
		n += s.filters[i].received.Load()
	}
	return n
}

// isEmpty tells whether all that was taken is settled.
func (s *Subscription) isEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items.len == 0
}

// Close ends the subscription: the broker is told, and what it sends until it has
// answered is still taken in, since nobody else would get it (section 3.10.4). Of a
// group so is what the broker had queued for it, for ten seconds at most. Then what was
// received is finished. Without a connection the next one tells it. What the context
// leaves no time for is given back, and the connection is made anew so that the broker
// sends it again. A handler that runs then sees it in its context, and Close does not
// wait for it: Client.Close does, and what the handler has done is marked as processed.
func (s *Subscription) Close(ctx context.Context) error {
	if s.client.begin() == nil {
		defer s.client.calls.Done()
		s.consumer.leave(ctx, s)
	} else { // the client closes, which waits for it all the same
		s.consumer.leaveClosing(ctx, s)
	}
	return s.consumer.finish(ctx, s)
}

// abandon is Close without waiting for the broker.
func (s *Subscription) abandon(ctx context.Context) error {
	s.consumer.abandon(s)
	return s.consumer.finish(ctx, s)
}
