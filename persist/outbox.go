package persist

import (
	"context"
	"time"
)

// State is where a message stands in the outbox.
type State uint8

// The states of a message. Pending and delivered messages are in the outbox;
// failed and expired ones are among the dead letters. A message that was
// delivered and asked for no receipt, or was acknowledged, is gone. Dropped and
// superseded ones are gone too, and remembered for a while [OUTBOX-15].
const (
	// StatePending: accepted, not yet acknowledged by the broker.
	StatePending State = iota
	// StateDelivered: the broker acknowledged it; a receipt is awaited.
	StateDelivered
	// StateAcknowledged: a consumer's receipt came.
	StateAcknowledged
	// StateFailed: refused for good, with a reason.
	StateFailed
	// StateExpired: its expiry, or the maximum age of the outbox, passed before
	// the broker took it.
	StateExpired
	// StateDropped: it gave way in a full outbox.
	StateDropped
	// StateSuperseded: a newer message of its key took its place before the
	// broker had acknowledged it.
	StateSuperseded
)

// String is the state's name in lower case.
func (s State) String() string {
	switch s {
	case StatePending:
		return "pending"
	case StateDelivered:
		return "delivered"
	case StateAcknowledged:
		return "acknowledged"
	case StateFailed:
		return "failed"
	case StateExpired:
		return "expired"
	case StateDropped:
		return "dropped"
	case StateSuperseded:
		return "superseded"
	}
	return "unknown"
}

// Ref names one stored message: its lane, and its position there.
type Ref struct {
	Lane     int
	Position int64
}

// Enqueued is the answer for one message of an Enqueue.
type Enqueued struct {
	Ref
	// Duplicate tells that a message with this ID was there already, and that
	// Ref is its place; nothing was added.
	Duplicate bool
}

// Entry is a stored message with its standing.
type Entry struct {
	Ref
	Message Message
	State   State
	// Attempts is how often sending it was tried and refused, or its receipt
	// did not come in time. The hand-out that follows counts the latter.
	Attempts int
	// LastError is the reason of the last refusal; empty if there was none.
	LastError string
	// EnqueuedAt is the store's time at the commit, in whole milliseconds.
	EnqueuedAt time.Time
	// AgeLeft is how long it is, by the store's clock, until the message reaches
	// the maximum age of the outbox; negative, never zero, once it has. Zero if
	// the store has no such limit. Set by Next.
	AgeLeft time.Duration
}

// Outcome is what became of one message that a lane's holder was handed.
type Outcome uint8

// The outcomes of a [Settlement].
const (
	// OutcomeDelivered: the broker acknowledged it. The message is deleted,
	// or, if it asked for a receipt, becomes StateDelivered.
	OutcomeDelivered Outcome = iota
	// OutcomeRetry: it was refused for now. The attempt and the reason are
	// recorded; the message stays pending and with the holder, who sends it
	// again. A new holder reads it again in its place.
	OutcomeRetry
	// OutcomeFailed: it was refused for good. It moves to the dead letters.
	OutcomeFailed
	// OutcomeExpired: its expiry passed. It moves to the dead letters.
	OutcomeExpired
	// OutcomeReturned: it was not sent after all, or its fate is unknown. The
	// message stays pending, and Next hands it out again in its place.
	OutcomeReturned
	// OutcomeSuperseded: a newer message of its key took its place before it was
	// sent, or sent again after a refusal [OUTBOX-16]. It is deleted, counted in
	// Stats, and remembered.
	OutcomeSuperseded
)

// Settlement tells the outbox what became of one message.
type Settlement struct {
	Position int64
	Outcome  Outcome
	// ReasonCode is the MQTT reason code that decided it; zero if none did.
	ReasonCode byte
	// Reason says in words why; empty for OutcomeDelivered.
	Reason string
	// ReceiptTimeout is, for a delivered message that asked for a receipt, how
	// long to wait for it before Next hands the message out again. Zero waits
	// for ever.
	ReceiptTimeout time.Duration
}

// Receipt is a consumer's end-to-end acknowledgement of one message.
type Receipt struct {
	// ID is the message ID that it answers.
	ID string
	// Failed tells that the consumer gave the message up (a dead letter on its
	// side) instead of processing it.
	Failed bool
	// Reason says why it was given up.
	Reason string
}

