package dedup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/oncemq/oncemq/persist"
)

// KeyFunc tells the dedup key of a message: what makes two deliveries the same
// message. ok is false, and key empty, for a message that has none; it is then
// processed without dedup. A KeyFunc must be a function of the message alone,
// and safe for concurrent use.
//
// The keys of the functions in this package are UTF-8 of at most MaxKey bytes.
// Keys of two different functions never are equal unless their author meant it:
// a message ID without a colon is its own key, and every other key begins with
// its kind and a colon. Where a key has several parts, the length of all but the
// last stands before them:
//
//	018f2b7c-9a4e-7cc3-98c4-dc0c0c07398f     ByMessageID
//	id:a:b                                   ByMessageID, of the ID "a:b"
//	property:8:order-id:4711                 ByProperty("order-id")
//	cloudevents:7:/orders:4711               ByCloudEvents
//	json:8:order.id:n:4711                   ByJSONField("order.id"), a number
//	json:8:order.id:s:4711                   the same, a string
//	correlation:00ff                         ByCorrelationData, in hexadecimal
//	content:9f86…                            ByContent, SHA-256
//
// A key that would be longer, or that is not UTF-8 without NUL, becomes its kind
// and a hash: "property:#" and SHA-256 in hexadecimal.
type KeyFunc func(m *persist.Message) (key string, ok bool)

// MaxKey is the longest key that is used as it is, in bytes; of a longer one its
// hash is used.
const MaxKey = 128

// PropertyMessageID is the user property in which the message ID travels.
const PropertyMessageID = "message-id"

// ByMessageID takes the user property "message-id", or else the ID of the
// message, as a store gives it to a relay.
func ByMessageID(m *persist.Message) (string, bool) {
	id, _ := m.Properties.Get(PropertyMessageID)
	if id == "" {
		id = m.ID
	}
	switch {
	case id == "":
		return "", false
	case len(id) <= MaxKey && !strings.ContainsRune(id, ':') && isText(id):
		return id, true
	}
	return frame("id", id), true
}

// ByProperty takes the first user property of that name. An empty value is no
// key.
func ByProperty(name string) KeyFunc {
	kind := "property:" + strconv.Itoa(len(name)) + ":" + name
	return func(m *persist.Message) (string, bool) {
		value, _ := m.Properties.Get(name)
		if value == "" {
			return "", false
		}
		return frame(kind, value), true
	}
}

// ByCorrelationData takes the Correlation Data property. Empty data are no key.
func ByCorrelationData(m *persist.Message) (string, bool) {
	data := m.Properties.CorrelationData
	if len(data) == 0 {
		return "", false
	}
	return frame("correlation", hex.EncodeToString(data)), true
}

// ByContent takes the hash of topic and payload. Two equal messages are one to
// it: right for events that say which one they are, wrong for a sensor that
// reads the same value twice.
func ByContent(m *persist.Message) (string, bool) {
	h := sha256.New()
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(m.Topic)))
	// A hash never fails to write.
	_, _ = h.Write(length[:])
	_, _ = h.Write([]byte(m.Topic))
	_, _ = h.Write(m.Payload)
	return "content:" + hex.EncodeToString(h.Sum(nil)), true
}

// None gives no message a key: everything is processed, and nothing
// deduplicated.
func None(*persist.Message) (string, bool) { return "", false }

// keyChoices is what ParseKey reads, for its errors.
const keyChoices = "id, property:NAME, cloudevents, json:FIELD, correlation, content or none"

// ParseKey reads the name of a KeyFunc as the command line gives it: id,
// property:NAME, cloudevents, json:FIELD, correlation, content or none. The
// error wraps [persist.ErrInvalid] and lists the choices.
func ParseKey(s string) (KeyFunc, error) {
	name, argument, hasArgument := strings.Cut(s, ":")
	plain := map[string]KeyFunc{
		"id":          ByMessageID,
		"cloudevents": ByCloudEvents,
		"correlation": ByCorrelationData,
		"content":     ByContent,
		"none":        None,
	}
	if f, ok := plain[name]; ok {
		if hasArgument {
			return nil, keyError(s, name+" takes no argument")
		}
		return f, nil
	}
	switch name {
	case "property":
		if argument == "" {
			return nil, keyError(s, "the name of the user property is missing")
		}
		if !isText(argument) || len(argument) > 65535 {
			return nil, keyError(s, "a user property's name is UTF-8 of at most 65535 bytes, without NUL")
		}
		return ByProperty(argument), nil
	case "json":
		if argument == "" {
			return nil, keyError(s, "the field is missing")
		}
		if !isJSONPath(argument) {
			return nil, keyError(s, "the field is a name, or names joined by dots, none of them empty")
		}
		return ByJSONField(argument), nil
	}
	return nil, keyError(s, "no such kind")
}

func keyError(s, fault string) error {
	return fmt.Errorf("dedup key %q: %w: %s; it must be %s", s, persist.ErrInvalid, fault, keyChoices)
}

// frame is the key of a kind and a value. The hashed form cannot be the framed
// form of another value: a value beginning with "#" is one of a kind that comes
// with lengths or hexadecimal digits, or an ID, which is framed only if it has a
// colon.
func frame(kind, value string) string {
	if len(kind)+1+len(value) > MaxKey || !isText(value) || !isText(kind) {
		return hashed(kind, value)
	}
	return kind + ":" + value
}

// hashed is the key of a kind and a value that cannot be used as they are. The
// kind, which tells its own length where it holds a name, is hashed with it.
func hashed(kind, value string) string {
	sum := sha256.Sum256([]byte(kind + ":" + value))
	name, _, _ := strings.Cut(kind, ":")
	return name + ":#" + hex.EncodeToString(sum[:])
}

// boundKey makes any key one that every store can keep, for KeyFuncs that are
// not ours.
func boundKey(key string) string {
	if len(key) <= MaxKey && isText(key) {
		return key
	}
	return hashed("key", key)
}

// isText tells whether every store can keep s as text: UTF-8 without NUL.
func isText(s string) bool {
	return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}
