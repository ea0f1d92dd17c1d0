package autopaho

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// What went wrong, for errors.Is. Errors of the store wrap persist's sentinels.
var (
	// ErrConfig: a field of a configuration is not right.
	ErrConfig = errors.New("configuration")
	// ErrInvalidMessage: a message cannot be sent as it is; nothing of the
	// call was stored or sent.
	ErrInvalidMessage = errors.New("invalid message")
	// ErrNoStore: the client has no store, or one without this ability.
	ErrNoStore = errors.New("client has no store for this")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client is closed")
	// ErrRefused: the broker refused the connection, and would again: bad
	// credentials, a client ID that it does not take, a ban.
	ErrRefused = session.ErrRefused
	// ErrDuplicateClientID: another client connected with the same client ID,
	// and the broker has ended our session.
	ErrDuplicateClientID = session.ErrSessionTakenOver
	// ErrConnectionLost: the connection ended before the broker's answer came.
	ErrConnectionLost = session.ErrConnectionLost
	// ErrNotDelivered: the message failed for good, expired, or gave way to others.
	ErrNotDelivered = errors.New("not delivered")
	// ErrNoResponse: the context of a request ended before a response came.
	ErrNoResponse = errors.New("no response")
	// ErrNoSubscribers: the broker said that nobody was subscribed to the topic of a
	// request.
	ErrNoSubscribers = errors.New("the broker had no subscriber for it")
)

// ConnackError is a CONNACK that refused the connection, with its reason code.
type ConnackError = session.ConnackError

// DisconnectError is a DISCONNECT of the broker, with its reason code.
type DisconnectError = session.DisconnectError

// SubscribeError is a SUBACK that refused a filter, with its reason code.
type SubscribeError = session.SubscribeError

// DeliveryError tells why a message was not delivered.
type DeliveryError struct {
	// ID is the message ID.
	ID string
	// State is StateFailed, StateExpired, StateDropped or StateSuperseded.
	State persist.State
	// ReasonCode is the broker's, zero if it gave none.
	ReasonCode byte
	// Reason says in words why.
	Reason string
}

// Error tells the message ID, what became of it and why.
func (e *DeliveryError) Error() string {
	what := "message " + e.State.String()
	if e.ID != "" {
		what = "message " + e.ID + " " + e.State.String()
	}
	if e.Reason == "" {
		return what
	}
	return what + ": " + e.Reason
}

// Is makes every DeliveryError match ErrNotDelivered.
func (e *DeliveryError) Is(target error) bool { return target == ErrNotDelivered }

// BreakerError is what Enqueue returns while the store's circuit breaker is not
// closed: the store was not asked, and nothing was stored. It wraps
// persist.ErrUnavailable.
type BreakerError struct {
	// Since is when the breaker came into its present state.
	Since time.Time
	// Err is the last failure of the store. It is not wrapped: it is another
	// call's.
	Err error
}

// Error tells what the store said last.
func (e *BreakerError) Error() string {
	return fmt.Sprintf("%s: circuit breaker is open, last failure: %v", persist.ErrUnavailable, e.Err)
}

// Unwrap makes every BreakerError match persist.ErrUnavailable.
func (e *BreakerError) Unwrap() error { return persist.ErrUnavailable }

// What is said of a message whose time has passed.
const (
	reasonExpired = "its expiry passed before it could be sent"
	reasonTooOld  = "it reached the maximum age of the outbox before it could be sent"
)

// overdueReason says in words which time of a message has passed.
func overdueReason(o *session.Outgoing, now time.Time) string {
	if o.TooOld(now) {
		return reasonTooOld
	}
	return reasonExpired
}

// reasonText says in words why the broker refused a message.
func reasonText(c *session.Completion) string {
	switch {
	case c.Code == 0 && c.Reason != "":
		return c.Reason // of the engine: the broker said nothing
	}
	return qos.Describe(c.Code, c.Reason)
}
