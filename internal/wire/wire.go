// Package wire encodes a message, and the packet state of a session, as the bytes
// that a store keeps.
//
// The first byte is the version. What a version wrote is read by every later
// one: a change of the layout is a new version, and the old reader stays.
//
// Version 1 of a message, in this order; lengths and numbers are unsigned varints
// (see session.go for the layout of packet state):
//
//	byte      version, 1
//	byte      flags: QoS in bits 0 and 1, then from bit 2 on Retain, Receipt,
//	          Strict, Idempotent, Droppable, Properties.UTF8
//	byte      which optional fields follow: from bit 0 on OrderingKey,
//	          ContentType, ResponseTopic, CorrelationData, MaxAttempts, Delay
//	          (in nanoseconds), User; and in bit 7 Supersede, which is a flag
//	string    ID
//	string    Topic
//	...       the optional fields that are there, in the order of their bits;
//	          User is a number of pairs, then name and value of each
//	bytes     Payload
//	4 bytes   CRC-32C of all before it, little-endian
//
// The checksum is there because the page of a database may have none: a flipped
// bit would be published as if it were the message.
//
// [persist.Message.Expiry] is not part of it, since it counts from the commit: a
// store keeps the time at which it ends. [persist.Message.Delay] is there for
// those who read the message back; until when it holds the message is the
// store's to keep as well.
package wire

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"time"
	"unsafe"

	"github.com/oncemq/oncemq/persist"
)

const version1 = 1

// The bits of the flags byte.
const (
	maskQoS        = 0x03
	flagRetain     = 1 << 2
	flagReceipt    = 1 << 3
	flagStrict     = 1 << 4
	flagIdempotent = 1 << 5
	flagDroppable  = 1 << 6
	flagUTF8       = 1 << 7
)

// The bits of the byte that tells which optional fields follow.
const (
	hasOrderingKey = 1 << iota
	hasContentType
	hasResponseTopic
	hasCorrelationData
	hasMaxAttempts
	hasDelay
	hasUser
	flagSupersede // which had no room among the flags
)

const checksumSize = 4

// AppendMessage appends the encoding of m to dst and returns the extended
// slice. It allocates only if dst has no room. A QoS above 2 is not a message:
// what was encoded of it is refused by [DecodeMessage]. A negative MaxAttempts or
// Delay is encoded as zero.
func AppendMessage(dst []byte, m *persist.Message) []byte {
	start := len(dst)
	p := &m.Properties

	flags := m.QoS & maskQoS
	flags |= bit(m.Retain, flagRetain) | bit(m.Receipt, flagReceipt) | bit(m.Strict, flagStrict)
	flags |= bit(m.Idempotent, flagIdempotent) | bit(m.Droppable, flagDroppable) | bit(p.UTF8, flagUTF8)

	has := bit(m.OrderingKey != "", hasOrderingKey) | bit(p.ContentType != "", hasContentType)
	has |= bit(p.ResponseTopic != "", hasResponseTopic)
	// Correlation data may be there and empty.
	has |= bit(p.CorrelationData != nil, hasCorrelationData)
	has |= bit(m.MaxAttempts > 0, hasMaxAttempts) | bit(m.Delay > 0, hasDelay) | bit(len(p.User) > 0, hasUser)
	has |= bit(m.Supersede, flagSupersede)

	dst = append(dst, version1, flags, has)
	dst = appendString(dst, m.ID)
	dst = appendString(dst, m.Topic)
	if has&hasOrderingKey != 0 {
		dst = appendString(dst, m.OrderingKey)
	}
	if has&hasContentType != 0 {
		dst = appendString(dst, p.ContentType)
	}
	if has&hasResponseTopic != 0 {
		dst = appendString(dst, p.ResponseTopic)
	}
	if has&hasCorrelationData != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(p.CorrelationData)))
		dst = append(dst, p.CorrelationData...)
	}
	if has&hasMaxAttempts != 0 {
		dst = binary.AppendUvarint(dst, uint64(m.MaxAttempts))
	}
	if has&hasDelay != 0 {
		dst = binary.AppendUvarint(dst, uint64(m.Delay))
	}
	if has&hasUser != 0 {
		dst = binary.AppendUvarint(dst, uint64(len(p.User)))
		for i := range p.User {
			dst = appendString(dst, p.User[i].Name)
			dst = appendString(dst, p.User[i].Value)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.Payload)))
	dst = append(dst, m.Payload...)
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[start:]))
}

// Size is the number of bytes that [AppendMessage] appends for m.
func Size(m *persist.Message) int {
	p := &m.Properties
	n := 3 + sized(len(m.ID)) + sized(len(m.Topic)) + sized(len(m.Payload)) + checksumSize
	for _, s := range [...]string{m.OrderingKey, p.ContentType, p.ResponseTopic} {
		if s != "" {
			n += sized(len(s))
		}
	}
	if p.CorrelationData != nil {
		n += sized(len(p.CorrelationData))
	}
	if m.MaxAttempts > 0 {
		n += varint(uint64(m.MaxAttempts))
	}
	if m.Delay > 0 {
		n += varint(uint64(m.Delay))
	}
	if len(p.User) > 0 {
		n += varint(uint64(len(p.User)))
		for i := range p.User {
			n += sized(len(p.User[i].Name)) + sized(len(p.User[i].Value))
		}
	}
	return n
}

