package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/oncemq/oncemq/autopaho"
)

// format is a parsed -F: how a message is printed. It has mosquitto_sub's
// sequences, and %i for the message ID and %d for the DUP flag.
type format []segment

// segment is a literal, or a sequence with its flags.
type segment struct {
	literal string
	verb    byte // of %; 0 for a literal and for a time
	clock   byte // of @
	zero    bool // pad with zeros
	left    bool // pad on the right
	width   int
	most    int // characters; -1 for no limit
}

// maxWidth bounds a field width: a slip must not make gigabytes of blanks.
const maxWidth = 10_000

// messageVerbs are the letters after %, paddable those that may have flags and a
// width.
const (
	messageVerbs  = "%ACDEFIJPRSUXdijlmpqrtx"
	paddableVerbs = "ACEFIPRSXdilmpqrtx"
	clockVerbs    = "@ABDFHIMNRSTYZabdehjmnpstyz"
)

// parseFormat reads a -F. Its errors say what is wrong and where.
func parseFormat(s string) (format, error) {
	var f format
	var literal strings.Builder
	flush := func() {
		if literal.Len() > 0 {
			f = append(f, segment{literal: literal.String()})
			literal.Reset()
		}
	}
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			c, err := escaped(s[i+1:])
			if err != nil {
				return nil, err
			}
			literal.WriteByte(c)
			i++
		case '@':
			if i+1 == len(s) {
				return nil, fmt.Errorf("ends with @, which begins a sequence; write @@ for the character")
			}
			i++
			if strings.IndexByte(clockVerbs, s[i]) < 0 {
				return nil, fmt.Errorf("@%s is not a sequence; the letters after @ are those of strftime: %s", character(s[i:]), clockVerbs)
			}
			flush()
			f = append(f, segment{clock: s[i], most: -1})
		case '%':
			seg, n, err := parseVerb(s[i:])
			if err != nil {
				return nil, err
			}
			flush()
			f = append(f, seg)
			i += n - 1
		default:
			literal.WriteByte(s[i])
		}
	}
	flush()
	return f, nil
}

// escaped reads what follows a backslash.
func escaped(s string) (byte, error) {
	const from, to = "\\0aentrv", "\\\x00\a\x1b\n\t\r\v"
	if s == "" {
		return 0, fmt.Errorf(`ends with \, which begins a sequence; write \\ for the character`)
	}
	i := strings.IndexByte(from, s[0])
	if i < 0 {
		return 0, fmt.Errorf(`\%s is not a sequence; there are \\ \0 \a \e \n \r \t \v`, character(s))
	}
	return to[i], nil
}

// parseVerb reads a sequence that begins with % and tells how long it is.
func parseVerb(s string) (segment, int, error) {
	seg := segment{most: -1}
	i := 1
	for ; i < len(s) && (s[i] == '-' || s[i] == '0'); i++ {
		seg.left = seg.left || s[i] == '-'
		seg.zero = seg.zero || s[i] == '0'
	}
	digits := func() (int, error) {
		start := i
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		n, err := strconv.Atoi(s[start:i])
		if start == i {
			return 0, nil
		}
		if err != nil || n > maxWidth {
			return 0, fmt.Errorf("%s: a width is at most %d", shown(s[:i]), maxWidth)
		}
		return n, nil
	}
	var err error
	if seg.width, err = digits(); err != nil {
		return seg, 0, err
	}
	if i < len(s) && s[i] == '.' {
		i++
		if seg.most, err = digits(); err != nil {
			return seg, 0, err
		}
	}
	if i == len(s) {
		return seg, 0, fmt.Errorf("ends within %s; write %%%% for the character", shown(s))
	}
	seg.verb = s[i]
	padded := i > 1
	switch {
	case strings.IndexByte(messageVerbs, seg.verb) < 0:
		return seg, 0, fmt.Errorf("%%%s is not a sequence; the letters after %% are %s", character(s[i:]), messageVerbs)
	case padded && strings.IndexByte(paddableVerbs, seg.verb) < 0:
		return seg, 0, fmt.Errorf("%%%c takes no width", seg.verb)
	}
	return seg, i + 1, nil
}

// character is the first character of s, as it may be shown.
func character(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	if r == utf8.RuneError || !strconv.IsPrint(r) {
		return strconv.Quote(s[:n])
	}
	return s[:n]
}

