package sqlite

import (
	"context"
	"database/sql/driver"
)

// group is the number of a group. A group that is new is numbered in a
// transaction of its own, so that a number is known here only once it is
// committed; from then on it is not asked for again.
func (s *Store) group(ctx context.Context, op, name string) (int64, error) {
	if id, ok := s.groups.Load(name); ok {
		return id.(int64), nil
	}
	t := &groupTask{call: newCall(op, groupName(name), 1), name: name}
	t.leaseOnly = true
	if err := s.submit(ctx, t); err != nil {
		return 0, err
	}
	s.groups.Store(name, t.id)
	return t.id, nil
}

type groupTask struct {
	call
	name string
	id   int64
}

func (t *groupTask) run(ctx context.Context, tx *txn) (err error) {
	t.id, err = addGroup(ctx, tx, t.name)
	return err
}

// addGroup is the number of a group, which is new perhaps.
func addGroup(ctx context.Context, tx *txn, name string) (int64, error) {
	if _, err := tx.exec(ctx, tx.q.groupAdd, name); err != nil {
		return 0, err
	}
	var dest [1]driver.Value
	_, err := queryRow(ctx, tx, dest[:], tx.q.groupGet, name)
	return asInt(dest[0]), err
}

func groupName(name string) string { return "group " + name }
