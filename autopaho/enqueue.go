package autopaho

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// Result is what became of one enqueued message.
type Result struct {
	// ID is the message ID.
	ID string
	// State is StateDelivered, StateAcknowledged, StateFailed, StateExpired,
	// StateDropped or StateSuperseded.
	State persist.State
	// ReasonCode is the broker's. 0x10 means that it took the message and
	// nobody subscribes to the topic. Zero as well if another process
	// delivered the message, since the outbox keeps no reason of a success.
	ReasonCode byte
	// Reason says in words why a message was not delivered.
	Reason string
}

// NoSubscribers tells that the broker took the message and that nobody was
// subscribed to its topic.
func (r *Result) NoSubscribers() bool { return r.ReasonCode == 0x10 }

// Err is nil for a message that was delivered or acknowledged, else a
// *DeliveryError.
func (r *Result) Err() error {
	switch r.State {
	case persist.StateFailed, persist.StateExpired, persist.StateDropped, persist.StateSuperseded:
		return &DeliveryError{ID: r.ID, State: r.State, ReasonCode: r.ReasonCode, Reason: r.Reason}
	case persist.StatePending, persist.StateDelivered, persist.StateAcknowledged:
	}
	return nil
}

// Enqueued is one or many messages that were accepted. It may be dropped:
// delivery does not depend on it.
type Enqueued struct {
	client   *Client
	ids      []string
	refs     []persist.Enqueued
	yielding bool     // some may give way to others
	patience patience // of look-ups

	mu        sync.Mutex
	results   []Result
	delivered int // results whose state is final or delivered
	settled   int // results whose state is final
	flags     []resultFlag
	changed   chan struct{} // closed and replaced when a count grows to the full number
}

// IDs are the message IDs, in the order of the messages.
func (q *Enqueued) IDs() []string { return q.ids }

type resultFlag uint8

const (
	flagFinal   resultFlag = 1 << iota // nothing comes after this result
	flagReceipt                        // the message asked for a receipt
	flagDoubt                          // that it is gone does not say that it was delivered
)

// ID is the first message's ID.
func (q *Enqueued) ID() string { return q.ids[0] }

// Refs are the places in the outbox, in the order of the messages.
func (q *Enqueued) Refs() []persist.Enqueued { return q.refs }

// Wait returns once the broker has answered for every message, or each has
// failed, expired, or given way to others; the results are in the order of the
// messages. A message that was not delivered is not an error of Wait: see
// [Result.Err]. That one gave way, in a full outbox (a policy's drop-oldest) or to
// a newer one of its key (supersede), is found within 2 s; of the last
// [persist.RememberedFates] messages to which that happened the store can tell.
//
// The error wraps the context's if that ends first, ErrRefused or
// ErrDuplicateClientID if this client's relay will not connect any more, or
// ErrClosed; the messages stay in the outbox in each case, and the results are
// those known so far. When this client has ended the store is asked once more, for
// 30 s at most if it does not answer.
func (q *Enqueued) Wait(ctx context.Context) ([]Result, error) {
	return q.wait(ctx, func() bool { return q.delivered == len(q.results) })
}

// WaitAcknowledged is Wait, but for messages that asked for a receipt it waits
// until the receipt has come.
func (q *Enqueued) WaitAcknowledged(ctx context.Context) ([]Result, error) {
	return q.wait(ctx, func() bool { return q.settled == len(q.results) })
}

// Results are the results known so far. The State of a message that has none
// yet is StatePending.
func (q *Enqueued) Results() []Result {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append([]Result(nil), q.results...)
}

func (q *Enqueued) wait(ctx context.Context, done func() bool) ([]Result, error) {
	// Another process may be the one that delivers: then only the store can
	// tell. While this client's own relay holds the lanes it is not asked.
	poll := time.NewTicker(lookupInterval)
	defer poll.Stop()
	polls := 0
	look := lookups{of: q}
	defer look.end()
	if q.yielding {
		// What gave way in the store was reported to nobody.
		look.begin(ctx)
	}
	for {
		q.mu.Lock()
		ok, changed := done(), q.changed
		q.mu.Unlock()
		if ok {
			return q.Results(), nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return q.Results(), fmt.Errorf("wait for delivery: %w", ctx.Err())
		case <-q.client.ended():
			if err := q.lookupLast(ctx); err == nil {
				q.mu.Lock()
				ok = done()
				q.mu.Unlock()
				if ok {
					return q.Results(), nil
				}
			}
			return q.Results(), fmt.Errorf("wait for delivery: %w", q.client.endError())
		case err := <-look.answer:
			look.answered(err)
		case <-poll.C:
			// What this client's relay delivers is reported to it. But the lane
			// may have been elsewhere for a while, so now and then the store is
			// asked all the same.
			if polls++; look.answer == nil && (look.again || !q.client.tracks(q) || polls%slowLookups == 0) {
				look.begin(ctx)
			}
		}
	}
}

