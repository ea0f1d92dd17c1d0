package autopaho

import "time"

// EventKind tells what happened.
type EventKind string

// The kinds of events.
const (
	// EventConnected: a connection is up for the first time.
	EventConnected EventKind = "connected"
	// EventReconnected: a connection is up again.
	EventReconnected EventKind = "reconnected"
	// EventDisconnected: a connection ended; Err tells why.
	EventDisconnected EventKind = "disconnected"
	// EventSessionLost: the broker no longer knows the session that it had
	// before; what it kept for a subscriber is lost to it.
	EventSessionLost EventKind = "session_lost"
	// EventDelivered: a message of the outbox was acknowledged by the broker.
	EventDelivered EventKind = "delivered"
	// EventAcknowledged: the receipt of a message came.
	EventAcknowledged EventKind = "acknowledged"
	// EventFailed: a message of the outbox failed for good or expired.
	EventFailed EventKind = "failed"
	// EventSuperseded: a message of the outbox gave way to a newer one of its key
	// after this client had read it. Of those that did before nobody is told: they
	// are counted in the store, see persist.Stats.
	EventSuperseded EventKind = "superseded"
	// EventMessage: a message was received.
	EventMessage EventKind = "message"
	// EventTooOld: a message came when its dedup key may have been forgotten,
	// and became a dead letter without having been processed; Err tells when it
	// was sent.
	EventTooOld EventKind = "too_old"
	// EventStoreBack: the store answers again after an EventError.
	EventStoreBack EventKind = "store_back"
	// EventBreaker: a circuit breaker has another state; Breaker tells.
	EventBreaker EventKind = "breaker"
	// EventError: something is wrong that needs attention or time; Err tells.
	EventError EventKind = "error"
)

// Event is one thing that happened.
type Event struct {
	Kind EventKind
	Time time.Time
	// ClientID is the session that it happened to; empty if none.
	ClientID string
	// MessageID and Topic are the message that it happened to; empty if none.
	MessageID, Topic string
	// ReasonCode is the broker's, of EventDelivered: 0x10 if nobody subscribes.
	ReasonCode byte
	// Breaker is the new state, of EventBreaker.
	Breaker BreakerStatus
	// Err is the reason; nil if there is none.
	Err error
}

// EventFuncs are functions for some kinds of events. [EventFuncs.Event] is a
// Config.OnEvent:
//
//	OnEvent: autopaho.EventFuncs{
//		autopaho.EventConnected:    func(e autopaho.Event) { ready.Store(true) },
//		autopaho.EventDisconnected: func(e autopaho.Event) { ready.Store(false) },
//	}.Event,
type EventFuncs map[EventKind]func(Event)

// Event calls the function for the event's kind, if there is one.
func (f EventFuncs) Event(e Event) {
	if tell := f[e.Kind]; tell != nil {
		tell(e)
	}
}
