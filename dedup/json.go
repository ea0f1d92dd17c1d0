package dedup

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/oncemq/oncemq/persist"
)

// maxJSON is how much of a payload is searched for a field.
const maxJSON = 1 << 20

// ByJSONField takes a field of a JSON payload: a name, or names joined by dots
// that lead through objects ("order.id"). The value must be a string or a
// number. A number is taken as it is written, so that 1 and 1.0 are two keys,
// and no number is the same as a string. Of a name that occurs twice the first
// counts. The payload is read up to the field and no further, and no more than
// its first MiB; where the field is not found there, or the value is empty or of
// another type, the message has no key.
func ByJSONField(path string) KeyFunc {
	if !isJSONPath(path) {
		return None
	}
	names := strings.Split(path, ".")
	kind := "json:" + strconv.Itoa(len(path)) + ":" + path
	kindString, kindNumber := kind+":s", kind+":n"
	return func(m *persist.Message) (string, bool) {
		value, isString, ok := jsonScalar(m.Payload, names)
		switch {
		case !ok || value == "":
			return "", false
		case isString:
			return frame(kindString, value), true
		}
		return frame(kindNumber, value), true
	}
}

// isJSONPath tells whether path has names and none of them is empty.
func isJSONPath(path string) bool {
	for name := range strings.SplitSeq(path, ".") {
		if name == "" {
			return false
		}
	}
	return isText(path)
}

// jsonScalar finds the string or number at the end of a path of names, without
// decoding or keeping anything else.
func jsonScalar(payload []byte, names []string) (value string, isString, ok bool) {
	s := jsonScanner{data: payload[:min(len(payload), maxJSON)]}
	for _, name := range names {
		if !s.enter(name) {
			return "", false, false
		}
	}
	switch c := s.peek(); {
	case c == '"':
		raw, ok := s.quoted()
		if !ok {
			return "", false, false
		}
		text, ok := unquote(raw)
		return text, ok, ok
	case c == '-' || c >= '0' && c <= '9':
		raw := s.bare()
		if !json.Valid(raw) || s.at == maxJSON && len(payload) > maxJSON {
			return "", false, false
		}
		return string(raw), false, true
	}
	return "", false, false
}

// jsonScanner walks over JSON text. It checks no more of it than it needs to
// find its way, and stops at what it cannot follow.
type jsonScanner struct {
	data []byte
	at   int
}

// peek skips white space and returns the next byte, or 0 at the end.
func (s *jsonScanner) peek() byte {
	for s.at < len(s.data) {
		switch c := s.data[s.at]; c {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return c
		}
	}
	return 0
}

// accept skips white space and c, if c is what comes next.
func (s *jsonScanner) accept(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// enter goes into the object that comes next, up to the value of that name.
func (s *jsonScanner) enter(name string) bool {
	if !s.accept('{') {
		return false
	}
	for {
		raw, ok := s.quoted()
		if !ok || !s.accept(':') {
			return false
		}
		if isQuoted(raw, name) {
			return true
		}
		if !s.skip() || !s.accept(',') {
			return false
		}
	}
}

// quoted reads the string that comes next, quotes included.
func (s *jsonScanner) quoted() ([]byte, bool) {
	if s.peek() != '"' {
		return nil, false
	}
	start := s.at
	for s.at++; s.at < len(s.data); s.at++ {
		switch s.data[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return s.data[start:s.at], true
		}
	}
	return nil, false
}

// bare reads a number or a literal.
func (s *jsonScanner) bare() []byte {
	start := s.at
	for s.at < len(s.data) && strings.IndexByte(" \t\r\n,:]}[{\"", s.data[s.at]) < 0 {
		s.at++
	}
	return s.data[start:s.at]
}

// skip passes over the value that comes next, however deep it is, in constant
// memory. Brackets are counted, not matched.
func (s *jsonScanner) skip() bool {
	depth := 0
	for {
		switch c := s.peek(); c {
		case 0:
			return false
		case '"':
			if _, ok := s.quoted(); !ok {
				return false
			}
		case '{', '[':
			depth++
			s.at++
		case '}', ']':
			depth--
			s.at++
		case ',', ':':
			if depth == 0 {
				return false
			}
			s.at++
		default:
			s.bare()
		}
		if depth < 0 {
			return false
		}
		if depth == 0 {
			return true
		}
	}
}

// isQuoted tells whether raw is name in JSON.
func isQuoted(raw []byte, name string) bool {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1:len(raw)-1]) == name
	}
	text, ok := unquote(raw)
	return ok && text == name
}

// unquote reads a JSON string. Surrogates without a partner and bytes that are
// not UTF-8 become U+FFFD, as in encoding/json.
func unquote(raw []byte) (string, bool) {
	plain := utf8.Valid(raw)
	for _, c := range raw {
		plain = plain && c != '\\' && c >= ' '
	}
	if plain {
		return string(raw[1 : len(raw)-1]), true
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return "", false
	}
	return text, true
}
