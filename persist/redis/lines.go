package redis

import (
	"crypto/sha256"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// The flags of how a message is stored, see include/add.lua.
const (
	storeReceipt    = 1
	storeKnown      = 2 // by its ID
	storeDroppable  = 4
	storeIdempotent = 16
	storeSupersede  = 32
)

// lines are the arguments of messages for a script. Their buffers are kept from
// one use to the next.
type lines struct {
	lanes []int  // those that are concerned, in the order of their first message
	index []byte // for each message, of its lane in lanes, from 1
	args  []any
	buf   []byte
	slots [maxLanes]byte // index of each lane, 0 if it is not concerned
	ones  [maxLanes + 1]string
}

// number finds the lanes of messages.
func (l *lines) number(s *Store, msgs []persist.Message) {
	for i := range msgs {
		lane := persist.LaneOf(msgs[i].Key(), s.lanes)
		if l.slots[lane] == 0 {
			l.lanes = append(l.lanes, lane)
			l.slots[lane] = byte(len(l.lanes))
		}
		l.index = append(l.index, l.slots[lane])
	}
}

// messages appends two arguments for each message: how it is stored, and its
// encoding.
func (l *lines) messages(msgs []persist.Message, index []byte) {
	for i := range msgs {
		m := &msgs[i]
		if isPlain(m) {
			l.args = append(l.args, l.one(index[i]))
		} else {
			flags := storeFlags(m)
			how := make([]byte, 0, 30+len(m.ID))
			how = append(how, index[i], flags)
			how = appendUint48(how, millis(m.Delay))
			how = appendUint48(how, millis(m.Expiry))
			if flags&storeSupersede != 0 {
				sum := sha256.Sum256([]byte(m.Key()))
				how = append(how, sum[:16]...)
			}
			if flags&storeKnown != 0 {
				how = append(how, m.ID...)
			}
			l.args = append(l.args, how)
		}
		l.body(m)
	}
}

// bodies appends the encoding of each message.
func (l *lines) bodies(msgs []persist.Message) {
	for i := range msgs {
		l.body(&msgs[i])
	}
}

// body appends the encoding of a message. The buffer may move while it grows; what
// was cut out of it before stays as it is.
func (l *lines) body(m *persist.Message) {
	from := len(l.buf)
	l.buf = wire.AppendMessage(l.buf, m)
	l.args = append(l.args, l.buf[from:len(l.buf):len(l.buf)])
}

// isPlain tells that nothing is kept beside the message.
func isPlain(m *persist.Message) bool {
	return storeFlags(m) == 0 && m.Delay == 0 && m.Expiry == 0
}

// one is the argument of a plain message in the lane of an index.
func (l *lines) one(index byte) string {
	if l.ones[index] == "" {
		l.ones[index] = string([]byte{index})
	}
	return l.ones[index]
}

func storeFlags(m *persist.Message) (flags byte) {
	if m.Receipt {
		flags |= storeReceipt | storeKnown
	}
	if m.Droppable {
		flags |= storeDroppable
	}
	if m.Idempotent {
		flags |= storeIdempotent | storeKnown
	}
	if m.Supersede {
		flags |= storeSupersede
	}
	return flags
}

// forget lets go of the messages, and of a buffer that became large.
func (l *lines) forget() {
	clear(l.args[:cap(l.args)])
	l.args, l.lanes, l.index, l.buf = l.args[:0], l.lanes[:0], l.index[:0], l.buf[:0]
	clear(l.slots[:])
	if cap(l.buf) > 4*maxBatchBytes {
		l.buf = nil
	}
}