// resolve records a result; final tells that nothing comes after it.
func (q *Enqueued) resolve(i int, r Result, final bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.flags[i]&flagFinal != 0 {
		return
	}
	if q.results[i].State == persist.StatePending {
		q.delivered++
	}
	q.results[i] = r
	if final {
		q.flags[i] |= flagFinal
		q.settled++
	}
	if q.delivered == len(q.results) || q.settled == len(q.results) {
		close(q.changed)
		q.changed = make(chan struct{})
	}
}

// Enqueue accepts one or many messages: when it has returned nil they are
// stored, all of them, and will reach the broker at least once, in the order of
// their keys, or end visibly as failed or expired. Concurrent calls share a
// commit; for throughput, pass many messages at once or call it from many
// goroutines.
//
// QoS 0 means the policy's level, 1 if that says nothing. A message ID that the
// caller chose is accepted once while it is in the outbox: enqueueing it again
// is not an error and adds nothing, so an Enqueue whose outcome is unknown
// (persist.ErrUnknownOutcome) may be repeated with the same IDs.
//
// A policy, or the message, may let it give way: to newer messages in a full outbox
// (drop-oldest), or to a newer one of its key (supersede). That ends it visibly
// too: see [Enqueued.Wait], and persist.Stats.
//
// The error wraps ErrInvalidMessage (nothing was stored, the message names the
// field), ErrNoStore, ErrClosed, or what the store says: persist.ErrOutboxFull,
// persist.ErrStoreFull, persist.ErrUnavailable. While the store's circuit breaker
// is open it is a *BreakerError, at once; see [BreakerStore].
//
// Payloads and properties must not be changed before Enqueue has returned, and not at
// all if the outcome is unknown.
func (c *Client) Enqueue(ctx context.Context, msgs ...Message) (*Enqueued, error) {
	return c.enqueue(ctx, false, msgs, func(prepared []Message) ([]persist.Enqueued, error) {
		if err := c.store.permit(); err != nil {
			return nil, err
		}
		start := c.metrics.timed()
		refs, err := c.cfg.Store.Enqueue(ctx, prepared)
		c.metrics.called(ctx, callEnqueue, start, err)
		c.store.note(err)
		return refs, err
	})
}

// EnqueueTx is Enqueue within a transaction of the database that the store
// lives in: the messages are accepted if and only if it commits. The relay finds
// them at its next poll, or at once after [Client.Wake].
//
//	q, err := client.EnqueueTx(ctx, store.WithTx(tx), msg)
//
// The outbox is made by the client's own store, from a *sql.Tx or a pgx.Tx. One
// of another store is refused: its messages would wait where no relay of this
// client looks. That error wraps ErrConfig.
//
// The handle learns of delivery from this client's relay only: that a message is
// not in the store may also mean that the transaction rolled back, and then Wait
// lasts until its context ends.
func (c *Client) EnqueueTx(ctx context.Context, tx persist.TxOutbox, msgs ...Message) (*Enqueued, error) {
	if c.cfg.Store == nil {
		return nil, fmt.Errorf("enqueue in a transaction: %w", ErrNoStore)
	}
	if tx == nil {
		return nil, fmt.Errorf("enqueue in a transaction: %w: the outbox is nil; use the store's WithTx", ErrConfig)
	}
	if ours, theirs := c.cfg.Store.Identity(), tx.Identity(); ours != theirs {
		return nil, fmt.Errorf("enqueue in a transaction: %w: the outbox is that of store %s, and Config.Store is store %s",
			ErrConfig, theirs, ours)
	}
	return c.enqueue(ctx, true, msgs, func(prepared []Message) ([]persist.Enqueued, error) {
		return tx.Enqueue(ctx, prepared)
	})
}

