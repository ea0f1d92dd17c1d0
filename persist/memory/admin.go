package memory

import (
	"context"
	"maps"
	"slices"

	"github.com/oncemq/oncemq/persist"
)

// Stats implements persist.Admin.
func (s *Store) Stats(ctx context.Context) (persist.Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "stats", ""); err != nil {
		return persist.Stats{}, err
	}
	now := s.now()
	stats := persist.Stats{
		Failed:       s.deadLetters.failed,
		Expired:      s.deadLetters.expired,
		ConsumerDead: s.deadLetters.consumer,
		Bytes:        s.bytes,
		Limits:       s.limits,
		Dropped:      s.dropped,
		Superseded:   s.superseded,
		Completed:    s.marks.count[completed],
		InWork:       s.marks.count[inWork],
		Groups:       slices.Sorted(maps.Keys(s.marks.groups)),
		Lanes:        s.laneInfos(),
	}
	for _, l := range s.lanes {
		stats.Pending += l.pending
		stats.Delivered += l.delivered
		if e := l.oldestPending(); e != nil {
			stats.OldestPending = max(stats.OldestPending, duration(now-e.enqueuedAt))
		}
	}
	return stats, nil
}

// ListOutbox implements persist.Admin.
func (s *Store) ListOutbox(ctx context.Context, req persist.ListRequest) ([]persist.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chosen, err := s.choose(ctx, "list", req)
	if err != nil {
		return nil, err
	}
	return s.export(chosen), nil
}

// GetOutbox implements persist.Admin.
func (s *Store) GetOutbox(ctx context.Context, id string) ([]persist.Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "get", "message "+id); err != nil {
		return nil, err
	}
	var found []*entry
	for _, l := range s.lanes {
		for _, e := range l.entries.after(0) {
			if e.message.ID == id {
				found = append(found, e)
			}
		}
	}
	if len(found) == 0 {
		return nil, fail("get", "message "+id, persist.ErrNotFound)
	}
	return s.export(found), nil
}

// PurgeOutbox implements persist.Admin.
func (s *Store) PurgeOutbox(ctx context.Context, req persist.ListRequest) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chosen, err := s.choose(ctx, "purge", req)
	if err != nil {
		return 0, err
	}
	for _, e := range chosen {
		s.remove(e)
	}
	return len(chosen), nil
}

// choose returns the entries that a request selects. The caller holds s.mu.
func (s *Store) choose(ctx context.Context, op string, req persist.ListRequest) ([]*entry, error) {
	object := laneName(req.Lane)
	if err := s.begin(ctx, op, object); err != nil {
		return nil, err
	}
	if req.Lane < 0 || req.Lane >= len(s.lanes) {
		return nil, refuse(op, object, "lanes are numbered from 0 to %d", len(s.lanes)-1)
	}
	if req.Limit <= 0 {
		return nil, refuse(op, object, "the limit is %d; it must be positive", req.Limit)
	}
	var chosen []*entry
	for _, e := range s.lanes[req.Lane].entries.after(req.After) {
		if len(req.States) > 0 && !slices.Contains(req.States, e.state) {
			continue
		}
		if chosen = append(chosen, e); len(chosen) == req.Limit {
			break
		}
	}
	return chosen, nil
}

// export is the entries as others see them.
func (s *Store) export(entries []*entry) []persist.Entry {
	now := s.now()
	out := make([]persist.Entry, len(entries))
	for i, e := range entries {
		out[i] = e.export(now)
	}
	return out
}
