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
}

// Session is the packet state of one MQTT session.
type Session struct {
	// ClientID names the session.
	ClientID string
	// Epoch is the epoch of the lane or of whatever else gives the right to
	// use the client ID.
	Epoch int64
	// Number orders the saves of one epoch [SESSION-6]. It is from 0 to 1<<53 - 1.
	Number int64
	// States are the exchanges under way, in the order in which they began:
	// retransmission keeps it [MQTT-4.6.0-1]. A packet identifier occurs at
	// most once among those that this client began, and once among those that
	// the server began.
	States []PacketState
}

// Sessions keeps the packet state of MQTT sessions across a crash, for QoS 2.
//
// A session is saved as a whole, not by what has changed: who uses it has all of
// it in memory, and all of it is small, since exchanges begin and end nearly in
// order (see internal/wire). So a write is one row however many packets it is
// about, and an exchange ends by being left out.
//
// A write whose caller has given up may still arrive, after later ones, which it would
// undo: a message would be sent twice, or not at all. So the saves of one epoch are
// numbered [SESSION-6]. Each attempt needs a number of its own, and a repetition of what
// was given up a higher one than the first attempt.
type Sessions interface {
	// LoadSession returns the packet state of a client ID in the order in which
	// it was saved; none if nothing is known. It raises the session's epoch
	// [SESSION-1]: later changes with a lower one are refused, and so is a
	// later load, with an error that wraps ErrLeaseLost. The error wraps
	// ErrCorrupt if what is stored cannot be read [SESSION-4]; the epoch is
	// raised all the same, and the next save puts it right.
	LoadSession(ctx context.Context, clientID string, epoch int64) ([]PacketState, error)

	// SaveSession replaces what is known of a client ID, all or nothing
	// [SESSION-2]. It keeps neither the session nor its slice. The error wraps
	// ErrLeaseLost if a higher epoch has loaded or saved the session
	// [SESSION-3], and ErrInvalid for a step that there is not and for a negative
	// number. For packet states of a lane see [Lane].
	//
	// A save is late if one with the same epoch and a higher number was stored
	// before [SESSION-6]. It changes nothing, and that is no error: what replaced it
	// is newer. With a higher epoch, loaded or saved, numbers begin anew.
	SaveSession(ctx context.Context, session Session) error
}