// LaneInfo tells who drains a lane.
type LaneInfo struct {
	Lane int
	// Owner is the holder's name; empty if nobody ever held the lane.
	Owner string
	// Epoch is the highest epoch given out; zero if none was.
	Epoch int64
	// Remaining is what is left of the lease; zero or less once it has ended.
	Remaining time.Duration
	// Pending counts the messages in the lane that await the broker.
	Pending int64
}

// Outbox is the durable set of messages that were accepted and not yet
// acknowledged. It is divided into lanes; a message's lane is a function of its
// ordering key, so that each key's order is one lane's order.
type Outbox interface {
	// Enqueue stores the messages, all or none, and returns their places in
	// the order of msgs.
	//
	//  [OUTBOX-1] After nil the messages survive what the backend claims to
	//  survive.
	//  [OUTBOX-2] Within a lane, positions increase in the order of msgs, and
	//  from one committed Enqueue to the next that begins after it returned.
	//  [OUTBOX-3] After an error that does not wrap ErrUnknownOutcome none of
	//  the messages is stored, and nobody ever sees one of them.
	//  [OUTBOX-4] An Idempotent message whose ID is held by an idempotent or
	//  receipt-seeking message of the outbox is not stored again: its answer
	//  has Duplicate set and the place of the first.
	//  [OUTBOX-9] If the messages would exceed a limit of the store, of messages
	//  or of bytes, the oldest pending Droppable messages of the same lane give
	//  way, as far as the new ones are Droppable themselves, in number or in
	//  bytes; else the error wraps ErrOutboxFull and, as a *FullError, says which
	//  limit it is. Dropped messages are counted in Stats.
	//  [OUTBOX-14] A Supersede message takes the place of the pending ones of its
	//  ordering key that ask for it too and were never handed out, those before
	//  it in the same call included; it has a position of its own. They are
	//  deleted in the same step, so that at any time one of a key at most waits
	//  to be handed out. What was handed out stays. They are counted in Stats,
	//  and what they free counts as room for the new ones.
	//
	// Concurrent calls may share one commit. The messages and what they point to
	// may be used again once the call has returned. The error wraps ErrInvalid for an ID that is empty
	// or longer than MaxMessageID, an empty topic, a QoS above 2, a negative
	// Expiry, Delay or MaxAttempts, Supersede together with Receipt or Droppable,
	// or a Delay that the maximum age does not outlast; all else that makes a
	// message valid is for the caller to check.
	Enqueue(ctx context.Context, msgs []Message) ([]Enqueued, error)

	// Lookup tells the state of messages by their places, in the order of
	// refs. A message that is gone is reported as delivered: that is what gone
	// means. A failed or expired one comes with its last error.
	//
	//  [OUTBOX-15] Of messages that were dropped or superseded it tells that, and
	//  not that they are gone, for the last RememberedFates of the store.
	Lookup(ctx context.Context, refs []Ref) ([]Fate, error)

	// Lanes describes every lane, in the order of their numbers. The number
	// of lanes is fixed when a store is created.
	Lanes(ctx context.Context) ([]LaneInfo, error)

	// AcquireLane takes the lease of a lane for ttl.
	//
	//  [LEASE-1] While a lease has not ended or been released, nobody else
	//  gets it: the error wraps ErrLeaseHeld. The owner that holds it takes the
	//  lane anew, as it would a free one: it may not know that it holds it, since
	//  the answer to an AcquireLane or a Release was lost. The earlier lease is
	//  lost then, so a name must be one process's own, and one that holds a lane
	//  need not ask. An empty name is nobody's: it is no exception.
	//  [LEASE-2] Each lease of a lane has a higher epoch than every one before.
	AcquireLane(ctx context.Context, lane int, owner string, ttl time.Duration) (Lane, error)

	// AnnounceRelay keeps owner among the live relays of the store for ttl, or
	// takes it away if ttl is zero, and returns the names of those that are live
	// now, in ascending order [LEASE-5]: they share the lanes out by it. It gives
	// no right to anything.
	AnnounceRelay(ctx context.Context, owner string, ttl time.Duration) ([]string, error)
}

// RememberedFates is of how many dropped and superseded messages, the latest of
// all, a store remembers at least that they are.
const RememberedFates = 1 << 16

// The reasons that come with the fate of messages that gave way.
const (
	ReasonDropped    = "it gave way to newer messages in a full outbox"
	ReasonSuperseded = "a newer message of its key took its place"
)

