package persist

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Limits bound an outbox; zero is no limit. Each handle of a store has its own:
// all that enqueue or relay should have the same.
type Limits struct {
	// Messages is the most messages, pending and delivered ones together.
	Messages int
	// Bytes is the most bytes of messages as they are stored: payload, topic,
	// message ID and properties.
	Bytes int64
	// Age is how old a pending message may get, counted from its commit, in
	// milliseconds at least. One that is older is settled as expired by the relay
	// that holds its lane, also while the broker is away [OUTBOX-17].
	Age time.Duration
}

// The names of the limits in the URL of a store, the same for all backends.
const (
	optionMaxMessages = "max_messages"
	optionMaxBytes    = "max_bytes"
	optionMaxAge      = "max_age"
)

// LimitOptions are the names of the limits in the URL of a store: max_messages,
// max_bytes (a number of bytes, or of KiB, MiB or GiB with that unit) and max_age
// (a duration).
func LimitOptions() []string { return []string{optionMaxAge, optionMaxBytes, optionMaxMessages} }

// Set reads the limit of a URL option. The error says what the value must be.
func (l *Limits) Set(option, value string) error {
	switch option {
	case optionMaxMessages:
		n, err := strconv.Atoi(value)
		if err != nil || n < 0 {
			return errors.New("a number, 0 for no limit")
		}
		l.Messages = n
	case optionMaxBytes:
		n, err := parseBytes(value)
		if err != nil {
			return errors.New("a number of bytes such as 1000000 or 64MiB, 0 for no limit")
		}
		l.Bytes = n
	case optionMaxAge:
		d, err := time.ParseDuration(value)
		if value == "0" {
			d, err = 0, nil
		}
		if err != nil || d < 0 || d > 0 && d < time.Millisecond {
			return errors.New("a duration from 1ms, such as 24h, or 0 for no limit")
		}
		l.Age = d
	}
	return nil
}

// parseBytes reads a number of bytes that may have a binary unit.
func parseBytes(value string) (int64, error) {
	shift := 0
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if digits, found := strings.CutSuffix(value, unit); found {
			value, shift = digits, 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, ErrInvalid
	}
	return n << shift, nil
}

// Faults says what is wrong with the limits, each by the name of its URL option.
func (l Limits) Faults() (faults []string) {
	if l.Messages < 0 {
		faults = append(faults, fmt.Sprintf("max_messages is %d, must not be negative", l.Messages))
	}
	if l.Bytes < 0 {
		faults = append(faults, fmt.Sprintf("max_bytes is %d, must not be negative", l.Bytes))
	}
	if l.Age < 0 || l.Age > 0 && l.Age < time.Millisecond {
		faults = append(faults, fmt.Sprintf("max_age is %s, must be 1ms or more, or 0 for no limit", l.Age))
	}
	return faults
}

// CountsRoom tells whether there must be room for what is enqueued.
func (l Limits) CountsRoom() bool { return l.Messages > 0 || l.Bytes > 0 }

