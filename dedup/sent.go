package dedup

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// PropertyFirstSent is the user property in which a publisher tells when it sent
// the message for the first time, in milliseconds since 1970 and decimal digits:
// that of a message that waited long before it could be sent, and whose ID tells
// an earlier time.
const PropertyFirstSent = "first-sent"

// PropertyRetried is the user property of a dead letter that is tried again: when
// that was, in milliseconds since 1970 and decimal digits, a space, and the name of
// the group that had given the message up. See [SentTo].
const PropertyRetried = "retried"

// lastSent is the latest time that a message can name: the end of the year 9999.
const lastSent = 253402300799999

// SentAt tells when a message was sent for the first time, by its publisher's
// clock: what the user property "first-sent" says, or else the time in the
// message ID if that is a UUID of version 7. ok is false if neither tells.
//
// A retained message tells nothing: it is kept to be sent at any time.
func SentAt(m *persist.Message) (at time.Time, ok bool) {
	if m.Retain {
		return time.Time{}, false
	}
	if s, given := m.Properties.Get(PropertyFirstSent); given {
		if at, ok := parseSent(s); ok {
			return at, true
		}
	}
	id, _ := m.Properties.Get(PropertyMessageID)
	if id == "" {
		id = m.ID
	}
	return timeOfID(id)
}

// SentTo is [SentAt] as a group has to see it. A dead letter of the group that is
// tried again counts from then: the group has forgotten its key at that time, and
// remembers it anew once it is completed. To every other group it is as old as it
// is, since one may have processed it and forgotten that by now.
func SentTo(m *persist.Message, group string) (at time.Time, ok bool) {
	if m.Retain {
		return time.Time{}, false
	}
	for i := range m.Properties.User {
		if m.Properties.User[i].Name != PropertyRetried {
			continue
		}
		if ms, name, found := strings.Cut(m.Properties.User[i].Value, " "); found && name == group {
			if at, ok := parseSent(ms); ok {
				return at, true
			}
		}
	}
	return SentAt(m)
}

// Retried is the user property of a dead letter of a group that is tried again at
// a time of the store's.
func Retried(group string, at time.Time) persist.UserProperty {
	return persist.UserProperty{Name: PropertyRetried, Value: strconv.FormatInt(at.UnixMilli(), 10) + " " + group}
}

func parseSent(digits string) (at time.Time, ok bool) {
	ms, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || ms <= 0 || ms > lastSent {
		return time.Time{}, false
	}
	return time.UnixMilli(ms), true
}

// timeOfID is the time in a UUID of version 7 (RFC 9562, section 5.7): its first
// 48 bits are milliseconds since 1970.
func timeOfID(id string) (at time.Time, ok bool) {
	const layout = "xxxxxxxx-xxxx-7xxx-Nxxx-xxxxxxxxxxxx"
	if len(id) != len(layout) || id[8] != '-' || id[13] != '-' || id[14] != '7' || id[18] != '-' || id[23] != '-' {
		return time.Time{}, false
	}
	var digits [32]byte
	n := 0
	for i := range len(id) {
		if layout[i] != '-' {
			digits[n] = id[i]
			n++
		}
	}
	var b [16]byte
	if _, err := hex.Decode(b[:], digits[:]); err != nil || b[8]&0xC0 != 0x80 {
		return time.Time{}, false
	}
	ms := int64(0)
	for _, c := range b[:6] {
		ms = ms<<8 | int64(c)
	}
	if ms == 0 || ms > lastSent {
		return time.Time{}, false
	}
	return time.UnixMilli(ms), true
}