func (c *Client) enqueue(ctx context.Context, inTx bool, msgs []Message, store func([]Message) ([]persist.Enqueued, error)) (*Enqueued, error) {
	if c.cfg.Store == nil {
		return nil, fmt.Errorf("enqueue: %w", ErrNoStore)
	}
	if len(msgs) == 0 {
		return nil, fmt.Errorf("enqueue: %w: no message given", ErrInvalidMessage)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("enqueue: %w", err)
	}
	prepared, err := c.prepare(msgs)
	if err != nil {
		return nil, fmt.Errorf("enqueue: %w", err)
	}
	if err := c.begin(); err != nil {
		return nil, fmt.Errorf("enqueue: %w", err)
	}
	defer c.calls.Done()
	q := &Enqueued{
		client: c, patience: patience{client: c}, ids: make([]string, len(prepared)), results: make([]Result, len(prepared)),
		flags: make([]resultFlag, len(prepared)), changed: make(chan struct{}),
	}
	for i := range prepared {
		q.ids[i] = prepared[i].ID
		q.results[i] = Result{ID: prepared[i].ID, State: persist.StatePending}
		if prepared[i].Receipt {
			q.flags[i] = flagReceipt
		}
		q.yielding = q.yielding || prepared[i].Droppable || prepared[i].Supersede
		if inTx {
			q.flags[i] |= flagDoubt
		}
	}
	// Before they are stored: the relay may be faster than this goroutine.
	// Without one nobody here would ever report.
	if c.relay != nil {
		c.tracker.add(q)
	}
	failpoint.Hit(failpoint.EnqueueBefore)
	if c.tracing != nil {
		span := c.tracing.enqueue(ctx, prepared)
		defer func() { endSpan(span, err) }()
	}
	q.refs, err = store(prepared)
	failpoint.Hit(failpoint.EnqueueAfter)
	if err != nil {
		c.tracker.remove(q)
		return nil, fmt.Errorf("enqueue: %w", err)
	}
	return q, nil
}

// Wake has the relay look at the outbox at once, after a transaction with
// EnqueueTx was committed for one.
func (c *Client) Wake() {
	if c.relay != nil {
		c.relay.wakeAll()
	}
}

// trackerLimit bounds how many messages each of the tracker's generations knows. The
// handle of one that it does not know learns from the store, which knows all but the
// reason code of a success.
const trackerLimit = 100_000

// tracker tells handles what became of their messages. What this client's relay does
// not report, since another one delivered it or its transaction was rolled back, would
// stay in it for ever: so when as many are young as may be, those that were young
// before are forgotten.
type tracker struct {
	mu         sync.Mutex
	young, old map[string]tracked
}

type tracked struct {
	q *Enqueued
	i int
}

func (t *tracker) add(q *Enqueued) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(q.ids) > trackerLimit {
		return
	}
	if len(t.young)+len(q.ids) > trackerLimit {
		t.old, t.young = t.young, make(map[string]tracked)
	}
	for i, id := range q.ids {
		if t.of(id).q == nil {
			t.young[id] = tracked{q, i}
		}
	}
}

// of is who waits for a message; the zero value for nobody. t.mu is held.
func (t *tracker) of(id string) tracked {
	if w, ok := t.young[id]; ok {
		return w
	}
	return t.old[id]
}

// forget is told that nobody waits for a message any more. t.mu is held.
func (t *tracker) forget(id string) {
	delete(t.young, id)
	delete(t.old, id)
}

func (t *tracker) remove(q *Enqueued) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, id := range q.ids {
		if t.of(id).q == q {
			t.forget(id)
		}
	}
}

// knows tells whether all open messages of q will be reported to it.
func (t *tracker) knows(q *Enqueued) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, id := range q.ids {
		if q.flags[i]&flagFinal == 0 && t.of(id).q != q {
			return false
		}
	}
	return true
}

// outcome is what the relay learned of one message.
type outcome struct {
	result Result
	final  bool
}

// report passes an outcome on, and tells whether anybody here waited for it.
func (t *tracker) report(o outcome) bool {
	t.mu.Lock()
	w := t.of(o.result.ID)
	if w.q != nil && o.final {
		t.forget(o.result.ID)
	}
	t.mu.Unlock()
	if w.q != nil {
		w.q.resolve(w.i, o.result, o.final)
	}
	return w.q != nil
}

// stateOf is the state that a class of answers leads to.
func stateOf(class qos.Class) persist.State {
	if class == qos.Success || class == qos.NoSubscribers {
		return persist.StateDelivered
	}
	return persist.StateFailed
}
