package history

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Value is one message: the seq-th of a producer's key, from zero.
type Value struct{ Producer, Key, Seq int }

// ID is the message ID of the value.
func (v Value) ID() string { return fmt.Sprintf("%d-%d-%d", v.Producer, v.Key, v.Seq) }

func (v Value) String() string { return v.ID() }

// ParseID reads a message ID.
func ParseID(id string) (Value, error) {
	parts := strings.Split(id, "-")
	if len(parts) != 3 {
		return Value{}, fmt.Errorf("message ID %q is not producer-key-seq", id)
	}
	var n [3]int
	for i, part := range parts {
		var err error
		if n[i], err = strconv.Atoi(part); err != nil || n[i] < 0 {
			return Value{}, fmt.Errorf("message ID %q is not producer-key-seq", id)
		}
	}
	return Value{n[0], n[1], n[2]}, nil
}

// MarshalJSON writes [producer, key, seq].
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal([3]int{v.Producer, v.Key, v.Seq}) }

// UnmarshalJSON reads it.
func (v *Value) UnmarshalJSON(b []byte) error {
	var n [3]int
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	*v = Value{n[0], n[1], n[2]}
	return nil
}

// Transfer is what the effect of a value does to the accounts, of which there
// are so many.
func (v Value) Transfer(accounts int) (from, to int, amount int64) {
	from = (v.Producer*31 + v.Key) % accounts
	to = (from + 1 + v.Seq%(accounts-1)) % accounts
	return from, to, int64(1 + (v.Seq*7+v.Key*3+v.Producer)%97)
}

// bitmap is a set of sequence numbers.
type bitmap []uint64

func (b *bitmap) set(i int) (was bool) {
	for i/64 >= len(*b) {
		*b = append(*b, 0)
	}
	was = (*b)[i/64]&(1<<(i%64)) != 0
	(*b)[i/64] |= 1 << (i % 64)
	return was
}

func (b bitmap) has(i int) bool { return i/64 < len(b) && b[i/64]&(1<<(i%64)) != 0 }

// Set is a set of values. The zero value is empty.
type Set struct{ streams map[stream]*bitmap }

// Add adds a value, and tells whether it was there.
func (s *Set) Add(v Value) (was bool) {
	if s.streams == nil {
		s.streams = make(map[stream]*bitmap)
	}
	b := s.streams[stream{v.Producer, v.Key}]
	if b == nil {
		b = new(bitmap)
		s.streams[stream{v.Producer, v.Key}] = b
	}
	return b.set(v.Seq)
}

// Has tells whether a value is there.
func (s *Set) Has(v Value) bool {
	b := s.streams[stream{v.Producer, v.Key}]
	return b != nil && b.has(v.Seq)
}
