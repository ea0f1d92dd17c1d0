package qos

import "strconv"

// Level is a quality of service level (MQTT 5, section 4.3), with the number
// that it has on the wire.
type Level byte

// The three levels.
const (
	// AtMostOnce is sent once and not acknowledged. What is in flight when a
	// connection ends is lost.
	AtMostOnce Level = 0
	// AtLeastOnce is sent until the receiver acknowledges it, and so may
	// arrive more than once.
	AtLeastOnce Level = 1
	// ExactlyOnce takes two round trips, and arrives once for as long as both
	// sides keep the session.
	ExactlyOnce Level = 2
)

// ParseLevel reads "0", "1" or "2". The error is a [*FieldError] that wraps
// [ErrInvalid].
func ParseLevel(s string) (Level, error) {
	switch s {
	case "0":
		return AtMostOnce, nil
	case "1":
		return AtLeastOnce, nil
	case "2":
		return ExactlyOnce, nil
	}
	return 0, &FieldError{Field: "level", Problem: levelProblem(quote(s))}
}

// Valid tells whether l is one of the three levels. The two bits of a PUBLISH
// can also say 3, which is a malformed packet [MQTT-3.3.1-4].
func (l Level) Valid() bool { return l <= ExactlyOnce }

// String is the level's number.
func (l Level) String() string { return strconv.Itoa(int(l)) }

func levelProblem(shown string) string {
	return shown + " is not a QoS level; write 0, 1 or 2"
}
