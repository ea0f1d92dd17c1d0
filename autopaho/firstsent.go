package autopaho

import (
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// A consumer judges by the time in a message's ID whether the message can be an
// old one that is sent again. Of a message that waited for its broker for days,
// or whose ID holds no time, it would think wrongly. So the relay tells when it
// sent such a message first, if it certainly did.

// freshFor is up to which age the time in a message ID tells well enough when
// the message was sent.
const freshFor = time.Minute

// stampLimit bounds how many stamps are kept for messages that await a receipt.
// One that is sent again without its stamp passes for older than it is, never
// for newer.
const stampLimit = 1 << 16

// neverSent tells of a message that the lane has just handed out whether no
// transmission of it can have begun: not by an earlier holder of the lane, and
// not by this one, since a lease hands it out once and counts an attempt from
// then on. And not from an earlier row: one that was enqueued long after its ID
// was made may be enqueued for the second time, after an outcome that was unknown,
// or from another outbox, or as a dead letter that is tried again.
func neverSent(e *persist.Entry, sentUntil time.Time) bool {
	if e.State != persist.StatePending || e.Attempts != 0 || !e.EnqueuedAt.After(sentUntil) {
		return false
	}
	made, ok := timeOfID(e.Message.ID)
	return !ok || e.EnqueuedAt.UnixMilli()-made <= freshFor.Milliseconds()
}

// stampAt is the stamp of a message that is sent for the first time now: none if
// its ID tells as much.
func stampAt(id string, now time.Time) int64 {
	if made, ok := timeOfID(id); ok && now.UnixMilli()-made <= freshFor.Milliseconds() {
		return 0
	}
	return now.UnixMilli()
}

// timeOfID is the time in a UUID of version 7, in Unix milliseconds. It does not
// allocate for one.
func timeOfID(id string) (ms int64, ok bool) {
	if len(id) != idSize {
		return 0, false // other forms of a UUID that Parse takes are no message IDs
	}
	u, err := uuid.Parse(id)
	if err != nil || u.Version() != 7 || u.Variant() != uuid.RFC4122 {
		return 0, false
	}
	for _, c := range u[:6] {
		ms = ms<<8 | int64(c)
	}
	return ms, true
}

// stamp marks those of a batch that are sent for the first time.
func stamp(batch []*session.Outgoing, now time.Time) {
	for _, o := range batch {
		if o.NeverSent {
			o.NeverSent, o.FirstSent = false, stampAt(o.Message.ID, now)
			if o.FirstSent != 0 && wasRetried(o.Message) {
				o.FirstSent = 0
			}
		}
	}
}

// wasRetried tells of a message that it is a dead letter that is tried again. Its ID
// may be young, or tell no time; but it has been sent before, and groups that
// processed it must not take it for new.
func wasRetried(m *persist.Message) bool {
	_, ok := m.Properties.Get(dedup.PropertyRetried)
	return ok
}

// keepStamps remembers the stamps of a batch that is sent, of messages that may have to
// be sent once more because their receipt does not come: it may come before the
// broker's answer does. d.mu is held.
func (d *drain) keepStamps(batch []*session.Outgoing) {
	for _, o := range batch {
		if o.FirstSent == 0 || !o.Message.Receipt || len(d.stamps) >= stampLimit {
			continue
		}
		if _, kept := d.stamps[o.Message.ID]; kept {
			continue
		}
		if d.stamps == nil {
			d.stamps = make(map[string]int64)
		}
		// The ID may be part of a row that is not to be kept with it.
		d.stamps[strings.Clone(o.Message.ID)] = o.FirstSent
	}
}

func (d *drain) keptStamp(id string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stamps[id]
}

func (d *drain) forgetStamp(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.stamps, id)
}
