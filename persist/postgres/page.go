package postgres

import (
	"math"
	"slices"
	"time"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// corruptEntry is a stored message that cannot be read.
type corruptEntry struct {
	position int64
	err      error
}

// stored is a row of the outbox.
type stored struct {
	entry persist.Entry
	due   *int64
	bad   error // why the message cannot be read
}

// reading is one page on its way from the server. All statements are sent at once,
// so that each is asked for a whole page, of which what comes first is taken.
type reading struct {
	l               *lane
	limit, maxBytes int

	held  bool
	now   int64
	xmin  int64
	xid   int64
	last  int64
	locks []string // who may have inserted; nil: nobody looked
	asked bool     // for the places after the cursor

	chosen                       []int64 // what was returned, as far as it was asked for
	returned, filled, late, page []stored

	cursors // as they will be
	entries []persist.Entry
	corrupt []corruptEntry
	overdue []int64 // of entries: those whose receipt did not come in time
	bytes   int
	seen    int
	full    bool // a row was left because of maxBytes
}

func (l *lane) read(limit, maxBytes int) *reading {
	rd := &reading{l: l, limit: limit, maxBytes: maxBytes, cursors: l.cursors}
	rd.gaps = l.gaps.clone()
	return rd
}

// steps are the statements of the page. They are given the limit of rows and of
// bytes each, and read one row more than fits, to know that it is there.
func (rd *reading) steps() []step {
	l, q := rd.l, rd.l.s.q
	limit, maxBytes := int64(rd.limit), int64(rd.maxBytes)
	steps := make([]step, 0, 6)
	steps = append(steps, step{stmt: q.steer}, step{
		stmt: q.laneView, args: []any{int16(l.number), l.lateDue, l.gaps.wantsMark(), l.gaps.wantsWatch()},
		row: func(r row) error {
			var holder int64
			if err := r.Scan(&holder, &rd.now, &rd.xmin, &rd.xid, &rd.last, &rd.locks); err != nil {
				return err
			}
			rd.held = holder == l.epoch
			return nil
		},
	})
	if len(l.returned) > 0 {
		rd.chosen = l.returned[:min(rd.limit, len(l.returned))]
		steps = append(steps, step{stmt: q.pageChosen, args: []any{rd.chosen, maxBytes}, row: rd.into(&rd.returned)})
	}
	if l.cursor > l.below {
		steps = append(steps, step{
			stmt: q.pageLate, args: []any{l.lateDue, l.latePosition, l.below + 1, l.cursor, limit, maxBytes}, row: rd.into(&rd.late),
		})
	}
	if !l.gaps.full() {
		rd.asked = true
		steps = append(steps, step{
			stmt: q.pageInOrder, args: []any{l.cursor, l.above - 1, limit, maxBytes}, row: rd.into(&rd.page),
		})
	}
	if len(l.gaps.list) > 0 {
		// After the page and with each page: a caller may have committed a message
		// into a gap and then another one. Whoever sees the second in the page sees
		// the first in the gap, which is handed out before.
		first, last := l.gaps.bounds()
		steps = append(steps, step{
			stmt: q.pageGaps, args: []any{first, last, l.lateDue, l.latePosition, limit, maxBytes}, row: rd.into(&rd.filled),
		})
	}
	return steps
}

// into reads rows into a list.
func (rd *reading) into(list *[]stored) func(r row) error {
	return func(r row) error {
		st, err := scanStored(r, rd.now)
		*list = append(*list, st)
		return err
	}
}

// scanStored reads the columns of an entry, and whatever comes after them.
func scanStored(r row, now int64, more ...any) (st stored, err error) {
	var position, enqueuedAt int64
	var expires *int64
	var state int16
	var attempts int32
	var lastError, body []byte
	dest := append([]any{&position, &state, &st.due, &expires, &enqueuedAt, &attempts, &lastError, &body}, more...)
	if err := r.Scan(dest...); err != nil {
		return st, err
	}
	if len(more) > 0 {
		now = *more[0].(*int64)
	}
	e := &st.entry
	e.Ref = persist.Ref{Lane: laneOfPosition(position), Position: position}
	e.State, e.EnqueuedAt = persist.State(state), time.UnixMilli(enqueuedAt)
	e.Attempts, e.LastError = int(attempts), string(lastError)
	if e.Message, st.bad = wire.DecodeMessage(body); st.bad == nil && expires != nil {
		e.Message.Expiry = left(*expires, now)
	}
	return st, nil
}

// left is what is left of an expiry. It is never zero, which would mean for ever.
func left(expires, now int64) time.Duration {
	if expires == now {
		return -time.Millisecond
	}
	return time.Duration(expires-now) * time.Millisecond
}

// finish makes the page of what was read, in the order: what was returned, what
// became visible late, what became due late, what comes next in its place. It
// returns the cursors as they are then.
func (rd *reading) finish() cursors {
	rd.gaps.watch(rd.locks)
	rd.gaps.observe(rd.xmin, rd.xid, rd.last)
	rd.takeReturned()
	rd.takeFilled()
	if !rd.stuffed() {
		rd.takeLate()
	}
	if !rd.stuffed() {
		rd.takePage()
	}
	return rd.cursors
}

// stuffed tells whether the page takes no more.
func (rd *reading) stuffed() bool { return rd.full || rd.seen >= rd.limit }

// take adds a row, unless the page is full.
func (rd *reading) take(st *stored) bool {
	if rd.stuffed() {
		return false
	}
	if st.bad != nil {
		rd.corrupt = append(rd.corrupt, corruptEntry{st.entry.Position, st.bad})
		rd.seen++
		return true
	}
	e := st.entry
	if len(rd.entries) > 0 && rd.bytes+len(e.Message.Payload) > rd.maxBytes {
		rd.full = true
		return false
	}
	if e.State == persist.StateDelivered { // see resend
		rd.overdue = append(rd.overdue, e.Position)
		e.State = persist.StatePending
		e.Attempts++
	}
	if rd.entries == nil {
		rd.entries = make([]persist.Entry, 0, len(rd.returned)+len(rd.filled)+len(rd.late)+len(rd.page))
	}
	rd.entries = append(rd.entries, e)
	rd.bytes += len(e.Message.Payload)
	rd.seen++
	return true
}

// cut tells whether the server may have left rows out because of their bytes: it
// does so after a row with which there are more of them than are wanted.
func (rd *reading) cut(list []stored) bool {
	bytes := 0
	for i := range list {
		if list[i].bad != nil {
			return true // how many bytes it has is not known here
		}
		bytes += len(list[i].entry.Message.Payload)
	}
	return bytes > rd.maxBytes
}

func (rd *reading) takeReturned() {
	done := len(rd.chosen)
	for i := range rd.returned {
		if !rd.take(&rd.returned[i]) {
			done, _ = slices.BinarySearch(rd.chosen, rd.returned[i].entry.Position)
			break
		}
	}
	if done == len(rd.chosen) && rd.cut(rd.returned) {
		rd.full = true
		done, _ = slices.BinarySearch(rd.chosen, rd.returned[len(rd.returned)-1].entry.Position+1)
	}
	// Those that were asked for and did not come are gone.
	rd.cursors.returned = slices.Clone(rd.cursors.returned[done:])
}

func (rd *reading) takeFilled() {
	for i := range rd.filled {
		st := &rd.filled[i]
		if rd.take(st) {
			rd.gaps.take(st.entry.Position)
			continue
		}
		return // next time again
	}
	switch {
	case rd.cut(rd.filled):
		rd.full = true
	case len(rd.filled) < rd.limit:
		rd.gaps.settle()
	}
}

func (rd *reading) takeLate() {
	for i := range rd.late {
		st := &rd.late[i]
		if !rd.take(st) {
			return
		}
		rd.gaps.take(st.entry.Position)
		rd.lateDue, rd.latePosition = *st.due, st.entry.Position
	}
	switch {
	case rd.cut(rd.late):
		rd.full = true
	case len(rd.late) < rd.limit:
		rd.lateDue, rd.latePosition = rd.now, math.MaxInt64
	}
}

func (rd *reading) takePage() {
	if !rd.asked {
		return
	}
	for i := range rd.page {
		st := &rd.page[i]
		if !rd.take(st) {
			return
		}
		rd.gaps.add(rd.cursor, st.entry.Position)
		rd.cursor = st.entry.Position
	}
	switch {
	case rd.cut(rd.page):
		rd.full = true
	case len(rd.page) < rd.limit && rd.last > rd.cursor:
		// What is not there up to the last position is not due, or not visible yet.
		rd.gaps.add(rd.cursor, rd.last+1)
		rd.cursor = rd.last
	}
}
