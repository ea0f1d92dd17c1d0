package autopaho

import (
	"strings"
	"sync"
	"time"

	"github.com/oncemq/oncemq/dedup"
)

// MaxRecent is the most that Config.Recent may be.
const MaxRecent = 100_000

// RecentOutcome is what became of a message.
type RecentOutcome string

// The outcomes of messages that were sent, and of those that were received.
const (
	RecentDelivered    RecentOutcome = "delivered"    // the broker acknowledged it
	RecentAcknowledged RecentOutcome = "acknowledged" // its receipt came
	RecentFailed       RecentOutcome = "failed"       // it failed for good, or expired
	RecentSuperseded   RecentOutcome = "superseded"   // a newer one of its key took its place

	RecentProcessed RecentOutcome = "processed" // its handler succeeded
	RecentDuplicate RecentOutcome = "duplicate" // it was processed before
	RecentDead      RecentOutcome = "dead"      // it became a dead letter
	RecentReleased  RecentOutcome = "released"  // it was given back, and comes again
)

// RecentMessage is a message whose outcome was seen a while ago. Nothing of its
// payload and properties is kept.
type RecentMessage struct {
	// At is when the outcome was seen, by this process's clock.
	At      time.Time
	Outcome RecentOutcome
	ID      string
	// Topic is empty of a message that this client has enqueued and that failed.
	Topic string
	// Group is the subscription's; empty for none, and of messages that were sent.
	Group string
	// Attempts is how often a received message was begun; zero of one that was sent.
	Attempts int
	// ReasonCode is the broker's, of RecentDelivered.
	ReasonCode byte
	// Reason is why, of RecentFailed and RecentDead.
	Reason string
}

// recent is a ring of the last outcomes.
type recent struct {
	mu   sync.Mutex // guards the following
	ring []RecentMessage
	next int
}

// newRecent is nil, which keeps nothing, if size is zero.
func newRecent(size int) *recent {
	if size == 0 {
		return nil
	}
	return &recent{ring: make([]RecentMessage, 0, size)}
}

// add keeps an outcome in place of the oldest. Its texts are copied: they may be
// parts of a packet.
func (r *recent) add(m RecentMessage) {
	m.At = time.Now()
	m.ID, m.Topic = strings.Clone(m.ID), strings.Clone(m.Topic)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, m)
		return
	}
	r.ring[r.next] = m
	r.next = (r.next + 1) % len(r.ring)
}

// event keeps what an event tells of a message that was sent.
func (r *recent) event(e *Event) {
	m := RecentMessage{ID: e.MessageID, Topic: e.Topic, ReasonCode: e.ReasonCode}
	switch e.Kind {
	case EventDelivered:
		m.Outcome = RecentDelivered
	case EventAcknowledged:
		m.Outcome = RecentAcknowledged
	case EventFailed:
		m.Outcome = RecentFailed
		if e.Err != nil {
			m.Reason = e.Err.Error()
		}
	case EventSuperseded:
		m.Outcome = RecentSuperseded
	default:
		return
	}
	r.add(m)
}

// settled keeps the outcome of a message that was received.
func (r *recent) settled(it *item, o dedup.Outcome) {
	m := RecentMessage{
		ID: it.received.ID, Topic: it.received.Topic, Group: it.sub.cfg.Group, Attempts: it.received.Attempt,
	}
	switch o {
	case dedup.OutcomeProcessed:
		m.Outcome = RecentProcessed
	case dedup.OutcomeDuplicate, dedup.OutcomeDuplicateDead:
		m.Outcome = RecentDuplicate
	case dedup.OutcomeDead:
		m.Outcome = RecentDead
		switch {
		case it.tooOld != nil:
			m.Reason = it.tooOld.Error()
		case it.dead != nil:
			m.Reason = it.dead.Reason
		}
	default:
		m.Outcome = RecentReleased
	}
	r.add(m)
}

// Recent are the outcomes of the last messages, at most Config.Recent, the oldest
// first; none if that is zero.
func (c *Client) Recent() []RecentMessage {
	r := c.recent
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(append([]RecentMessage(nil), r.ring[r.next:]...), r.ring[:r.next]...)
}
