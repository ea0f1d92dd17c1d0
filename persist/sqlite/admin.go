package sqlite

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Stats counts what the store holds; see [persist.Admin]. Finding the oldest
// pending message passes over older ones that await a receipt.
func (s *Store) Stats(ctx context.Context) (persist.Stats, error) {
	var st persist.Stats
	err := s.browse(ctx, "stats", s.name, func(ctx context.Context, r runner) error {
		st = persist.Stats{Limits: s.opts.limits()}
		lanes, err := s.laneRows(ctx, r)
		if err != nil {
			return err
		}
		for i := range lanes {
			l := &lanes[i]
			st.Lanes = append(st.Lanes, l.LaneInfo)
			st.Pending += l.Pending
			st.Delivered += l.delivered
			st.Bytes += l.bytes
			st.Dropped += l.dropped
			st.Superseded += l.superseded
			if l.Pending == 0 {
				continue
			}
			below, above := laneBounds(l.Lane)
			var dest [1]driver.Value
			found, err := queryRow(ctx, r, dest[:], s.q.outboxOldest, below, above)
			if err != nil {
				return err
			}
			if found {
				age := time.Duration(s.now()-asInt(dest[0])) * time.Millisecond
				st.OldestPending = max(st.OldestPending, age)
			}
		}
		var dest [5]driver.Value
		if _, err := queryRow(ctx, r, dest[:], s.q.totals); err != nil {
			return err
		}
		st.Failed, st.Expired, st.ConsumerDead = asInt(dest[0]), asInt(dest[1]), asInt(dest[2])
		st.Completed, st.InWork = asInt(dest[3]), asInt(dest[4])
		rows, err := r.query(ctx, s.q.groupList)
		return eachRow(rows, err, dest[:1], func() error {
			st.Groups = append(st.Groups, asText(dest[0]))
			return nil
		})
	})
	return st, err
}

// ListOutbox lists entries of a lane; see [persist.Admin]. An entry whose
// message cannot be read comes with an empty message and that as its LastError.
func (s *Store) ListOutbox(ctx context.Context, req persist.ListRequest) ([]persist.Entry, error) {
	const op = "list outbox"
	if err := s.checkList(op, &req); err != nil {
		return nil, err
	}
	below, above := laneBounds(req.Lane)
	return s.entries(ctx, op, s.q.pageListed, max(below, req.After), above, stateBits(req.States), int64(req.Limit))
}

// GetOutbox returns the entries of a message ID; see [persist.Admin].
func (s *Store) GetOutbox(ctx context.Context, id string) ([]persist.Entry, error) {
	const op = "get message"
	if id == "" {
		return nil, refuse(op, s.name, persist.ErrNotFound)
	}
	all, err := s.entries(ctx, op, s.q.pageByID, []byte(id))
	if err != nil {
		return nil, err
	}
	var entries []persist.Entry
	for i := range all {
		if all[i].Message.ID == id {
			entries = append(entries, all[i])
		}
	}
	if len(entries) == 0 {
		return nil, refuse(op, s.name, persist.ErrNotFound)
	}
	return entries, nil
}

func (s *Store) entries(ctx context.Context, op string, stmt *statement, args ...any) ([]persist.Entry, error) {
	var entries []persist.Entry
	err := s.browse(ctx, op, s.name, func(ctx context.Context, r runner) error {
		entries = nil
		now := s.now()
		var dest [entryColumns]driver.Value
		rows, err := r.query(ctx, stmt, args...)
		return eachRow(rows, err, dest[:], func() error {
			e, err := entryOf(dest[:], now, 0, 0)
			if err != nil {
				e.LastError = err.Error()
			}
			entries = append(entries, e)
			return nil
		})
	})
	return entries, err
}

// PurgeOutbox deletes entries of a lane; see [persist.Admin].
func (s *Store) PurgeOutbox(ctx context.Context, req persist.ListRequest) (int, error) {
	const op = "purge outbox"
	if err := s.checkList(op, &req); err != nil {
		return 0, err
	}
	t := &purgeTask{call: newCall(op, laneName(req.Lane), req.Limit), req: req}
	err := s.submit(ctx, t)
	return -int(t.change.pending + t.change.delivered), err
}

type purgeTask struct {
	call
	req    persist.ListRequest
	change laneChange
}

func (t *purgeTask) run(ctx context.Context, tx *txn) error {
	t.change = laneChange{}
	below, above := laneBounds(t.req.Lane)
	after, bits := max(below, t.req.After), stateBits(t.req.States)
	var dest [1]driver.Value
	limited, err := queryRow(ctx, tx, dest[:], tx.q.purgeEnd, after, above, bits, int64(t.req.Limit-1))
	if err != nil {
		return err
	}
	if limited {
		above = asInt(dest[0]) + 1
	}
	for state, n := range map[persist.State]*int64{
		persist.StatePending: &t.change.pending, persist.StateDelivered: &t.change.delivered,
	} {
		if bits&(1<<state) == 0 {
			continue
		}
		if _, err := queryRow(ctx, tx, dest[:], tx.q.outboxBytes, after, above, int64(state)); err != nil {
			return err
		}
		purged, err := tx.exec(ctx, tx.q.purge, after, above, int64(state))
		if err != nil {
			return err
		}
		*n -= purged
		t.change.bytes -= asInt(dest[0])
	}
	return t.change.write(ctx, tx, t.req.Lane)
}

func (s *Store) checkList(op string, req *persist.ListRequest) error {
	if req.Lane < 0 || req.Lane >= s.lanes {
		return refuse(op, laneName(req.Lane), persist.ErrInvalid)
	}
	return s.checkLimit(op, req.Limit)
}

// stateBits are the states that can be in the outbox, each a bit.
func stateBits(states []persist.State) int64 {
	if len(states) == 0 {
		return 1<<persist.StatePending | 1<<persist.StateDelivered
	}
	bits := int64(0)
	for _, state := range states {
		if state <= persist.StateDelivered {
			bits |= 1 << state
		}
	}
	return bits
}
