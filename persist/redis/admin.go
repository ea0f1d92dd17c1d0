package redis

import (
	"context"
	"slices"
	"time"

	"github.com/oncemq/oncemq/persist"
)

const (
	// listPage is how many messages one script hands over or deletes.
	listPage = 500
	// listLook is how many messages one script looks at.
	listLook = 4000
)

// Stats counts what the store holds; see [persist.Admin]. Finding the oldest
// pending message passes over some thousand older ones that await a receipt, and
// leaves OldestPending zero if there are more.
func (s *Store) Stats(ctx context.Context) (persist.Stats, error) {
	const op = "stats"
	names := []string{s.keys.totals, s.keys.groups}
	for i := range s.keys.lanes {
		l := &s.keys.lanes[i]
		names = append(names, l.hash, l.messages, l.states)
	}
	answer, err := s.do(ctx, op, s.name, s.run.stats, names)
	if err != nil {
		return persist.Stats{}, err
	}
	rows := asList(answer)
	if len(rows) != s.lanes+3 {
		return persist.Stats{}, strange(op, s.name)
	}
	now, totals := asInt(rows[0]), asList(rows[1])
	st := persist.Stats{
		Limits: s.opts.limits(),
		Failed: asInt(at(totals, 0)), Expired: asInt(at(totals, 1)), ConsumerDead: asInt(at(totals, 2)),
		Completed: asInt(at(totals, 3)), InWork: asInt(at(totals, 4)),
	}
	for _, name := range asList(rows[2]) {
		st.Groups = append(st.Groups, asText(name))
	}
	slices.Sort(st.Groups)
	for i := range s.lanes {
		f := asList(rows[i+3])
		info := laneInfo(i, f, now)
		st.Lanes = append(st.Lanes, info)
		st.Pending += info.Pending
		st.Delivered += asInt(at(f, 5))
		st.Dropped += asInt(at(f, 6))
		st.Superseded += asInt(at(f, 8))
		st.Bytes += asInt(at(f, 9))
		if oldest := asInt(at(f, 7)); oldest > 0 {
			st.OldestPending = max(st.OldestPending, time.Duration(now-oldest)*time.Millisecond)
		}
	}
	return st, nil
}

// ListOutbox lists entries of a lane; see [persist.Admin]. An entry whose
// message cannot be read comes with an empty message and that as its LastError.
func (s *Store) ListOutbox(ctx context.Context, req persist.ListRequest) ([]persist.Entry, error) {
	const op = "list outbox"
	if err := s.checkList(op, &req); err != nil {
		return nil, err
	}
	var entries []persist.Entry
	err := s.eachEntry(ctx, op, req, "", func(e persist.Entry) bool {
		entries = append(entries, e)
		return len(entries) < req.Limit
	})
	return entries, err
}

// GetOutbox returns the entries of a message ID; see [persist.Admin]. It lets the
// server search every message.
func (s *Store) GetOutbox(ctx context.Context, id string) ([]persist.Entry, error) {
	const op = "get message"
	if id == "" {
		return nil, refuse(op, s.name, persist.ErrNotFound)
	}
	var entries []persist.Entry
	for lane := range s.lanes {
		err := s.eachEntry(ctx, op, persist.ListRequest{Lane: lane, Limit: listPage}, id, func(e persist.Entry) bool {
			if e.Message.ID == id {
				entries = append(entries, e)
			}
			return true
		})
		if err != nil {
			return nil, err
		}
	}
	if len(entries) == 0 {
		return nil, refuse(op, s.name, persist.ErrNotFound)
	}
	return entries, nil
}

// eachEntry calls fn for the entries of a lane whose bytes contain needle, until
// it returns false.
func (s *Store) eachEntry(ctx context.Context, op string, req persist.ListRequest, needle string, fn func(persist.Entry) bool) error {
	pending, delivered := wanted(req.States)
	l := &s.keys.lanes[req.Lane]
	for cursor := max(req.After, 0); cursor >= 0; {
		answer, err := s.do(ctx, op, laneName(req.Lane), s.run.outboxList, []string{l.hash, l.messages, l.states},
			cursor, min(req.Limit, listPage), pending, delivered, needle, listLook)
		if err != nil {
			return err
		}
		f := asList(answer)
		if len(f) != 3 {
			return strange(op, laneName(req.Lane))
		}
		for rows := asRows(f[2]); len(rows.bodies) > 0; {
			r, err := rows.next()
			if err != nil {
				return strange(op, laneName(req.Lane))
			}
			e, err := r.entry(asInt(f[0]))
			if err != nil {
				e.LastError = err.Error()
			}
			e.Lane = req.Lane
			if !fn(e) {
				return nil
			}
		}
		cursor = asInt(f[1])
	}
	return nil
}

// PurgeOutbox deletes entries of a lane; see [persist.Admin]. It does so a few
// hundred at a time: what a call that fails has deleted stays deleted.
func (s *Store) PurgeOutbox(ctx context.Context, req persist.ListRequest) (int, error) {
	const op = "purge outbox"
	if err := s.checkList(op, &req); err != nil {
		return 0, err
	}
	pending, delivered := wanted(req.States)
	names := append(s.keys.appendLane(nil, req.Lane), s.keys.ids, s.keys.totals, s.keys.latest)
	purged := 0
	for cursor := max(req.After, 0); cursor >= 0 && purged < req.Limit; {
		answer, err := s.do(ctx, op, laneName(req.Lane), s.run.outboxPurge, names,
			req.Lane, cursor, min(req.Limit-purged, listPage), pending, delivered, listLook)
		if err != nil {
			return purged, err
		}
		f := asList(answer)
		if len(f) != 2 {
			return purged, strange(op, laneName(req.Lane))
		}
		purged += int(asInt(f[0]))
		cursor = asInt(f[1])
	}
	return purged, nil
}

func (s *Store) checkList(op string, req *persist.ListRequest) error {
	if req.Lane < 0 || req.Lane >= s.lanes {
		return refuse(op, laneName(req.Lane), persist.ErrInvalid)
	}
	return s.checkLimit(op, req.Limit)
}

// wanted tells which of the states that can be in the outbox are meant.
func wanted(states []persist.State) (pending, delivered bool) {
	if len(states) == 0 {
		return true, true
	}
	return slices.Contains(states, persist.StatePending), slices.Contains(states, persist.StateDelivered)
}
