package drill

import (
	"time"
)

// The states in which a drill can end.
const (
	// StateSettled: everybody is connected, and the outbox is empty.
	StateSettled = "settled"
	// StateFailed: the same, and some messages are dead letters.
	StateFailed = "failed"
	// StateOpen: messages were left in the outbox when the limit had passed.
	StateOpen = "open"
	// StateIdle: the same, and nothing had been sent, which shows nothing: the rate was
	// too low for the time, or nothing could be stored.
	StateIdle = "idle"
	// StateDisconnected: somebody was not connected when the limit had passed.
	StateDisconnected = "disconnected"
)

// Result is what was counted.
type Result struct {
	Scenario string   `json:"scenario"`
	Seed     uint64   `json:"seed"`
	Broker   string   `json:"broker"`
	Sabotage Sabotage `json:"sabotage"`
	Receipts bool     `json:"receipts"` // messages asked for them

	// Seconds is how long it took altogether, RecoverySeconds how long after the
	// last fault it took until everything that had been sent by then had its effect;
	// -1 if that did not happen.
	Seconds         float64 `json:"seconds"`
	RecoverySeconds float64 `json:"recovery_seconds"`

	// Sent counts the messages that Enqueue has accepted, Delivered those among them
	// with an effect.
	Sent      int `json:"sent"`
	Delivered int `json:"delivered"`
	// WireDuplicates counts the copies that went to subscribers beyond the first of
	// each message, Resent those that the publisher sent beyond the first, Suppressed
	// those that a subscriber recognised and did not process.
	WireDuplicates int `json:"wire_duplicates"`
	Resent         int `json:"resent"`
	Suppressed     int `json:"suppressed"`
	// Lost counts the messages without an effect that did not fail, Doubled the effects beyond the first
	// of a message, Unknown the effects of messages whose Enqueue returned an error.
	Lost    int `json:"lost"`
	Doubled int `json:"doubled"`
	Unknown int `json:"unknown"`
	// Failed counts the messages without an effect that the broker refused, or that
	// expired: they are dead letters, and so not lost. Reason is that of one of them.
	Failed int    `json:"failed"`
	Reason string `json:"reason,omitempty"`
	// Open counts messages that are still in the outbox.
	Open int `json:"open"`

	// Reconnects counts connections beyond the first of each client, SessionsLost
	// those after which the broker did not know the session any more, Errors what
	// kept connections from being made or ended them, by class: refused, reset,
	// closed, timeout, store or other.
	Reconnects   int            `json:"reconnects"`
	SessionsLost int            `json:"sessions_lost"`
	Errors       map[string]int `json:"errors"`

	// State is in which it ended: settled, failed, open, idle or disconnected.
	State string `json:"state"`
	// OK tells that something was sent, that nothing of it was lost or doubled, nothing
	// failed, and all came to rest.
	OK bool `json:"ok"`
}

// Damage tells whether something was lost or doubled.
func (r *Result) Damage() bool { return r.Lost > 0 || r.Doubled > 0 }

// Phase is how far a drill is.
type Phase string

// The phases.
const (
	PhaseStart   Phase = "starting"
	PhaseBefore  Phase = "publishing"
	PhaseFault   Phase = "fault"
	PhaseAfter   Phase = "fault over"
	PhaseRecover Phase = "coming to rest"
)

// Progress tells how far a drill is.
type Progress struct {
	Scenario string
	Phase    Phase
	// Step is what the scenario does, in PhaseFault.
	Step    string
	Elapsed time.Duration
	Sent    int
	Effects int
}
