package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/oncemq/oncemq/persist"
)

// orderingHash stands for an ordering key where its length must be bounded.
func orderingHash(m *persist.Message) []byte {
	sum := sha256.Sum256([]byte(m.Key()))
	return sum[:16]
}

// superseding are the hashes of the keys under which the items supersede others, in
// ascending order, each once: the order in which all transactions lock them.
func (in *insertion) superseding() [][]byte {
	var keys [][]byte
	for _, it := range in.items {
		if it.skey != nil {
			keys = append(keys, it.skey)
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}

// supersede puts around steps that add what makes them supersede others
// [OUTBOX-14]: the lock of their keys before, the deletion after. The first of the
// steps stays in front: it gives the transaction its number.
func (in *insertion) supersede(steps []step) []step {
	keys := in.superseding()
	if len(keys) == 0 {
		return steps
	}
	hashes := make([]int64, len(keys))
	for i, key := range keys {
		hashes[i] = int64(binary.BigEndian.Uint64(key)) // any number will do
	}
	slices.Sort(hashes)
	q := in.s.q
	in.s.gaveWay.Store(true)
	steps = slices.Insert(steps, 1, step{stmt: q.supersedeLock, args: []any{hashes}})
	return append(steps, step{stmt: q.supersede, args: []any{keys}})
}

// freed is what the items will supersede: of what is stored, and of each other.
func (in *insertion) freed(ctx context.Context, r runner) (messages, size int64, err error) {
	keys := in.superseding()
	if len(keys) == 0 {
		return 0, 0, nil
	}
	waiting := make(map[string]int64)
	_, err = r.run(ctx, []step{{stmt: in.s.q.supersededBy, args: []any{keys}, row: func(r row) error {
		var key []byte
		var size int32
		err := r.Scan(&key, &size)
		waiting[string(key)] = int64(size)
		return err
	}}})
	for _, it := range in.items {
		if it.skey == nil {
			continue
		}
		if old, ok := waiting[string(it.skey)]; ok {
			messages++
			size += old
		}
		waiting[string(it.skey)] = int64(len(it.body))
	}
	return messages, size, err
}

// hand keeps the messages of a page from being superseded from now on, and tells
// what is left of the page. Positions that another transaction holds, and may be
// superseding, are left out and told.
func (l *lane) hand(ctx context.Context, entries []persist.Entry) (_ []persist.Entry, busy []int64, err error) {
	var positions []int64
	for i := range entries {
		if entries[i].Message.Supersede {
			positions = append(positions, entries[i].Position)
		}
	}
	if len(positions) == 0 {
		return entries, nil, nil
	}
	free := make(map[int64]bool, len(positions))
	err = l.hold(ctx, "hand out", func() []step {
		clear(free)
		return []step{{stmt: l.s.q.outboxHand, args: []any{int16(l.number), l.epoch, positions}, row: func(r row) error {
			var position int64
			err := r.Scan(&position)
			free[position] = true
			return err
		}}}
	})
	if err != nil {
		return nil, nil, err
	}
	return slices.DeleteFunc(entries, func(e persist.Entry) bool {
		if !e.Message.Supersede || free[e.Position] {
			return false
		}
		busy = append(busy, e.Position)
		return true
	}), busy, nil
}

// putBack has the next call look again at what hand has left out.
func (l *lane) putBack(busy []int64) {
	if len(busy) > 0 {
		l.returned = append(l.returned, busy...)
		slices.Sort(l.returned)
	}
}
