package qos

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxStringLength is the longest UTF-8 string and the longest binary datum in
// bytes: its length is sent in two of them (MQTT 5, sections 1.5.4 and 1.5.6).
// An encoder that is handed more sends something else than was meant.
const MaxStringLength = 65_535

const sharePrefix = "$share/"

// ValidateTopic tells whether a message can be published to topic: 1 to 65,535
// bytes [MQTT-4.7.3-1] [MQTT-4.7.3-3] of UTF-8 [MQTT-1.5.4-1] without the
// character U+0000 [MQTT-4.7.3-2] and without the wildcards # and +
// [MQTT-3.3.2-2].
//
// What the specification only advises against is let pass: control characters,
// non-characters such as U+FFFE, and a $ in front, which a server may refuse
// [MQTT-4.7.2-1]. The error is a [*FieldError] that wraps [ErrInvalid]. A topic
// that passes costs no allocation.
func ValidateTopic(topic string) error {
	if p := nameProblem(topic, "a topic"); p != "" {
		return &FieldError{Field: "topic", Problem: p}
	}
	for _, wildcard := range [...]byte{'#', '+'} {
		if i := strings.IndexByte(topic, wildcard); i >= 0 {
			return &FieldError{Field: "topic", Problem: fmt.Sprintf(
				"%s has the wildcard %c at byte %d; a message goes to one topic, without # and +", quote(topic), wildcard, i)}
		}
	}
	return nil
}

// ValidateFilter tells whether filter can be subscribed to: 1 to 65,535 bytes
// of UTF-8 without U+0000, # alone in the last level only [MQTT-4.7.1-1], +
// alone in its level [MQTT-4.7.1-2]. A filter that begins with $share/ must be
// of the form $share/<name>/<filter>, with a name of at least one character
// [MQTT-4.8.2-1] and without # and + [MQTT-4.8.2-2].
//
// The error is a [*FieldError] that wraps [ErrInvalid]. A filter that passes
// costs no allocation.
func ValidateFilter(filter string) error {
	if p := filterProblem(filter); p != "" {
		return &FieldError{Field: "filter", Problem: p}
	}
	return nil
}

// ValidateString tells whether s can be sent as a UTF-8 string of MQTT: at most
// 65,535 bytes of UTF-8 [MQTT-1.5.4-1] without U+0000 [MQTT-1.5.4-2]; it may be
// empty. The error is a [*FieldError] of that field and wraps [ErrInvalid]; it
// does not show s, which may be a secret.
func ValidateString(field, s string) error {
	if p := textProblem(s); p != "" {
		return &FieldError{Field: field, Problem: p}
	}
	return nil
}

// ValidateBinary tells whether b can be sent as binary data of MQTT, such as
// Correlation Data: at most 65,535 bytes. The error is a [*FieldError] of that
// field and wraps [ErrInvalid].
func ValidateBinary(field string, b []byte) error {
	if p := lengthProblem(len(b)); p != "" {
		return &FieldError{Field: field, Problem: p}
	}
	return nil
}

// SplitShared takes $share/<group>/<filter> apart. ok is false, and rest is the
// filter as it came, if it has not that form with a valid group. The rest is not
// looked at; see [ValidateFilter].
func SplitShared(filter string) (group, rest string, ok bool) {
	after, shared := strings.CutPrefix(filter, sharePrefix)
	if !shared {
		return "", filter, false
	}
	group, rest, _ = strings.Cut(after, "/")
	if rest == "" || shareNameProblem(group) != "" {
		return "", filter, false
	}
	return group, rest, true
}

// JoinShared is $share/<group>/<filter>, the filter with which the replicas of
// a group share a subscription. The error is a [*FieldError] of "group" or of
// "filter" and wraps [ErrInvalid]: a group with a / in it, for one, would make
// a valid filter of another group.
func JoinShared(group, filter string) (string, error) {
	if p := shareNameProblem(group); p != "" {
		return "", &FieldError{Field: "group", Problem: p}
	}
	if strings.HasPrefix(filter, sharePrefix) {
		return "", &FieldError{Field: "filter", Problem: quote(filter) +
			" names a group already; leave out $share/ and its name, or the group"}
	}
	if err := ValidateFilter(filter); err != nil {
		return "", err
	}
	joined := sharePrefix + group + "/" + filter
	return joined, ValidateFilter(joined)
}

// filterProblem is "" for a valid filter.
func filterProblem(filter string) string {
	if p := nameProblem(filter, "a filter"); p != "" {
		return p
	}
	if after, shared := strings.CutPrefix(filter, sharePrefix); shared {
		name, rest, _ := strings.Cut(after, "/")
		if p := shareNameProblem(name); p != "" {
			return quote(filter) + ": the share name " + p
		}
		if rest == "" {
			return quote(filter) + " has no filter after the share name; write $share/<name>/<filter>"
		}
	}
	return wildcardProblem(filter)
}

func wildcardProblem(filter string) string {
	opens := func(i int) bool { return i == 0 || filter[i-1] == '/' }
	if i := strings.IndexByte(filter, '#'); i >= 0 && (i != len(filter)-1 || !opens(i)) { // [MQTT-4.7.1-1]
		return fmt.Sprintf("%s has # at byte %d; # stands alone, as the last level: # or a/#", quote(filter), i)
	}
	for i := 0; i < len(filter); i++ {
		plus := strings.IndexByte(filter[i:], '+')
		if plus < 0 {
			return ""
		}
		i += plus
		closes := i == len(filter)-1 || filter[i+1] == '/'
		if !opens(i) || !closes { // [MQTT-4.7.1-2]
			return fmt.Sprintf("%s has + at byte %d; + stands alone in its level: + or a/+/b", quote(filter), i)
		}
	}
	return ""
}

func shareNameProblem(name string) string {
	if name == "" { // [MQTT-4.8.2-1]
		return "is empty; it has one character or more"
	}
	if strings.ContainsAny(name, "/+#") { // [MQTT-4.8.2-2]
		return quote(name) + " has /, + or # in it; use other characters"
	}
	if p := textProblem(name); p != "" {
		return quote(name) + " " + p
	}
	return ""
}

// nameProblem is what topic names and topic filters have in common (section
// 4.7.3).
func nameProblem(s, what string) string {
	if s == "" {
		return "is empty; " + what + " has 1 to 65,535 bytes"
	}
	if p := textProblem(s); p != "" {
		return quote(s) + " " + p
	}
	return ""
}

// textProblem is "" for what can be sent as a UTF-8 string (section 1.5.4). The
// length comes first: it bounds the rest.
func textProblem(s string) string {
	if p := lengthProblem(len(s)); p != "" {
		return p
	}
	if !utf8.ValidString(s) { // surrogates included [MQTT-1.5.4-1]
		return "is not UTF-8 from byte " + strconv.Itoa(invalidAt(s)) + " on; encode it as UTF-8"
	}
	if i := strings.IndexByte(s, 0); i >= 0 { // [MQTT-1.5.4-2]
		return "has the character U+0000 at byte " + strconv.Itoa(i) + "; leave it out"
	}
	return ""
}

func lengthProblem(length int) string {
	if length > MaxStringLength {
		return "has " + strconv.Itoa(length) + " bytes; MQTT carries at most 65,535"
	}
	return ""
}

// invalidAt is where s stops being UTF-8.
func invalidAt(s string) int {
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(s)
}
