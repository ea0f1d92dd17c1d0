package postgres

import (
	"context"
	"errors"
	"slices"
	"time"
)

// AnnounceRelay keeps owner among the live relays; see [persist.Outbox].
func (s *Store) AnnounceRelay(ctx context.Context, owner string, ttl time.Duration) ([]string, error) {
	const op = "announce relay"
	if owner == "" || ttl < 0 {
		return nil, invalid(op, owner, errors.New("a name is needed, and a ttl that is not negative"))
	}
	var live []string
	err := s.do(ctx, op, owner, writes, func() []step {
		live = nil
		var gone []byte
		var steps []step
		if ttl == 0 {
			gone = storedKey(owner)
		} else {
			steps = append(steps, step{stmt: s.q.relayPut, args: []any{storedKey(owner), []byte(owner), millis(ttl)}})
		}
		return append(steps, step{stmt: s.q.relayDelete, args: []any{gone}}, step{stmt: s.q.relayList, row: func(r row) error {
			var name []byte
			err := r.Scan(&name)
			live = append(live, string(name))
			return err
		}})
	})
	if err != nil {
		return nil, err
	}
	slices.Sort(live)
	return live, nil
}
