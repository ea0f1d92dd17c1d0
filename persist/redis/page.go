package redis

import (
	"encoding/binary"
	"slices"
	"strconv"
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
	rows := asRows(f[8])
	for at := stageReturned; at <= stageInOrder; at++ {
		for range counts[at] {
			r, err := rows.next()
			if err != nil {
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

// row is an entry of the outbox as it is stored.
type row struct {
	position, at, expires int64
	state, body           string
	due                   int64
}

// rows are entries as include/entry.lua packs them.
type rows struct {
	heads, states string
	bodies        []any
}

func asRows(answer any) *rows {
	f := asList(answer)
	return &rows{heads: asText(at(f, 0)), states: asText(at(f, 1)), bodies: asList(at(f, 2))}
}

// next is the row in front, which is taken away.
func (rs *rows) next() (r row, err error) {
	var head string
	head, rs.heads, _ = strings.Cut(rs.heads, " ")
	position, rest, _ := strings.Cut(head, "-")
	enqueued, rest, more := strings.Cut(rest, "-")
	if r.position, err = strconv.ParseInt(position, 10, 64); err != nil {
		return r, errAnswer
	}
	if r.at, err = strconv.ParseInt(enqueued, 10, 64); err != nil {
		return r, errAnswer
	}
	if more {
		expires, length, _ := strings.Cut(rest, "-")
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 || n > len(rs.states) {
			return r, errAnswer
		}
		if r.expires, err = strconv.ParseInt(expires, 10, 64); err != nil {
			return r, errAnswer
		}
		r.state, rs.states = rs.states[:n], rs.states[n:]
	}
	if len(rs.bodies) == 0 {
		return r, errAnswer
	}
	r.body, rs.bodies = asText(rs.bodies[0]), rs.bodies[1:]
	if len(r.state) >= stateHead {
		r.due = int64(uint48([]byte(r.state[6:12])))
	}
	return r, nil
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
// persist.ErrCorrupt, and the entry has all but the message.
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
