package autopaho

import (
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// Message is an MQTT application message. Enqueue fills in what is left open:
// the message ID, and what the policy of its topic says.
type Message = persist.Message

// UserProperty is a name and value that travels with a message.
type UserProperty = persist.UserProperty

// PropertyMessageID, PropertyOrderingKey and PropertyFirstSent are the user
// properties that carry the message ID, an ordering key that is not the topic,
// and when a message was sent first, in Unix milliseconds, if that was long after
// its message ID was made. The last is the relay's to set: Enqueue drops the one
// of a message that is passed on, since it tells of another sender.
const (
	PropertyMessageID   = session.PropertyMessageID
	PropertyOrderingKey = session.PropertyOrderingKey
	PropertyFirstSent   = session.PropertyFirstSent
)

// maxInterval is the longest interval of MQTT.
const maxInterval = math.MaxUint32 * time.Second

// validate checks what the broker or the wire could not take. Its errors name
// the field and what would be right.
func validate(m *Message, maxPayload int) error {
	if err := qos.ValidateTopic(m.Topic); err != nil {
		return err
	}
	bad := func(field, format string, args ...any) error {
		return &qos.FieldError{Field: field, Problem: fmt.Sprintf(format, args...)}
	}
	switch {
	case m.QoS > 2:
		return bad("QoS", "%d is not a level; use 0, 1 or 2", m.QoS)
	case len(m.Payload) > maxPayload:
		return bad("payload", "%d bytes are over the limit of %d", len(m.Payload), maxPayload)
	case len(m.ID) > persist.MaxMessageID:
		return bad("message ID", "%d bytes are over the limit of %d", len(m.ID), persist.MaxMessageID)
	case m.Expiry < 0 || m.Expiry > maxInterval:
		return bad("expiry", "%s is out of range; use up to %s, or 0 for ever", m.Expiry, maxInterval)
	case m.Delay < 0:
		return bad("delay", "%s is negative", m.Delay)
	case m.Expiry > 0 && m.Delay >= m.Expiry:
		return bad("delay", "%s is not less than the expiry, %s, and both count from when the message is stored; "+
			"it would expire before it is sent", m.Delay, m.Expiry)
	case m.Supersede && m.Receipt:
		return bad("supersede", "cannot be asked for together with a receipt: what is superseded gets none")
	case m.Supersede && m.Droppable:
		return bad("supersede", "cannot be asked for by a message that may be dropped as well; choose one of them")
	case m.Supersede && m.OrderingKey != "" && m.OrderingKey != m.Topic:
		return bad("supersede", "keeps the newest message of a topic, and this one has an ordering key of its own, %.64q; "+
			"leave the key out, or turn supersede off", m.OrderingKey)
	case m.MaxAttempts < 0:
		return bad("attempts", "%d is negative", m.MaxAttempts)
	case m.Receipt && m.Properties.ResponseTopic != "":
		return bad("receipt", "cannot be asked for by a message that has a response topic of its own")
	}
	if m.Properties.ResponseTopic != "" {
		if err := qos.ValidateTopic(m.Properties.ResponseTopic); err != nil { // [MQTT-3.3.2-14]
			return bad("response topic", "%s", err)
		}
	}
	for _, f := range [...]struct{ name, value string }{
		{"message ID", m.ID},
		{"ordering key", m.OrderingKey},
		{"content type", m.Properties.ContentType},
	} {
		if err := qos.ValidateString(f.name, f.value); err != nil {
			return err
		}
	}
	if err := qos.ValidateBinary("correlation data", m.Properties.CorrelationData); err != nil {
		return err
	}
	for i := range m.Properties.User {
		u := &m.Properties.User[i]
		if err := qos.ValidateString("user property name", u.Name); err != nil {
			return err
		}
		if err := qos.ValidateString("user property value", u.Value); err != nil {
			return err
		}
	}
	return nil
}

// prepare returns the messages as they will be stored: checked, with their
// message IDs and the policy of their topics. The caller's are not changed.
func (c *Client) prepare(msgs []Message) ([]Message, error) {
	out := make([]Message, len(msgs))
	var fresh []byte // the new message IDs, one after another
	for i := range msgs {
		m := &out[i]
		*m = msgs[i]
		if !identify(m) {
			u, err := uuid.NewV7()
			if err != nil {
				return nil, fmt.Errorf("make a message ID: %w", err)
			}
			if fresh == nil {
				fresh = make([]byte, 0, idSize*(len(msgs)-i))
			}
			fresh = appendID(fresh, u)
		}
		if user := m.Properties.User; slices.ContainsFunc(user, ofAnotherSending) {
			m.Properties.User = slices.DeleteFunc(slices.Clone(user), ofAnotherSending)
		}
		c.applyPolicy(m)
		if err := validate(m, c.cfg.MaxPayload); err != nil {
			return nil, invalid(i, len(msgs), err)
		}
		if m.Receipt && m.QoS == 0 {
			return nil, invalid(i, len(msgs), &qos.FieldError{
				Field: "receipt", Problem: "cannot be promised at QoS 0; use 1 or 2",
			})
		}
	}
	ids := string(fresh)
	for i := range out {
		if out[i].ID == "" {
			out[i].ID, ids = ids[:idSize], ids[idSize:]
		}
	}
	return out, nil
}

// idSize is the length of a message ID that is made here.
const idSize = 36

// appendID appends a UUID in its text form.
func appendID(b []byte, u uuid.UUID) []byte {
	for i, part := range [...][]byte{u[:4], u[4:6], u[6:8], u[8:10], u[10:]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

func invalid(i, n int, err error) error {
	if n > 1 {
		return fmt.Errorf("%w: message %d of %d: %w", ErrInvalidMessage, i+1, n, err)
	}
	return fmt.Errorf("%w: %w", ErrInvalidMessage, err)
}

// identify finds the message's ID: the caller's, or the one in its user
// properties, since a message that is passed on keeps its identity. It is false
// if there is none. An ID that was chosen outside is enqueued at most once while
// it is in the outbox.
func identify(m *Message) bool {
	id, key := m.ID, m.OrderingKey
	user := m.Properties.User
	for i := range user {
		switch user[i].Name {
		case PropertyMessageID:
			if id == "" {
				id = user[i].Value
			}
		case PropertyOrderingKey:
			if key == "" {
				key = user[i].Value
			}
		default:
			continue
		}
		m.Properties.User = withoutOurs(user)
	}
	m.ID, m.OrderingKey = id, key
	m.Idempotent = id != ""
	return id != ""
}

// withoutOurs copies properties without those that are sent from fields.
func withoutOurs(user []UserProperty) []UserProperty {
	rest := make([]UserProperty, 0, len(user))
	for _, u := range user {
		if u.Name != PropertyMessageID && u.Name != PropertyOrderingKey {
			rest = append(rest, u)
		}
	}
	return rest
}

// ofAnotherSending tells of a user property that it says when the message was sent,
// by somebody else.
func ofAnotherSending(u UserProperty) bool {
	return u.Name == PropertyFirstSent || u.Name == dedup.PropertyRetried
}

// applyPolicy fills in what the message leaves open. A QoS of zero in Enqueue
// is "not chosen": it becomes 1, since an outbox that sends at most once
// promises nothing. Whoever wants QoS 0 from an outbox says so in a policy.
func (c *Client) applyPolicy(m *Message) {
	p := c.cfg.Policies.For(m.Topic)
	switch {
	case p.Level != nil:
		m.QoS = byte(*p.Level)
	case m.QoS == 0:
		m.QoS = 1
	}
	if m.Expiry == 0 {
		m.Expiry = p.Expiry
	}
	if m.MaxAttempts == 0 {
		m.MaxAttempts = p.Attempts
	}
	m.Receipt = m.Receipt || p.Receipt
	m.Strict = m.Strict || p.Order == qos.Strict
	// What may be dropped cannot promise a receipt.
	m.Droppable = (m.Droppable || p.WhenFull == qos.DropOldest && !m.Supersede) && !m.Receipt
	m.Supersede = m.Supersede || p.Supersede && !m.Receipt && !m.Droppable
}

// DelayUntil is the Delay of a message that is not to be sent before t, by this
// machine's clock; zero if t has passed. The store counts it from the commit, so it
// should be taken right before Enqueue.
func DelayUntil(t time.Time) time.Duration { return max(0, time.Until(t)) }
