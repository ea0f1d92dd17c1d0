package memory

import (
	"context"
	"maps"
	"slices"
	"time"
)

// AnnounceRelay implements persist.Outbox.
func (s *Store) AnnounceRelay(ctx context.Context, owner string, ttl time.Duration) ([]string, error) {
	const op = "announce relay"
	if owner == "" || ttl < 0 {
		return nil, refuse(op, owner, "a name is needed, and a ttl that is not negative")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, op, owner); err != nil {
		return nil, err
	}
	now := s.now()
	maps.DeleteFunc(s.relays, func(_ string, until int64) bool { return until <= now })
	if ttl > 0 {
		s.relays[owner] = now + millis(ttl)
	} else {
		delete(s.relays, owner)
	}
	return slices.Sorted(maps.Keys(s.relays)), nil
}
