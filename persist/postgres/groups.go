package postgres

import "context"

// group is the number of a group. A group that is new is numbered in a transaction
// of its own, so that a number is known here only once it is committed; from then
// on it is not asked for again.
func (s *Store) group(ctx context.Context, op, name string) (int32, error) {
	if id, ok := s.groups.Load(name); ok {
		return id.(int32), nil
	}
	id, found := int32(0), false
	get := step{stmt: s.q.groupGet, args: []any{storedKey(name)}, row: func(r row) error {
		found = true
		return r.Scan(&id)
	}}
	err := s.transact(ctx, op, groupName(name), reads, func() []step { return []step{get} })
	if err == nil && !found {
		// That the group exists without what follows does no harm, whatever becomes
		// of the call: its error is certain.
		err = s.transact(ctx, op, groupName(name), reads, func() []step {
			return []step{{stmt: s.q.groupAdd, args: []any{storedKey(name), []byte(name)}}, get}
		})
	}
	if err != nil {
		return 0, err
	}
	s.groups.Store(name, id)
	return id, nil
}

func groupName(name string) string { return "group " + name }