// String lists the limits in words; "none" if there are none.
func (l Limits) String() string {
	var parts []string
	if l.Messages > 0 {
		parts = append(parts, fmt.Sprintf("%d messages", l.Messages))
	}
	if l.Bytes > 0 {
		parts = append(parts, fmt.Sprintf("%d bytes", l.Bytes))
	}
	if l.Age > 0 {
		parts = append(parts, l.Age.String()+" of age")
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// Left is what is left of the maximum age of a message that is that old: never
// zero, which is what it is if there is no such limit.
func (l Limits) Left(age time.Duration) time.Duration {
	if l.Age == 0 {
		return 0
	}
	if l.Age == age {
		return -time.Millisecond
	}
	return l.Age - age
}

// CheckMessage refuses what Enqueue refuses in a store with these limits; the
// error says which field it is and what is wrong.
func (l Limits) CheckMessage(m *Message) error {
	switch {
	case m.ID == "":
		return errors.New("message ID is empty")
	case len(m.ID) > MaxMessageID:
		return fmt.Errorf("message ID has %d bytes, at most %d are allowed", len(m.ID), MaxMessageID)
	case m.Topic == "":
		return errors.New("topic is empty")
	case m.QoS > 2:
		return fmt.Errorf("QoS is %d, must be 0, 1 or 2", m.QoS)
	case m.Expiry < 0:
		return fmt.Errorf("expiry is %s, must not be negative", m.Expiry)
	case m.MaxAttempts < 0:
		return fmt.Errorf("max attempts is %d, must not be negative", m.MaxAttempts)
	case m.Delay < 0:
		return fmt.Errorf("delay is %s, must not be negative", m.Delay)
	case m.Supersede && m.Receipt:
		return errors.New("supersede and receipt contradict each other: what is superseded gets no receipt")
	case m.Supersede && m.Droppable:
		return errors.New("supersede and droppable contradict each other: a message gives way to one of its key, or to any")
	case l.Age > 0 && m.Delay >= l.Age:
		return fmt.Errorf("delay is %s, must be less than the maximum age of the outbox, %s", m.Delay, l.Age)
	}
	return nil
}

// CheckRetries is what a store with these limits stores for each letter in
// RetryDeadLetters: under an ID made of the store's identity if the message has none,
// and superseding nothing. The error wraps ErrInvalid and names the letter.
func (l Limits) CheckRetries(op, identity string, retries []Retry) ([]Message, error) {
	msgs := make([]Message, len(retries))
	seen := make(map[int64]struct{}, len(retries))
	for i := range retries {
		number, m := retries[i].Number, &msgs[i]
		*m = retries[i].Message
		m.Supersede = false
		if m.ID == "" {
			m.ID = fmt.Sprintf("%s-%d", identity, number)
		}
		err := l.CheckMessage(m)
		if _, twice := seen[number]; twice {
			err = errors.New("the number occurs twice")
		}
		if err != nil {
			return nil, &Error{Op: op, Object: fmt.Sprintf("dead letter %d", number), Kind: ErrInvalid, Err: err}
		}
		seen[number] = struct{}{}
	}
	return msgs, nil
}

// FullError says which limit of an outbox has no room for what was to come. It
// is found with errors.As in an error that wraps [ErrOutboxFull].
type FullError struct {
	// Limit is "messages" or "bytes".
	Limit string
	// Most is the limit, Held what is stored, Wanted what was to be added.
	Most, Held, Wanted int64
}

// Error says how full the outbox is.
func (e *FullError) Error() string {
	return fmt.Sprintf("at most %d %s are allowed, %d are stored, and %d were to be added", e.Most, e.Limit, e.Held, e.Wanted)
}

// Room is for those who write stores: it finds whether an outbox has room.
type Room struct {
	Limits Limits
	// Messages and Bytes are what it holds.
	Messages, Bytes int64
	// AddMessages and AddBytes are what is to be added, less what is superseded.
	AddMessages, AddBytes int64
}

// Excess is by how many messages and bytes the limits would be exceeded; not at
// all is zero or less. What adds nothing exceeds nothing, even where the limit was
// lowered since.
func (r *Room) Excess() (messages, bytes int64) {
	if r.Limits.Messages > 0 && r.AddMessages > 0 {
		messages = r.Messages + r.AddMessages - int64(r.Limits.Messages)
	}
	if r.Limits.Bytes > 0 && r.AddBytes > 0 {
		bytes = r.Bytes + r.AddBytes - r.Limits.Bytes
	}
	return messages, bytes
}

// Full is the error of the limit that is exceeded.
func (r *Room) Full() *FullError {
	if messages, _ := r.Excess(); messages > 0 {
		return &FullError{"messages", int64(r.Limits.Messages), r.Messages, r.AddMessages}
	}
	return &FullError{"bytes", r.Limits.Bytes, r.Bytes, r.AddBytes}
}

// Share is what Droppable messages that are to be added to a lane may take the
// place of there, in number or in bytes [OUTBOX-9].
type Share struct{ Messages, Bytes int64 }

// Wants tells whether one more message of the lane should give way.
func (r *Room) Wants(s Share) bool {
	messages, bytes := r.Excess()
	return messages > 0 && s.Messages > 0 || bytes > 0 && s.Bytes > 0
}

// Take counts a message of that size that gives way.
func (r *Room) Take(s *Share, size int64) {
	s.Messages--
	s.Bytes -= size
	r.Messages--
	r.Bytes -= size
}

// Fits tells whether nothing is exceeded.
func (r *Room) Fits() bool {
	messages, bytes := r.Excess()
	return messages <= 0 && bytes <= 0
}
