package drill

import "fmt"

// Sabotage is what is taken away, to show that it matters: a run that cannot fail
// shows nothing.
type Sabotage struct {
	// Receipts: no message asks for a receipt, so what the broker has
	// acknowledged and then forgets is gone.
	Receipts bool
	// Dedup: the replicas share no state, so a message that arrives twice has
	// two effects.
	Dedup bool
}

// ParseSabotage reads "receipts", "dedup" or "both". The empty string and
// "none" are no sabotage. The error wraps ErrOptions.
func ParseSabotage(s string) (Sabotage, error) {
	switch s {
	case "", "none":
		return Sabotage{}, nil
	case "receipts":
		return Sabotage{Receipts: true}, nil
	case "dedup":
		return Sabotage{Dedup: true}, nil
	case "both":
		return Sabotage{Receipts: true, Dedup: true}, nil
	}
	return Sabotage{}, fmt.Errorf("%w: %q cannot be sabotaged; use receipts, dedup or both", ErrOptions, s)
}

// String is what ParseSabotage reads.
func (s Sabotage) String() string {
	switch s {
	case Sabotage{Receipts: true}:
		return "receipts"
	case Sabotage{Dedup: true}:
		return "dedup"
	case Sabotage{Receipts: true, Dedup: true}:
		return "both"
	}
	return "none"
}

// MarshalText is String, for JSON.
func (s Sabotage) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is ParseSabotage, for JSON.
func (s *Sabotage) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSabotage(string(text))
	return err
}
