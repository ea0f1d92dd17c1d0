package sqlite

import (
	"context"
	"crypto/sha256"
	"database/sql/driver"

	"github.com/oncemq/oncemq/persist"
)

// keyHash stands for an ordering key where its length must be bounded.
func keyHash(m *persist.Message) []byte {
	sum := sha256.Sum256([]byte(m.Key()))
	return sum[:16]
}

// supersede deletes what the new messages among items supersede [OUTBOX-14]. They
// are stored already, so that all but the last of a key are found as well.
func (e *enqueuer) supersede(ctx context.Context, tx *txn, items []item) error {
	newest := make(map[string]persist.Ref)
	var keys []string // in the order of their first message
	for _, it := range items {
		if !it.msg.Supersede {
			continue
		}
		key := string(keyHash(it.msg))
		if _, ok := newest[key]; !ok {
			keys = append(keys, key)
		}
		newest[key] = it.out.Ref
	}
	changes := make(map[int]laneChange)
	var gone []int64
	for _, key := range keys {
		ref := newest[key]
		change := changes[ref.Lane]
		var dest [2]driver.Value
		rows, err := tx.query(ctx, tx.q.supersede, []byte(key), ref.Position)
		err = eachRow(rows, err, dest[:], func() error {
			gone = append(gone, asInt(dest[0]))
			change.pending--
			change.superseded++
			change.bytes -= asInt(dest[1])
			return nil
		})
		if err != nil {
			return err
		}
		changes[ref.Lane] = change
	}
	for lane, change := range changes {
		if err := change.write(ctx, tx, lane); err != nil {
			return err
		}
	}
	return remember(ctx, tx, gone, persist.StateSuperseded)
}

// remember records that messages gave way [OUTBOX-15], and forgets older ones.
func remember(ctx context.Context, tx *txn, positions []int64, state persist.State) error {
	if len(positions) == 0 {
		return nil
	}
	for _, position := range positions {
		if _, err := tx.exec(ctx, tx.q.gaveWayAdd, position, int64(state)); err != nil {
			return err
		}
	}
	_, err := tx.exec(ctx, tx.q.gaveWayForget, int64(persist.RememberedFates))
	return err
}

// hand keeps the messages of a page from being superseded from now on, and takes
// those out of it that were, since the page was read. Only those that may be are
// looked at.
func (l *lane) hand(ctx context.Context, p *page) error {
	t := &handTask{call: newCall("hand out", laneName(l.number), 0), l: l}
	for i := range p.entries {
		if p.entries[i].Message.Supersede {
			t.positions = append(t.positions, p.entries[i].Position)
		}
	}
	if len(t.positions) == 0 {
		return nil
	}
	t.rows = len(t.positions)
	t.leaseOnly = true // what loses this loses the holder as well
	if err := l.s.submit(ctx, t); err != nil {
		return err
	}
	kept := p.entries[:0]
	for i := range p.entries {
		if e := &p.entries[i]; !e.Message.Supersede || t.there[e.Position] {
			kept = append(kept, *e)
		}
	}
	p.superseded = len(kept) < len(p.entries)
	p.entries = kept
	return nil
}

// handTask marks messages as handed out.
type handTask struct {
	call
	l         *lane
	positions []int64
	there     map[int64]bool
}

func (t *handTask) run(ctx context.Context, tx *txn) error {
	t.there = make(map[int64]bool, len(t.positions))
	if held, err := t.l.held(ctx, tx); err != nil {
		return err
	} else if !held {
		return t.refuse(persist.ErrLeaseLost)
	}
	list := jsonInts(t.positions)
	if _, err := tx.exec(ctx, tx.q.outboxHand, list); err != nil {
		return err
	}
	var dest [1]driver.Value
	rows, err := tx.query(ctx, tx.q.outboxThere, list)
	return eachRow(rows, err, dest[:], func() error {
		t.there[asInt(dest[0])] = true
		return nil
	})
}

// laneChange is what is added to the counters of a lane.
type laneChange struct{ pending, delivered, dropped, superseded, bytes int64 }

// left counts a message in that state, with its bytes, that leaves.
func (c *laneChange) left(state persist.State, bytes int64) {
	if state == persist.StateDelivered {
		c.delivered--
	} else {
		c.pending--
	}
	c.bytes -= bytes
}

func (c laneChange) write(ctx context.Context, tx *txn, lane int) error {
	if c == (laneChange{}) {
		return nil
	}
	_, err := tx.exec(ctx, tx.q.laneCount, int64(lane), c.pending, c.delivered, c.dropped, c.superseded, c.bytes)
	return err
}
