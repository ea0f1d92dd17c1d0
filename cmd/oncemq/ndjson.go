package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// readObject reads a message from a JSON object as sub --json prints it, into what
// the options say. What tells of a reception (tst, mid, dup and their like) is passed
// over. An error names the key.
func readObject(line []byte, m *autopaho.Message) error {
	var texts struct{ plain, encoded bool } // which payload was given
	userSet := false
	err := eachMember(line, func(key string, value json.RawMessage) (known bool, err error) {
		switch key {
		case "tst", "payloadlen", "mid", "dup", "group", "seq":
		case "topic":
			return true, textValue(value, topic(&m.Topic))
		case "id":
			return true, textValue(value, anyID(&m.ID))
		case "qos":
			return true, levelValue(value, &m.QoS)
		case "retain":
			return true, flagValue(value, &m.Retain)
		case "payload":
			texts.plain = true
			return true, payloadValue(value, &m.Payload)
		case "payload_base64":
			texts.encoded = true
			return true, base64Value(value, &m.Payload)
		case "properties":
			return true, eachMember(value, func(key string, value json.RawMessage) (bool, error) {
				if key == "user-properties" {
					if !userSet { // they take the place of those of the options
						m.Properties.User, userSet = nil, true
					}
					return true, userValue(value, &m.Properties.User)
				}
				return readProperty(key, value, m)
			})
		default:
			return false, nil
		}
		return true, nil
	})
	switch {
	case err != nil:
		return err
	case texts.plain && texts.encoded:
		return errors.New("payload: cannot stand beside payload_base64; a message has one payload")
	case m.Topic == "":
		return errors.New("topic: is missing; give it in the line, or to all lines by -t")
	case len(m.Payload) > maxPayload:
		return fmt.Errorf("payload: %w", errTooLong(len(m.Payload), maxPayload))
	}
	m.ID = shortID(m)
	return nil
}

// shortID is the message's ID, or its hash if it is too long for an outbox: other
// clients put what they like into the user property of that name, and what had the
// same ID still has. Empty if the message has none, or none but in its properties.
func shortID(m *autopaho.Message) string {
	id := m.ID
	if id == "" {
		id, _ = m.Properties.Get(autopaho.PropertyMessageID)
	}
	if len(id) <= persist.MaxMessageID {
		return m.ID
	}
	hash := sha256.Sum256([]byte(id))
	return hex.EncodeToString(hash[:])
}

// objectKeys and propertyKeys are what a line may say.
func objectKeys() []string {
	return []string{"topic", "payload", "payload_base64", "qos", "retain", "id", "properties"}
}

func propertyKeys() []string {
	return []string{
		"user-properties", "content-type", "correlation-data", "correlation-data_base64", "response-topic",
		"payload-format-indicator", "message-expiry-interval",
	}
}

func readProperty(key string, value json.RawMessage, m *autopaho.Message) (known bool, err error) {
	p := &m.Properties
	switch key {
	case "topic-alias", "subscription-identifier": // of the connection that it came by
	case "content-type":
		err = textValue(value, utf8Text(&p.ContentType))
	case "response-topic":
		err = textValue(value, topic(&p.ResponseTopic))
	case "correlation-data":
		err = orBase64(textValue(value, data(&p.CorrelationData)), "correlation-data_base64")
	case "correlation-data_base64":
		err = base64Value(value, &p.CorrelationData)
	case "payload-format-indicator":
		err = flagValue(value, &p.UTF8)
	case "message-expiry-interval":
		var seconds int64
		if json.Unmarshal(value, &seconds) != nil || seconds < 1 || seconds > math.MaxUint32 {
			return true, fmt.Errorf("is %s; use 1 to %d seconds", shownJSON(value), uint32(math.MaxUint32))
		}
		m.Expiry = time.Duration(seconds) * time.Second
	default:
		return false, nil
	}
	return true, err
}

// memberError tells where in an object an error is.
type memberError struct {
	path string
	err  error
}

func (e *memberError) Error() string { return e.path + ": " + e.err.Error() }
func (e *memberError) Unwrap() error { return e.err }

// eachMember calls read for each member of a JSON object, in their order.
func eachMember(text []byte, read func(key string, value json.RawMessage) (known bool, err error)) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		if err != nil && !errors.Is(err, io.EOF) {
			return syntaxError(err)
		}
		return fmt.Errorf("is %s, and must be a JSON object", shownJSON(text))
	}
	seen := make(map[string]bool, 8)
	for d.More() {
		from := d.InputOffset()
		token, err := d.Token()
		if err != nil {
			return syntaxError(err)
		}
		key, _ := token.(string) // the decoder takes nothing else
		if err := inexact(text[from:d.InputOffset()], key); err != nil {
			return &memberError{member(key), fmt.Errorf("the key %w", err)}
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return syntaxError(err)
		}
		if seen[key] {
			return &memberError{member(key), errors.New("stands twice")}
		}
		seen[key] = true
		known, err := read(key, value)
		if !known {
			return &memberError{member(key), errors.New(unknownMember(key))}
		}
		var inner *memberError
		switch {
		case errors.As(err, &inner):
			return &memberError{member(key) + "." + inner.path, inner.err}
		case err != nil:
			return &memberError{member(key), err}
		}
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return syntaxError(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("has more after its JSON object; write one object a line")
	}
	return nil
}

