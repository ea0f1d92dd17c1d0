package dedup

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Delivery is one delivery of a message, from its PUBLISH packet to the moment
// when it may be acknowledged. A type becomes one by embedding [Node]:
//
//	type inbound struct {
//		dedup.Node
//		message persist.Message
//	}
//
// Its methods are called by the consumer's goroutines, or from within Submit,
// Complete or Release, outside of any lock. They must not block: what they hold
// up is every other delivery. They may call Submit, Complete and Release.
type Delivery interface {
	// Granted says: run the handler now, the claim is yours. The receiver
	// answers with exactly one of Complete and Release. A Granted that comes
	// after Release was called is void, and Settled follows.
	Granted(grant Grant)

	// Settled is the last word on the delivery; it may be submitted again
	// afterwards, or reused for another message.
	Settled(outcome Outcome)

	node() *Node
}

// Outcome is what became of a delivery.
type Outcome uint8

const (
	// OutcomeProcessed says that the handler succeeded and the mark is durable.
	// Acknowledge.
	OutcomeProcessed Outcome = iota + 1
	// OutcomeDead says that the dead letter and the mark are durable.
	// Acknowledge.
	OutcomeDead
	// OutcomeDuplicate says that another delivery completed the key.
	// Acknowledge.
	OutcomeDuplicate
	// OutcomeReleased says that the delivery was given back undecided. Do not
	// acknowledge: the broker delivers the message again.
	OutcomeReleased
)

// Acknowledge tells whether the broker may get its PUBACK or PUBREC.
func (o Outcome) Acknowledge() bool {
	return o == OutcomeProcessed || o == OutcomeDead || o == OutcomeDuplicate
}

// String is "processed", "dead", "duplicate" or "released".
func (o Outcome) String() string {
	switch o {
	case OutcomeProcessed:
		return "processed"
	case OutcomeDead:
		return "dead"
	case OutcomeDuplicate:
		return "duplicate"
	case OutcomeReleased:
		return "released"
	}
	return "undecided"
}

// Grant is the right to process a message.
type Grant struct {
	// Epoch is the fencing token: of two grants of one key the later has the
	// higher. A handler whose effect lies outside the store passes it on, so
	// that the other side can refuse what a stale holder sends. Zero for a
	// delivery without a key.
	Epoch int64
	// Attempts is how often the message was begun without being completed, by
	// all replicas and across restarts, this time included: at least 1. Always
	// 1 for a delivery without a key.
	Attempts int
	// TooOld, if set, says that the message came when its key may have been
	// forgotten. The handler must not run; the receiver completes the delivery
	// with a dead letter, whose reason the error is.
	TooOld *TooOldError

	consumer *Consumer
	n        *Node
	turn     uint64
}

// Context derives a context that is cancelled, with the cause ErrClaimLost, once
// the lease can no longer be relied on: its renewal failed until shortly before
// its end, or was refused. The handler should stop then; its completion is still
// tried, and the store decides by the epoch. The caller calls cancel when the
// handler has returned. A grant whose context is never asked for costs nothing,
// and without a key the context is never lost.
func (g Grant) Context(parent context.Context) (ctx context.Context, cancel context.CancelFunc) {
	return ContextOf(parent, g)
}

// ContextOf is [Grant.Context] for a handler that works on several messages at
// once: the context is cancelled once one of the leases cannot be relied on.
func ContextOf(parent context.Context, grants ...Grant) (ctx context.Context, cancel context.CancelFunc) {
	ctx, cancelCause := context.WithCancelCause(parent)
	for _, g := range grants {
		if g.watch(cancelCause) {
			cancelCause(ErrClaimLost)
		}
	}
	return ctx, func() { cancelCause(context.Canceled) }
}

// watch has cancel called when the lease is lost, or tells that it is already.
func (g Grant) watch(cancel context.CancelCauseFunc) (lost bool) {
	if g.consumer == nil || g.n == nil {
		return false
	}
	g.consumer.mu.Lock()
	defer g.consumer.mu.Unlock()
	current := g.n.turn == g.turn && (g.n.phase == phaseAnnounced || g.n.phase == phaseGranted)
	lost = current && g.n.lost
	if current && !lost {
		g.n.onLost = both(g.n.onLost, cancel)
	}
	return lost
}

// both calls earlier, if there is one, and later.
func both(earlier, later context.CancelCauseFunc) context.CancelCauseFunc {
	if earlier == nil {
		return later
	}
	return func(cause error) {
		earlier(cause)
		later(cause)
	}
}

// Node is a delivery's place in the consumer. It is embedded in a [Delivery],
// must not be copied, and is ready as a zero value.
type Node struct {
	noCopy noCopy

	// All fields are guarded by the mutex of the consumer that the delivery
	// was submitted to.

	delivery   Delivery
	txDelivery txNode
	key        string
	sent       time.Time // zero if unknown
	phase      phase
	// turn counts the submissions: what a goroutine remembers of a delivery is
	// void once the turn is another, since the memory may be another message's.
	turn uint64

	// place is in the queue, list of followers or list of completions or
	// releases that the phase implies.
	place link
	// followers are the later deliveries of the key in this process.
	followers list
	// retryAt and heldAt are the place in held.
	retryAt time.Duration
	heldAt  int

	// lease is the place in the list of leases, from grant to the end.
	lease link
	// since is when the claim or its last renewal was asked for: the lease
	// lasts at least from then, whenever the answer came.
	since    time.Duration
	epoch    int64
	attempts int

	dead     *persist.DeadLetter
	onLost   context.CancelCauseFunc
	lost     bool // reported as lost
	ran      bool // the handler has run; what is wanted is a claim to complete with
	unwanted bool // Release was called while Granted was on its way
}

func (n *Node) node() *Node { return n }

func (n *Node) claim() persist.Claim {
	return persist.Claim{Key: n.key, State: persist.ClaimGranted, Epoch: n.epoch, Attempts: n.attempts}
}

// begin readies the node for a submission, keeping the turn and the memory.
func (n *Node) begin(key string, sent time.Time) {
	n.key, n.sent = key, sent
	n.turn++
	n.place.n, n.lease.n = n, n
	n.epoch, n.attempts, n.since = 0, 0, 0
	n.dead, n.onLost = nil, nil
	n.lost, n.ran, n.unwanted = false, false, false
}

// end forgets what the node refers to.
func (n *Node) end() {
	n.phase = phaseIdle
	n.delivery, n.txDelivery = nil, nil
	n.key, n.dead, n.onLost = "", nil, nil
}

// phase is how far a delivery has come. The first delivery of a key leads; only
// a leader is in a phase other than attached.
//
//	queued → claiming → announced → granted → completing → idle
//	            ↓  ↑                   ↓          ↓
//	            held               releasing   queued, to claim again what was lost
type phase uint8

const (
	phaseIdle       phase = iota // not submitted, or settled
	phaseQueued                  // waits for the next claim
	phaseClaiming                // the claim is on its way
	phaseHeld                    // busy elsewhere; claimed again at retryAt
	phaseAttached                // follows another delivery of its key
	phaseAnnounced               // Granted is being called
	phaseGranted                 // the handler has it
	phaseCompleting              // waits for its completion to be durable
	phaseStuck                   // its completion was refused by the store; tried again at retryAt
	phaseReleasing               // waits for its release
)

// noCopy makes go vet complain of copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}
