package history

import "time"

// Type is how far an operation is.
type Type string

// The types.
const (
	Invoke Type = "invoke"
	OK     Type = "ok"
	Fail   Type = "fail"
	Info   Type = "info"
)

// Kind is what an operation does, or what was seen.
type Kind string

// The kinds.
const (
	// Enqueue stores Values; begun by invoke.
	Enqueue Kind = "enqueue"
	// Arrival is a value at the broker; Effect one that a handler of Pod had,
	// under Fence; Dead one that is among the dead letters.
	Arrival Kind = "arrival"
	Effect  Kind = "effect"
	Dead    Kind = "dead"
	// Claim is a key granted to Pod under Fence, Mark its completion.
	Claim Kind = "claim"
	Mark  Kind = "mark"
	// Receipt is a consumer's word that it has processed a value.
	Receipt Kind = "receipt"
	// Crash is a process that died or stood still with work in hand.
	Crash Kind = "crash"
	// Fault is any fault; Text names its kind.
	Fault Kind = "fault"
	// Packet is a violation on the wire; Text tells it. See Wire.
	Packet Kind = "packet"
	// Outbox is how many messages are left in it at the end: Amount.
	Outbox Kind = "outbox"
	// Balance is the Amount of an Account at the end.
	Balance Kind = "balance"
	// Drain is the time that it took until all had come to an end: Amount, in
	// milliseconds. It is Fail if it did not.
	Drain Kind = "drain"
	// Note is for whoever reads the record; Text says something.
	Note Kind = "note"
)

// Op is one line of a record.
type Op struct {
	At      time.Time `json:"at"`
	Type    Type      `json:"type"`
	Kind    Kind      `json:"kind"`
	Values  []Value   `json:"values,omitempty"`
	Pod     string    `json:"pod,omitempty"`
	Fence   int64     `json:"fence,omitempty"`
	Account int       `json:"account,omitempty"`
	Amount  int64     `json:"amount,omitempty"`
	Text    string    `json:"text,omitempty"`
}