// FateOf is the fate of a message that gave way, in the state that says how.
func FateOf(state State) Fate {
	if state == StateSuperseded {
		return Fate{State: state, LastError: ReasonSuperseded}
	}
	return Fate{State: state, LastError: ReasonDropped}
}

// Fate is the answer of [Outbox.Lookup] for one message.
type Fate struct {
	State State
	// Gone tells that the message is not in the outbox any more: the broker
	// acknowledged it or, if it asked for a receipt, that came. State is
	// StateDelivered then.
	Gone       bool
	ReasonCode byte
	LastError  string
}

// Lane is a leased lane: the right to drain it, for as long as the lease is
// renewed. It is used by one goroutine at a time, but for Renew, which may be
// called at any time, and SaveSession, which another one may call beside.
type Lane interface { //nolint:interfacebloat // one lease, one handle
	// Number is the lane's number, from zero.
	Number() int

	// Epoch is the fencing token of this lease; every call below carries it,
	// and returns an error that wraps ErrLeaseLost, having changed nothing,
	// once a later epoch was given out or this lease was released [LEASE-3].
	// A lease that ended but was not taken over is still good [LEASE-4].
	Epoch() int64

	// SentUntil is the store's time until which an earlier holder may have sent
	// messages of this lane [LEASE-6]: what was enqueued later was never sent.
	// Zero if nobody ever sent.
	SentUntil() time.Time

	// Renew extends the lease to ttl from now. A holder that sends, or is about
	// to, says so: for later holders the lane then counts as one that may have
	// been sent from until the lease ends, or is released. A renewal that says
	// otherwise takes nothing of that back: it may have been held up on its way,
	// and come after a later one.
	Renew(ctx context.Context, ttl time.Duration, sending bool) error

	// Next hands out up to limit messages, as many as have payloads of no more
	// than maxBytes together (one is always handed out); none and nil if
	// nothing is due.
	//
	//  [OUTBOX-5] Messages come in the order of their positions, but for those
	//  that became due late: delayed, returned, or overdue for a receipt.
	//  [OUTBOX-6] A message is handed out once per lease until it is settled
	//  with OutcomeReturned or its receipt is overdue. A new lease hands out
	//  every unsettled message again.
	//  [OUTBOX-7] A message that was committed late is handed out although
	//  later positions were handed out before: nothing is skipped.
	//
	// A stored message that cannot be read is moved to the dead letters, and
	// does not stop the others [OUTBOX-8].
	//
	// A message that waits for a transaction which supersedes it is not handed
	// out before that has ended: another one may commit in its place
	// [OUTBOX-14]. If the store has a maximum age, AgeLeft tells the holder what
	// to settle as expired [OUTBOX-17].
	Next(ctx context.Context, limit, maxBytes int) ([]Entry, error)

	// Settle records what became of messages that Next handed out, all or
	// none. A position that is gone is ignored [OUTBOX-10]. Failed and expired
	// messages become dead letters in the same step [OUTBOX-11].
	Settle(ctx context.Context, settlements []Settlement) error

	// Acknowledge records receipts [OUTBOX-12]: the message of that ID in this
	// lane is deleted, or becomes a dead letter of the outbox if the receipt
	// says Failed, whether it was pending or delivered. It tells for each
	// whether the message was known; one that asked for no receipt need not be.
	Acknowledge(ctx context.Context, receipts []Receipt) ([]bool, error)

	// SaveSession is [Sessions.SaveSession] for packet states that name messages
	// of this lane: with the lane's epoch, and only while the lease is held
	// [SESSION-5]. The session's own epoch does not tell all. A failover of the
	// store may take changes back, and positions that were handed out may then be
	// those of other messages; whoever goes on with the session would take these
	// for sent. The lane numbers its calls, beginning with 1, as the saves' Number
	// [SESSION-6]: one that is given up does not undo a later one, however late it
	// arrives.
	SaveSession(ctx context.Context, clientID string, states []PacketState) error

	// Release ends the lease, so that another may take it at once. What was
	// handed out and not settled is handed out to the next holder.
	Release(ctx context.Context) error
}

// Notifier is implemented by stores that can tell when a lane may have new
// messages. A wake-up may be missed (a crash, a lost connection, another
// process's commit), so a caller polls slowly beside it.
type Notifier interface {
	// Notify returns a channel that receives after a commit that may have
	// made messages due, and a function that ends the subscription. Wake-ups
	// are coalesced: the channel never holds more than one.
	Notify() (wake <-chan struct{}, stop func())
}
