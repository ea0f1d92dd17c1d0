package redis

import (
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// page gathers the entries of one Next.
type page struct {
	limit, maxBytes int
	cursors

	entries []persist.Entry
	corrupt []corruptEntry
	overdue []int64 // of entries: those whose receipt did not come in time
	plain   []plainRow
	bytes   int
	seen    int   // rows that were taken
	now     int64 // when the last of them were read
}

// corruptEntry is a stored message that cannot be read.
type corruptEntry struct {
	position int64
	err      error
}

// plainRow is a message of which nothing is kept beside it.
type plainRow struct{ position, bytes int64 }

// The stages of reading, see next.lua.
const (
	stageReturned = iota + 1
	stageLate
	stageInOrder
	stageEnd
)

// mostReturned bounds how many returned messages one script is asked for.
const mostReturned = 1000

func (p *page) args(l *lane) []any {
	chosen := p.returned[:min(len(p.returned), p.limit-p.seen, mostReturned)]
	args := append(l.lease(5+len(chosen)), p.cursor, p.lateDue, p.latePosition, p.limit-p.seen, p.maxBytes-p.bytes)
	return numbers(args, chosen)
}

// read takes what next.lua answered, and tells whether there may be more for
// this page. The script stops at the bytes of encoded messages, the page at those
// of payloads: so the script may have read one message too many, or stop when
// there is room yet.
func (p *page) read(f []any) (more bool, err error) {
	if len(f) != 9 {
		return false, errAnswer
	}
	now, stage := asInt(f[1]), int(asInt(f[3]))
	p.now = now
	counts := [4]int64{0, asInt(f[5]), asInt(f[6]), asInt(f[7])}
	unasked := p.returned[min(len(p.returned), p.limit-p.seen, mostReturned):]
	rows := asText(f[8])
	for at := stageReturned; at <= stageInOrder; at++ {
		for range counts[at] {
			var r row
			if r, rows, err = cutRow(rows); err != nil {
				return false, err
			}
			if !p.take(r, now) {
				return false, nil
			}
			p.passed(at, r)
		}
		if at == stage {
			break
		}
		switch at {
		case stageReturned: // the others that were asked for are gone
			p.returned = unasked
			if len(p.returned) > 0 && p.seen < p.limit {
				// More were returned than one script takes.
				return true, nil
			}
		case stageLate:
			p.lateDue, p.latePosition = now, latest
		}
	}
	if stage >= stageInOrder {
		p.cursor = asInt(f[4])
	}
	return stage != stageEnd && p.seen < p.limit, nil
}

// passed moves the cursors past a row.
func (p *page) passed(stage int, r row) {
	switch stage {
	case stageReturned:
		i, found := slices.BinarySearch(p.returned, r.position)
		if found {
			i++
		}
		p.returned = p.returned[i:]
	case stageLate:
		p.lateDue, p.latePosition = r.due, r.position
	case stageInOrder:
		p.cursor = r.position
	}
}

// take adds a row, unless it is too large to go with those before it.
func (p *page) take(r row, now int64) bool {
	e, err := r.entry(now)
	if err != nil {
		p.corrupt = append(p.corrupt, corruptEntry{r.position, err})
		p.seen++
		return true
	}
	if len(p.entries) > 0 && p.bytes+len(e.Message.Payload) > p.maxBytes {
		return false
	}
	if p.entries == nil {
		p.entries = make([]persist.Entry, 0, min(p.limit, maxPrealloc))
	}
	if e.State == persist.StateDelivered { // see lane.resend
		p.overdue = append(p.overdue, r.position)
		e.State = persist.StatePending
		e.Attempts++
	}
	if r.state == "" {
		p.plain = append(p.plain, plainRow{r.position, int64(len(r.body))})
	}
	p.entries = append(p.entries, e)
	p.bytes += len(e.Message.Payload)
	p.seen++
	return true
}

// maxPrealloc is how many entries are allocated ahead.
const maxPrealloc = 1024

// row is an entry as include/entry.lua packs it.
type row struct {
	position, at, expires int64
	state, body           string
	due                   int64
}

const rowHead = 6 + 6 + 6 + 4 + 4

// cutRow reads the row in front.
func cutRow(rows string) (r row, rest string, err error) {
	if len(rows) < rowHead {
		return r, "", errAnswer
	}
	head := []byte(rows[:rowHead])
	r.position, r.at, r.expires = int64(uint48(head)), int64(uint48(head[6:])), int64(uint48(head[12:]))
	state, body := int(binary.BigEndian.Uint32(head[18:])), int(binary.BigEndian.Uint32(head[22:]))
	rows = rows[rowHead:]
	if len(rows) < state+body {
		return r, "", errAnswer
	}
	r.state, r.body, rest = rows[:state], rows[state:state+body], rows[state+body:]
	if len(r.state) >= stateHead {
		r.due = int64(uint48([]byte(r.state[6:12])))
	}
	return r, rest, nil
}

// stateHead is the length of a state's fixed part, see include/state.lua.
const stateHead = 13

// errorsHead is the length of the fixed part of what a state tells of refusals.
const errorsHead = 16

// keyHashSize is the length of the hash of an ordering key.
const keyHashSize = 16

// stateDelivered is the flag of a state.
const stateDelivered = 8

// entry decodes a row. If the message cannot be read the error wraps
// persist.ErrCorrupt, and the entry has all but the message. The message is a
// copy, so that it does not keep the page.
func (r row) entry(now int64) (persist.Entry, error) {
	e := persist.Entry{EnqueuedAt: time.UnixMilli(r.at)}
	e.Position = r.position
	if len(r.state) >= stateHead {
		head := []byte(r.state[:stateHead])
		if head[0]&stateDelivered != 0 {
			e.State = persist.StateDelivered
		}
		e.Attempts = int(binary.BigEndian.Uint32(head[1:]))
		errors := stateHead + int(head[12])
		if head[0]&storeSupersede != 0 {
			errors += keyHashSize
		}
		if errors+errorsHead <= len(r.state) {
			first := int(binary.BigEndian.Uint32([]byte(r.state[errors+12 : errors+errorsHead])))
			e.LastError = strings.Clone(r.state[min(errors+errorsHead+first, len(r.state)):])
		}
	}
	m, err := wire.DecodeMessage([]byte(r.body))
	if err != nil {
		return e, err
	}
	e.Message = m
	if r.expires != 0 {
		e.Message.Expiry = left(r.expires, now)
	}
	return e, nil
}

// left is what is left of an expiry. It is never zero, which would mean for
// ever.
func left(expires, now int64) time.Duration {
	if expires == now {
		return -time.Millisecond
	}
	return time.Duration(expires-now) * time.Millisecond
}