// append prints a message. ok is false if %J was asked for and the payload is
// not JSON; it is printed as a string then.
func (f format) append(b []byte, m *autopaho.Received) (out []byte, ok bool) {
	ok = true
	for i := range f {
		seg := &f[i]
		switch {
		case seg.verb != 0:
			var fine bool
			b, fine = seg.append(b, m)
			ok = ok && fine
		case seg.clock != 0:
			b = appendClock(b, seg.clock, m.At)
		default:
			b = append(b, seg.literal...)
		}
	}
	return b, ok
}

func (seg *segment) append(b []byte, m *autopaho.Received) ([]byte, bool) {
	p := &m.Properties
	switch seg.verb {
	case '%':
		return append(b, '%'), true
	case 'p':
		if seg.width == 0 && seg.most < 0 {
			return append(b, m.Payload...), true
		}
		return seg.pad(b, string(m.Payload)), true
	case 'D':
		return append(b, p.CorrelationData...), true
	case 'j':
		return appendObject(b, m, false), true
	case 'J':
		valid := json.Valid(m.Payload)
		return appendObject(b, m, valid), valid
	}
	return seg.pad(b, seg.value(m)), true
}

// value is what a sequence stands for, where that is a short text.
func (seg *segment) value(m *autopaho.Received) string {
	p := &m.Properties
	switch seg.verb {
	case 'C':
		return p.ContentType
	case 'E':
		if m.Expiry > 0 {
			return strconv.FormatInt(int64(m.Expiry/time.Second), 10)
		}
	case 'F':
		if p.UTF8 {
			return "1"
		}
	case 'I':
		return m.At.Format("2006-01-02T15:04:05-0700")
	case 'P':
		return joinUser(p.User)
	case 'R':
		return p.ResponseTopic
	case 'U':
		return fmt.Sprintf("%d.%09d", m.At.Unix(), m.At.Nanosecond())
	case 'X':
		return strings.ToUpper(hex.EncodeToString(m.Payload))
	case 'x':
		return hex.EncodeToString(m.Payload)
	case 'd':
		return bit(m.Dup)
	case 'i':
		return m.ID
	case 'l':
		return strconv.Itoa(len(m.Payload))
	case 'm':
		return strconv.Itoa(int(m.PacketID))
	case 'q':
		return strconv.Itoa(int(m.QoS))
	case 'r':
		return bit(m.Retain)
	case 't':
		return m.Topic
	}
	return "" // A and S: there is neither alias nor identifier to show
}

func bit(v bool) string {
	if v {
		return "1"
	}
	return "0"
}

// joinUser is "name:value name:value", as mosquitto_sub has it.
func joinUser(user []autopaho.UserProperty) string {
	parts := make([]string, len(user))
	for i, u := range user {
		parts[i] = u.Name + ":" + u.Value
	}
	return strings.Join(parts, " ")
}

// pad cuts a value to the limit and fills it up to the width.
func (seg *segment) pad(b []byte, v string) []byte {
	n := utf8.RuneCountInString(v)
	if seg.most >= 0 && n > seg.most {
		cut, left := 0, seg.most
		for i := range v {
			if left == 0 {
				cut = i
				break
			}
			left--
		}
		v, n = v[:cut], seg.most
	}
	fill := max(0, seg.width-n)
	switch {
	case seg.left:
		return append(append(b, v...), strings.Repeat(" ", fill)...)
	case seg.zero:
		return append(append(b, strings.Repeat("0", fill)...), v...)
	}
	return append(append(b, strings.Repeat(" ", fill)...), v...)
}

// appendClock prints a part of a time as strftime does in the C locale.
func appendClock(b []byte, verb byte, t time.Time) []byte {
	layouts := map[byte]string{
		'A': "Monday", 'B': "January", 'D': "01/02/06", 'F': "2006-01-02", 'H': "15", 'I': "03", 'M': "04",
		'R': "15:04", 'S': "05", 'T': "15:04:05", 'Y': "2006", 'Z': "MST", 'a': "Mon", 'b': "Jan", 'd': "02",
		'e': "_2", 'h': "Jan", 'j': "002", 'm': "01", 'p': "PM", 'y': "06", 'z': "-0700",
	}
	switch verb {
	case '@':
		return append(b, '@')
	case 'N':
		return fmt.Appendf(b, "%09d", t.Nanosecond())
	case 'n':
		return append(b, '\n')
	case 's':
		return strconv.AppendInt(b, t.Unix(), 10)
	case 't':
		return append(b, '\t')
	}
	return t.AppendFormat(b, layouts[verb])
}
