package session

import (
	"math"
	"time"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// Outgoing is one message on its way to the broker. The owner sets the
// exported fields and hands it to the engine through its [Source]; from then on
// until it comes back in a [Completion] it is the engine's.
type Outgoing struct {
	Message *persist.Message
	// Ref is the owner's name for it.
	Ref persist.Ref
	// ExpiresAt is when the message is not worth sending any more. If it is zero
	// Message.Expiry counts from when the engine takes the message.
	ExpiresAt time.Time
	// NotAfter is when the owner does not want the message to be sent any more,
	// unless it was begun: as if it had expired, but the server is told nothing of
	// it. Zero for never.
	NotAfter time.Time
	// ReceiptTopic is the Response Topic to send if a receipt is wanted.
	ReceiptTopic string
	// FirstSent is when the message was sent first, in Unix milliseconds, if who
	// receives it is to be told: the same at each transmission. Zero for none. It
	// is left out if the message fits the server's Maximum Packet Size only
	// without it.
	FirstSent int64
	// Attempts is the owner's count of refusals, and NeverSent its word that no
	// transmission was begun; the engine uses neither.
	Attempts  int
	NeverSent bool
	// EnqueuedAt is when the owner took the message in, in Unix milliseconds; the
	// engine does not use it.
	EnqueuedAt int64

	packetID uint16
	gen      uint64             // the connection on which it was sent last
	step     persist.PacketStep // zero until it was written once
	suspect  bool               // in flight when the server dropped us for what we sent
	strikes  int                // how often it was alone in flight when that happened
	trial    *trial             // nil unless it may be why the server drops us without a word
	size     int                // payload bytes, for the byte window
	listed   bool               // in one of the engine's lists
	ended    bool               // over, but for the word that it is settled
	fresh    bool               // never sent in this session
	needs    uint64             // the save that must be through before its next packet is written
	orphan   bool               // there is no message, only an exchange to end
	noted    byte               // reason code of PUBREC below 0x80, kept for the completion
	sentAt   time.Time
	firstAt  time.Time // when its first transmission was begun, since it was taken
	prev     *Outgoing
	next     *Outgoing
}

// Completion is the end of one Outgoing.
type Completion struct {
	Out *Outgoing
	// Code is the reason code of the broker's answer, or the one that the
	// broker would have given if the engine refused the message itself.
	Code byte
	// Reason is the broker's reason string or the engine's words. May be empty.
	Reason string
	// Class tells what to do about it.
	Class qos.Class
	// Expired tells that the message was not sent because its time had passed,
	// ExpiresAt or NotAfter.
	Expired bool
}

// Source gives the engine what to send.
type Source interface {
	// Take appends up to limit messages to dst, in order. It must not block;
	// the engine asks again after Wake and whenever there is room.
	Take(dst []*Outgoing, limit int) []*Outgoing
}

// expiryLeft is the Message Expiry Interval to send: what is left, rounded up.
func (o *Outgoing) expiryLeft(now time.Time) (seconds uint32, expired bool) {
	if o.ExpiresAt.IsZero() {
		return 0, false
	}
	left := o.ExpiresAt.Sub(now)
	if left <= 0 {
		return 0, true
	}
	return uint32(min((left+time.Second-1)/time.Second, math.MaxUint32)), false
}

// TooOld tells whether NotAfter has passed.
func (o *Outgoing) TooOld(now time.Time) bool { return !o.NotAfter.IsZero() && !now.Before(o.NotAfter) }

// FirstAt is when the engine began to send the message, since it took it from its
// source; zero if it did not, or the message has QoS 0. It is for who has the
// [Completion].
func (o *Outgoing) FirstAt() time.Time { return o.firstAt }

// flightList is the exchanges under way in the order in which they began,
// which is the order in which they are sent again [MQTT-4.6.0-1].
type flightList struct {
	head, tail *Outgoing
	len        int
}

func (l *flightList) push(o *Outgoing) {
	o.prev, o.next = l.tail, nil
	if l.tail != nil {
		l.tail.next = o
	} else {
		l.head = o
	}
	l.tail = o
	o.listed = true
	l.len++
}

func (l *flightList) remove(o *Outgoing) {
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		l.head = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	} else {
		l.tail = o.prev
	}
	o.prev, o.next, o.listed = nil, nil, false
	l.len--
}

// idTable maps packet identifiers to exchanges. It grows by pages, so that a
// session with a small window stays small, and a look-up is two loads.
type idTable struct {
	pages [256]*[256]*Outgoing
}

func (t *idTable) get(id uint16) *Outgoing {
	if p := t.pages[id>>8]; p != nil {
		return p[id&0xff]
	}
	return nil
}

func (t *idTable) set(id uint16, o *Outgoing) {
	p := t.pages[id>>8]
	if p == nil {
		p = new([256]*Outgoing)
		t.pages[id>>8] = p
	}
	p[id&0xff] = o
}

func (t *idTable) clear() { t.pages = [256]*[256]*Outgoing{} }
