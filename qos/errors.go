package qos

import (
	"errors"
	"strconv"
	"unicode/utf8"
)

// ErrInvalid is wrapped by every error of this package: an input is not of the
// form that is needed. Trying again with the same input fails again.
var ErrInvalid = errors.New("invalid input")

// FieldError tells what is wrong with one field of an input, in one line. It
// wraps [ErrInvalid].
type FieldError struct {
	// Field names what is at fault: "topic", "filter", and in a policy the
	// name that the field has in a policy file: "backoff.max".
	Field string
	// Problem says what is wrong and what would be right.
	Problem string
}

// Error is "field: problem".
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

// Unwrap is ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }

// maxQuoted is how many bytes of an input are shown in an error. A topic may
// have 65,535, and an error is one line of a log.
const maxQuoted = 64

// quote shows s in an error: quoted, so that no control character reaches a
// terminal or a log, and cut at a character.
func quote(s string) string {
	if len(s) <= maxQuoted {
		return strconv.Quote(s)
	}
	return strconv.Quote(cut(s, maxQuoted)) + "… (" + strconv.Itoa(len(s)) + " bytes)"
}

// cut returns the longest beginning of s that has at most limit bytes and does
// not end inside a character.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for i := limit; i >= max(0, limit-utf8.UTFMax+1); i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i]
		}
	}
	return s[:limit] // not UTF-8
}
