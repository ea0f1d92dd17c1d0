package sqlite

import (
	"database/sql/driver"
	"errors"
	"time"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// page gathers entries.
type page struct {
	now             int64
	limit, maxBytes int
	// from and fromTime are added to the position and the time of rows.
	from, fromTime int64

	entries []persist.Entry
	corrupt []corruptEntry
	overdue []int64 // of entries: those whose receipt did not come in time
	bytes   int
	// seen counts the rows that were taken; last and lastDue are of the latest.
	seen          int
	last, lastDue int64
	// full tells that a row was left because of maxBytes, superseded that an entry
	// was taken out.
	full, superseded bool
}

// corruptEntry is a stored message that cannot be read.
type corruptEntry struct {
	position int64
	err      error
}

// maxPrealloc is how many entries are allocated ahead.
const maxPrealloc = 1024

// errPageFull ends the reading of a page.
var errPageFull = errors.New("page is full")

// room is how many more rows the page takes.
func (p *page) room() int { return p.limit - p.seen }

// read takes rows until they end or the page is full, and closes them.
func (p *page) read(rows driver.Rows, err error) error {
	var dest [entryColumns]driver.Value
	err = eachRow(rows, err, dest[:], func() error {
		e, err := entryOf(dest[:], p.now, p.from, p.fromTime)
		if err != nil {
			p.corrupt = append(p.corrupt, corruptEntry{e.Position, err})
			p.seen++
			p.last, p.lastDue = e.Position, asInt(dest[2])
			return nil //nolint:nilerr // it is in the page
		}
		if !p.take(e, asInt(dest[2])) {
			return errPageFull
		}
		return nil
	})
	if errors.Is(err, errPageFull) {
		err = nil
	}
	return err
}

// take adds an entry, unless it is too large to go with those before it.
func (p *page) take(e persist.Entry, due int64) bool {
	if len(p.entries) > 0 && p.bytes+len(e.Message.Payload) > p.maxBytes {
		p.full = true
		return false
	}
	if e.State == persist.StateDelivered { // see resend
		p.overdue = append(p.overdue, e.Position)
		e.State = persist.StatePending
		e.Attempts++
	}
	p.entries = append(p.entries, e)
	p.bytes += len(e.Message.Payload)
	p.seen++
	p.last, p.lastDue = e.Position, due
	return true
}

// entryColumns is the number of columns of an entry in the page statements.
const entryColumns = 8

// entryOf makes an entry of its columns, in which the position counts from from
// and the time from fromTime. If the message cannot be read the error wraps
// persist.ErrCorrupt, and the entry has all but the message.
func entryOf(dest []driver.Value, now, from, fromTime int64) (persist.Entry, error) {
	e := persist.Entry{
		State:      persist.State(asInt(dest[1])),
		EnqueuedAt: time.UnixMilli(fromTime + asInt(dest[4])),
		Attempts:   int(asInt(dest[5])),
		LastError:  asText(dest[6]),
	}
	e.Position = from + asInt(dest[0])
	e.Lane = laneOfPosition(e.Position)
	body, _ := dest[7].([]byte)
	m, err := wire.DecodeMessage(body)
	if err != nil {
		return e, err
	}
	e.Message = m
	if expires, ok := dest[3].(int64); ok {
		e.Message.Expiry = left(expires, now)
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
