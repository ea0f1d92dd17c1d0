package session

import (
	"encoding/binary"
	"strconv"

	"github.com/oncemq/oncemq/persist"
)

// Control packet types, MQTT 5 section 2.1.2.
const (
	typeConnect    = 1
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubrel     = 6
	typePubcomp    = 7
	typeSubscribe  = 8
	typeSuback     = 9
	typeUnsuback   = 11
	typePingreq    = 12
	typePingresp   = 13
	typeDisconnect = 14
)

// Property identifiers, section 2.2.2.2.
const (
	propPayloadFormat     = 0x01
	propMessageExpiry     = 0x02
	propContentType       = 0x03
	propResponseTopic     = 0x08
	propCorrelationData   = 0x09
	propSubscriptionID    = 0x0B
	propSessionExpiry     = 0x11
	propWillDelay         = 0x18
	propReasonString      = 0x1F
	propReceiveMaximum    = 0x21
	propTopicAlias        = 0x23
	propUser              = 0x26
	propMaximumPacketSize = 0x27
)

// User properties of ours that travel with a message.
const (
	// PropertyMessageID carries the message ID.
	PropertyMessageID = "message-id"
	// PropertyOrderingKey carries an ordering key that is not the topic.
	PropertyOrderingKey = "ordering-key"
	// PropertyFirstSent carries Outgoing.FirstSent in decimal digits.
	PropertyFirstSent = "first-sent"
)

// maxRemaining is the largest Remaining Length, section 1.5.5.
const maxRemaining = 268_435_455

func varintLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

func appendVarint(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

// publishSizes returns the length of the property section and the Remaining
// Length of the PUBLISH that appendPublish writes.
func publishSizes(o *Outgoing) (props, remaining int) {
	m := o.Message
	p := &m.Properties
	if p.UTF8 {
		props += 2
	}
	if m.Expiry != 0 {
		props += 5
	}
	if p.ContentType != "" {
		props += 3 + len(p.ContentType)
	}
	if t := o.responseTopic(); t != "" {
		props += 3 + len(t)
	}
	if n := o.correlationLen(); n > 0 {
		props += 3 + n
	}
	if m.ID != "" {
		props += 5 + len(PropertyMessageID) + len(m.ID)
	}
	if o.FirstSent > 0 {
		props += 5 + len(PropertyFirstSent) + decimalLen(o.FirstSent)
	}
	if m.OrderingKey != "" {
		props += 5 + len(PropertyOrderingKey) + len(m.OrderingKey)
	}
	for i := range p.User {
		props += 5 + len(p.User[i].Name) + len(p.User[i].Value)
	}
	remaining = 2 + len(m.Topic) + varintLen(props) + props + len(m.Payload)
	if m.QoS > 0 {
		remaining += 2
	}
	return props, remaining
}

// appendPublish appends the PUBLISH of o, section 3.3. Lengths were checked
// when the message was accepted: no string is cut short here.
func appendPublish(b []byte, o *Outgoing, props, remaining int, dup bool, expiry uint32) []byte {
	m := o.Message
	flags := m.QoS << 1
	if m.Retain {
		flags |= 1
	}
	if dup {
		flags |= 8
	}
	b = append(b, typePublish<<4|flags)
	b = appendVarint(b, remaining)
	b = appendString(b, m.Topic)
	if m.QoS > 0 {
		b = binary.BigEndian.AppendUint16(b, o.packetID)
	}
	b = appendVarint(b, props)
	p := &m.Properties
	if p.UTF8 {
		b = append(b, propPayloadFormat, 1)
	}
	if m.Expiry != 0 {
		b = append(b, propMessageExpiry)
		b = binary.BigEndian.AppendUint32(b, expiry)
	}
	if p.ContentType != "" {
		b = append(b, propContentType)
		b = appendString(b, p.ContentType)
	}
	if t := o.responseTopic(); t != "" {
		b = append(b, propResponseTopic)
		b = appendString(b, t)
	}
	if o.ReceiptTopic != "" {
		b = append(b, propCorrelationData)
		b = appendString(b, m.ID)
	} else if len(p.CorrelationData) > 0 {
		b = append(b, propCorrelationData)
		b = binary.BigEndian.AppendUint16(b, uint16(len(p.CorrelationData)))
		b = append(b, p.CorrelationData...)
	}
	if m.ID != "" {
		b = append(b, propUser)
		b = appendString(b, PropertyMessageID)
		b = appendString(b, m.ID)
	}
	if o.FirstSent > 0 {
		b = append(b, propUser)
		b = appendString(b, PropertyFirstSent)
		b = binary.BigEndian.AppendUint16(b, uint16(decimalLen(o.FirstSent)))
		b = strconv.AppendInt(b, o.FirstSent, 10)
	}
	if m.OrderingKey != "" {
		b = append(b, propUser)
		b = appendString(b, PropertyOrderingKey)
		b = appendString(b, m.OrderingKey)
	}
	for i := range p.User {
		b = append(b, propUser)
		b = appendString(b, p.User[i].Name)
		b = appendString(b, p.User[i].Value)
	}
	return append(b, m.Payload...)
}

// decimalLen is how many digits a positive number has.
func decimalLen(n int64) int {
	digits := 1
	for n >= 10 {
		n /= 10
		digits++
	}
	return digits
}

// responseTopic is the receipt topic if a receipt is wanted, else the
// message's own.
func (o *Outgoing) responseTopic() string {
	if o.ReceiptTopic != "" {
		return o.ReceiptTopic
	}
	return o.Message.Properties.ResponseTopic
}

func (o *Outgoing) correlationLen() int {
	if o.ReceiptTopic != "" {
		return len(o.Message.ID)
	}
	return len(o.Message.Properties.CorrelationData)
}

// PacketSize is how many bytes the PUBLISH of a message takes, with a receipt
// topic of that length if it asks for a receipt.
func PacketSize(m *persist.Message, receiptTopic string) int {
	o := Outgoing{Message: m}
	if m.Receipt {
		o.ReceiptTopic = receiptTopic
	}
	_, remaining := publishSizes(&o)
	return 1 + varintLen(remaining) + remaining
}

// appendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP without properties; a
// reason code of zero is left out (sections 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1).
func appendAck(b []byte, packetType byte, id uint16, code byte) []byte {
	first := packetType << 4
	if packetType == typePubrel {
		first |= 2 // [MQTT-3.6.1-1]
	}
	if code == 0 {
		b = append(b, first, 2)
		return binary.BigEndian.AppendUint16(b, id)
	}
	b = append(b, first, 3)
	b = binary.BigEndian.AppendUint16(b, id)
	return append(b, code)
}
