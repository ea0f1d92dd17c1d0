package postgres

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// countExactly is up to how many processed keys Stats counts; of more it tells the
// server's own estimate.
const countExactly = 100_000

// Stats counts what the store holds; see [persist.Admin]. Finding the oldest
// pending message passes over older ones that await a receipt.
func (s *Store) Stats(ctx context.Context) (persist.Stats, error) {
	var st persist.Stats
	var lanes []laneRow
	var oldest *int64
	first, last := make([]int64, s.lanes), make([]int64, s.lanes)
	for lane := range first {
		below, above := laneBounds(lane)
		first[lane], last[lane] = below+1, above-1
	}
	err := s.do(ctx, "stats", s.name, reads, func() []step {
		lanes, st.Groups = nil, nil
		st.Limits = s.opts.limits()
		return []step{
			{stmt: s.q.steer},
			s.listLanes(&lanes),
			{stmt: s.q.outboxOldest, args: []any{first, last}, row: func(r row) error { return r.Scan(&oldest) }},
			{stmt: s.q.deadCounts, row: func(r row) error { return r.Scan(&st.Failed, &st.Expired, &st.ConsumerDead) }},
			{stmt: s.q.processedCount, args: []any{int64(countExactly)}, row: func(r row) error {
				return r.Scan(&st.Completed, &st.InWork)
			}},
			{stmt: s.q.groupList, row: func(r row) error {
				var name []byte
				if err := r.Scan(&name); err != nil {
					return err
				}
				st.Groups = append(st.Groups, string(name))
				return nil
			}},
		}
	})
	if err != nil {
		return persist.Stats{}, err
	}
	for i := range lanes {
		l := &lanes[i]
		st.Lanes = append(st.Lanes, l.LaneInfo)
		st.Pending += l.Pending
		st.Delivered += l.delivered
		st.Bytes += l.bytes
		st.Dropped += l.dropped
		st.Superseded += l.superseded
	}
	if oldest != nil {
		st.OldestPending = max(time.Duration(*oldest)*time.Millisecond, 0)
	}
	return st, nil
}

// ListOutbox lists entries of a lane; see [persist.Admin]. An entry whose message
// cannot be read comes with an empty message and that as its LastError.
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
	err := s.do(ctx, op, s.name, reads, func() []step {
		entries = nil
		return []step{{stmt: s.q.steer}, {stmt: stmt, args: args, row: func(r row) error {
			var now int64
			st, err := scanStored(r, 0, &now)
			if st.bad != nil {
				st.entry.LastError = st.bad.Error()
			}
			entries = append(entries, st.entry)
			return err
		}}}
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// PurgeOutbox deletes entries of a lane; see [persist.Admin].
func (s *Store) PurgeOutbox(ctx context.Context, req persist.ListRequest) (int, error) {
	const op = "purge outbox"
	if err := s.checkList(op, &req); err != nil {
		return 0, err
	}
	below, above := laneBounds(req.Lane)
	var purged int64
	err := s.do(ctx, op, laneName(req.Lane), writes, func() []step {
		args := []any{max(below, req.After), above, stateBits(req.States), int64(req.Limit)}
		return []step{{stmt: s.q.steer}, {stmt: s.q.purge, args: args, row: func(r row) error { return r.Scan(&purged) }}}
	})
	if err != nil {
		return 0, err
	}
	return int(purged), nil
}

func (s *Store) checkList(op string, req *persist.ListRequest) error {
	if req.Lane < 0 || req.Lane >= s.lanes {
		return refuse(op, laneName(req.Lane), persist.ErrInvalid)
	}
	return s.checkLimit(op, req.Limit)
}

// stateBits are the states that can be in the outbox, each a bit.
func stateBits(states []persist.State) int32 {
	if len(states) == 0 {
		return 1<<persist.StatePending | 1<<persist.StateDelivered
	}
	bits := int32(0)
	for _, state := range states {
		if state <= persist.StateDelivered {
			bits |= 1 << state
		}
	}
	return bits
}
