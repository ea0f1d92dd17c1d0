package persist

import "context"

// PacketStep is how far the exchange of one packet identifier has come.
type PacketStep uint8

// The steps that outlive a connection (MQTT 5, section 4.1).
const (
	// StepPublished: our PUBLISH may have been sent; no PUBACK or PUBREC yet.
	StepPublished PacketStep = iota + 1
	// StepReleased: PUBREC was received; the PUBLISH is never sent again
	// [MQTT-4.3.3-7], PUBREL is, until PUBCOMP comes.
	StepReleased
	// StepReceived: a QoS 2 PUBLISH of the server was acknowledged with
	// PUBREC; its PUBREL is awaited.
	StepReceived
)

// PacketState is the exchange of one packet identifier.
type PacketState struct {
	PacketID uint16
	Step     PacketStep
	// Position is the message's place in its lane, for StepPublished and
	// StepReleased.
	Position int64
	// Sequence orders the exchanges: retransmission keeps it [MQTT-4.6.0-1].
	Sequence int64
}

// SessionChange is one write of packet state.
type SessionChange struct {
	// ClientID names the MQTT session.
	ClientID string
	// Epoch is the epoch of the lane or of whatever else gives the right to
	// use the client ID.
	Epoch int64
	// Clear forgets everything that was there before.
	Clear bool
	// Put adds or replaces states by their packet identifier and direction.
	Put []PacketState
	// Delete removes the exchanges that this client began.
	Delete []uint16
	// DeleteReceived removes the exchanges that the server began.
	DeleteReceived []uint16
}

// Sessions keeps the packet state of MQTT sessions across a crash, for QoS 2.
type Sessions interface {
	// LoadSession returns the packet state of a client ID in the order of
	// Sequence; none if nothing is known. It raises the session's epoch
	// [SESSION-1]: later changes with a lower one are refused, and so is a
	// later load, with an error that wraps ErrLeaseLost.
	LoadSession(ctx context.Context, clientID string, epoch int64) ([]PacketState, error)

	// SaveSession applies a change, all or nothing [SESSION-2]: Clear first,
	// then what is to be deleted, then Put, so that a packet identifier may end
	// and begin in one change. The error wraps ErrLeaseLost if a higher epoch
	// has loaded or saved the session [SESSION-3].
	SaveSession(ctx context.Context, change SessionChange) error
}
