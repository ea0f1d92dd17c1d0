package persist

import "time"

// Message is one MQTT application message with what the outbox must know to
// send it. A Message that was handed to a store or to a handler is not changed
// afterwards by either side.
type Message struct {
	// ID is the message ID: made once, at enqueue, and the same on every
	// retransmission. It travels as the user property "message-id". At most
	// [MaxMessageID] bytes of UTF-8, not empty once stored.
	ID string

	// Topic is the topic name: 1 to 65,535 bytes of UTF-8 without wildcards.
	Topic string

	// Payload may be empty.
	Payload []byte

	// QoS is 0, 1 or 2.
	QoS byte

	// Retain asks the broker to keep the message for the topic.
	Retain bool

	// Properties are the MQTT 5 properties that travel with the message.
	Properties Properties

	// OrderingKey names the sequence that the message belongs to: messages
	// with the same key keep their order. Empty means the topic.
	OrderingKey string

	// Expiry is how long the message is worth sending. In Enqueue it counts
	// from the commit; in an [Entry] it is what is left by the store's clock,
	// and negative, never zero, once it has passed. Zero means for ever. Stored
	// in milliseconds.
	Expiry time.Duration

	// Delay holds the message back for that long after its commit. Zero sends
	// it as soon as possible. Stored in milliseconds.
	Delay time.Duration

	// Receipt asks for a consumer's end-to-end acknowledgement. The message
	// stays in the outbox, [StateDelivered], until it comes.
	Receipt bool

	// Strict keeps the order of the key even around a refusal: one message of
	// the key in flight at a time.
	Strict bool

	// MaxAttempts is after how many refusals that may be retried the message
	// fails for good. Zero leaves the number to the relay's configuration.
	MaxAttempts int

	// Idempotent makes the store refuse a second message of the same ID while
	// the first is kept [OUTBOX-4]. Set by Enqueue for IDs that the caller
	// chose; IDs made by oncemq are unique already.
	Idempotent bool

	// Droppable lets the store make room by dropping this message when the
	// outbox is full, oldest first [OUTBOX-9].
	Droppable bool

	// Supersede keeps only the newest message of an ordering key while it waits,
	// for topics that tell a state [OUTBOX-14]: when it is stored, the older ones
	// of its key that ask for it too and that no relay has read yet give way. It
	// cannot stand beside Receipt or Droppable.
	Supersede bool
}

// MaxMessageID is the longest message ID in bytes.
const MaxMessageID = 128

// Key is the ordering key in force: OrderingKey, or the topic if that is empty.
func (m *Message) Key() string {
	if m.OrderingKey != "" {
		return m.OrderingKey
	}
	return m.Topic
}

// Properties are the PUBLISH properties of MQTT 5 (section 3.3.2.3) that
// belong to the application message. Topic Alias and Subscription Identifier
// belong to a connection and are not among them; the Message Expiry Interval is
// [Message.Expiry].
type Properties struct {
	// UTF8 is the Payload Format Indicator: the payload is UTF-8 text.
	UTF8 bool
	// ContentType describes the payload, "application/json" for one.
	ContentType string
	// ResponseTopic is where an answer is awaited.
	ResponseTopic string
	// CorrelationData ties an answer to its request.
	CorrelationData []byte
	// User are the user properties, in order; a name may occur more than once.
	User []UserProperty
}

// UserProperty is one name and value of the User Property (section 3.3.2.3.7).
type UserProperty struct {
	Name, Value string
}

// Get returns the first user property of that name.
func (p *Properties) Get(name string) (value string, ok bool) {
	for i := range p.User {
		if p.User[i].Name == name {
			return p.User[i].Value, true
		}
	}
	return "", false
}