// member shows a key as it is if it looks like one.
func member(key string) string {
	for _, c := range []byte(key) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return shown(key)
		}
	}
	if key == "" || len(key) > 40 {
		return shown(key)
	}
	return key
}

func unknownMember(key string) string {
	known := append(objectKeys(), propertyKeys()...)
	if near := nearest(key, known); near != "" {
		return "is not a known key; did you mean " + near + "?"
	}
	return "is not a known key; known are " + strings.Join(objectKeys(), ", ") + ", and in properties " + strings.Join(propertyKeys(), ", ")
}

func syntaxError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("ends within its JSON object")
	}
	return fmt.Errorf("is not JSON: %w", err)
}

// shownJSON shows a value by its beginning.
func shownJSON(value []byte) string {
	const most = 40
	value = bytes.TrimSpace(value)
	switch {
	case len(value) == 0:
		return "empty"
	case len(value) > most:
		return strconv.Quote(strings.ToValidUTF8(string(value[:most]), "")) + "…"
	case value[0] == '"':
		return strconv.Quote(strings.Trim(string(value), `"`))
	}
	return strings.ToValidUTF8(string(value), "�")
}

func textValue(value json.RawMessage, set func(string) error) error {
	var s string
	if value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return fmt.Errorf("is %s, and must be a string", shownJSON(value))
	}
	if err := inexact(value, s); err != nil {
		return err
	}
	return set(s)
}

// errNotUTF8 and errSurrogate are of strings that JSON cannot carry.
var (
	errNotUTF8   = errors.New("is not UTF-8")
	errSurrogate = errors.New("has an escaped half of a surrogate pair without the other half, which is no UTF-8")
)

// inexact tells what decoding changed in the strings of a JSON text, whose content
// came out as s: encoding/json puts U+FFFD in place of what is not UTF-8.
func inexact(text []byte, s string) error {
	switch {
	case !strings.ContainsRune(s, utf8.RuneError): // nearly all
		return nil
	case !utf8.Valid(text):
		return errNotUTF8
	case loneSurrogate(text):
		return errSurrogate
	}
	return nil
}

// loneSurrogate tells whether a JSON text that is sound escapes half of a surrogate
// pair without the other half.
func loneSurrogate(text []byte) bool {
	unit := func(i int) rune { // that is escaped at i; 0 for none
		if i+6 > len(text) || text[i] != '\\' || text[i+1] != 'u' {
			return 0
		}
		n, _ := strconv.ParseUint(string(text[i+2:i+6]), 16, 16) // the decoder took it
		return rune(n)
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		r := unit(i)
		switch {
		case !utf16.IsSurrogate(r):
			i++ // what is escaped may be a backslash
		case utf16.DecodeRune(r, unit(i+6)) == utf8.RuneError:
			return true
		default:
			i += 11
		}
	}
	return false
}

// orBase64 adds to the error of text that is none where to put it.
func orBase64(err error, key string) error {
	if errors.Is(err, errNotUTF8) || errors.Is(err, errSurrogate) {
		return fmt.Errorf("%w; give it in base64, as %s", err, key)
	}
	return err
}

// payloadValue takes a string as the text that it is, null as nothing, and anything
// else as the JSON that it is.
func payloadValue(value json.RawMessage, dst *[]byte) error {
	switch {
	case value[0] == '"':
		return orBase64(textValue(value, func(s string) error {
			*dst = []byte(s)
			return nil
		}), "payload_base64")
	case string(value) == "null":
		*dst = nil
	default:
		*dst = bytes.Clone(value)
	}
	return nil
}

func base64Value(value json.RawMessage, dst *[]byte) error {
	return textValue(value, func(s string) (err error) {
		if *dst, err = base64.StdEncoding.DecodeString(s); err != nil {
			return errors.New("is not base64")
		}
		return nil
	})
}

// levelValue takes a level. What came at level 0 is stored all the same, and sent at
// the level of the options.
func levelValue(value json.RawMessage, dst *byte) error {
	var n int
	if json.Unmarshal(value, &n) != nil || n < 0 || n > 2 {
		return fmt.Errorf("is %s; use 0, 1 or 2", shownJSON(value))
	}
	if n > 0 {
		*dst = byte(n)
	}
	return nil
}

func flagValue(value json.RawMessage, dst *bool) error {
	switch string(value) {
	case "0", "false":
		*dst = false
	case "1", "true":
		*dst = true
	default:
		return fmt.Errorf("is %s; use 0 or 1", shownJSON(value))
	}
	return nil
}

// userValue takes user properties: an object of strings, or of arrays of strings for
// names that occur more than once.
func userValue(value json.RawMessage, dst *[]autopaho.UserProperty) error {
	var list []autopaho.UserProperty
	err := eachMember(value, func(name string, value json.RawMessage) (bool, error) {
		var values []string
		var one string
		switch {
		case value[0] == '"' && json.Unmarshal(value, &one) == nil:
			values = []string{one}
		case value[0] != '[' || json.Unmarshal(value, &values) != nil:
			return true, fmt.Errorf("is %s, and must be a string, or an array of strings", shownJSON(value))
		}
		if err := inexact(value, one+strings.Join(values, "")); err != nil {
			return true, err
		}
		for _, v := range values {
			p := autopaho.UserProperty{Name: name, Value: v}
			if err := checkUserProperty(p); err != nil {
				return true, err
			}
			list = append(list, p)
		}
		return true, nil
	})
	*dst = list
	return err
}