// sized is what n bytes take with their length before them, varint what a number
// takes.
func sized(n int) int { return varint(uint64(n)) + n }

func varint(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

// DecodeMessage reads what [AppendMessage] wrote. Its error wraps
// [persist.ErrCorrupt]: the version is unknown, the bytes are not whole, or
// they are not those that were written. It reads any input without panicking
// and in memory proportional to it.
//
// The message keeps b: Payload and CorrelationData are parts of it, so b must
// not be changed afterwards. The strings are parts of it too.
func DecodeMessage(b []byte) (persist.Message, error) {
	if len(b) == 0 {
		return persist.Message{}, fmt.Errorf("%w: message is empty", persist.ErrCorrupt)
	}
	if b[0] != version1 {
		return persist.Message{}, fmt.Errorf("%w: message has version %d, this program reads version %d",
			persist.ErrCorrupt, b[0], version1)
	}
	if len(b) < 3+checksumSize {
		return persist.Message{}, fmt.Errorf("%w: message is cut short", persist.ErrCorrupt)
	}
	end := len(b) - checksumSize
	if binary.LittleEndian.Uint32(b[end:]) != checksum(b[:end]) {
		return persist.Message{}, fmt.Errorf("%w: message has a wrong checksum", persist.ErrCorrupt)
	}
	m, ok := decodeVersion1(b[:end:end])
	if !ok {
		return persist.Message{}, fmt.Errorf("%w: message has a field out of range", persist.ErrCorrupt)
	}
	return m, nil
}

func decodeVersion1(b []byte) (m persist.Message, ok bool) {
	flags, has := b[1], b[2]
	if flags&maskQoS > 2 {
		return m, false
	}
	m.QoS = flags & maskQoS
	m.Retain = flags&flagRetain != 0
	m.Receipt = flags&flagReceipt != 0
	m.Strict = flags&flagStrict != 0
	m.Idempotent = flags&flagIdempotent != 0
	m.Droppable = flags&flagDroppable != 0
	m.Supersede = has&flagSupersede != 0
	p := &m.Properties
	p.UTF8 = flags&flagUTF8 != 0

	// The first pass finds where each field lies and that all of them are
	// whole, the second takes them.
	r := reader{b: b, at: 3}
	id, topic := r.span(), r.span()
	var key, contentType, responseTopic, correlation span
	if has&hasOrderingKey != 0 {
		key = r.span()
	}
	if has&hasContentType != 0 {
		contentType = r.span()
	}
	if has&hasResponseTopic != 0 {
		responseTopic = r.span()
	}
	if has&hasCorrelationData != 0 {
		correlation = r.span()
	}
	if has&hasMaxAttempts != 0 {
		m.MaxAttempts = int(r.uvarintTo(math.MaxInt))
	}
	if has&hasDelay != 0 {
		m.Delay = time.Duration(r.uvarintTo(math.MaxInt64))
	}
	user, pairs := r.at, 0
	if has&hasUser != 0 {
		// A pair takes two bytes at least.
		pairs = int(r.uvarintTo(uint64(len(b)-r.at) / 2))
		user = r.at
		for range 2 * pairs {
			r.span()
		}
	}
	stringsEnd := r.at
	payload := r.span()
	if r.bad || r.at != len(b) {
		return persist.Message{}, false
	}

	// No copy: b belongs to the message from here on, and nothing that may be
	// written to (payload and correlation data) overlaps a string.
	text := unsafe.String(unsafe.SliceData(b), stringsEnd) //nolint:gosec // see above
	m.ID, m.Topic = id.of(text), topic.of(text)
	m.OrderingKey = key.of(text)
	p.ContentType, p.ResponseTopic = contentType.of(text), responseTopic.of(text)
	if has&hasCorrelationData != 0 {
		p.CorrelationData = b[correlation.from:correlation.to:correlation.to]
	}
	if pairs > 0 {
		r.at = user
		p.User = make([]persist.UserProperty, pairs)
		for i := range p.User {
			p.User[i].Name = r.span().of(text)
			p.User[i].Value = r.span().of(text)
		}
	}
	if payload.from < payload.to {
		m.Payload = b[payload.from:payload.to:payload.to]
	}
	return m, true
}

// span is where a field lies.
type span struct{ from, to int }

func (s span) of(text string) string { return text[s.from:s.to] }

// reader walks over fields. Once something did not fit it is bad and yields
// nothing more.
type reader struct {
	b   []byte
	at  int
	bad bool
}

func (r *reader) uvarint() uint64 {
	if r.bad {
		return 0
	}
	v, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.at += n
	return v
}

// uvarintTo reads a number that is at most limit.
func (r *reader) uvarintTo(limit uint64) uint64 {
	v := r.uvarint()
	if v > limit {
		r.bad = true
		return 0
	}
	return v
}

func (r *reader) span() span {
	n := r.uvarint()
	if r.bad || n > uint64(len(r.b)-r.at) {
		r.bad = true
		return span{}
	}
	s := span{from: r.at, to: r.at + int(n)}
	r.at = s.to
	return s
}

func bit(set bool, mask byte) byte {
	if set {
		return mask
	}
	return 0
}

func appendString(dst []byte, s string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s)))
	return append(dst, s...)
}

func checksum(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}
