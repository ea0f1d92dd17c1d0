package postgres

import (
	"context"
	"errors"
)

// Statements look the number of a group up by its name, each time. One that is
// remembered outlives a crash, or a failover, that took the group back, and may be
// another group's by then.

// addGroup numbers a group that is new, in a transaction of its own: others that add
// it would wait for the end of a longer one.
func (s *Store) addGroup(ctx context.Context, op, name string) error {
	// That the group exists without what follows does no harm, whatever becomes of
	// the call: its error is certain.
	return s.transact(ctx, op, groupName(name), reads, func() []step { return []step{s.groupAdding(name)} })
}

func (s *Store) groupAdding(name string) step {
	return step{stmt: s.q.groupAdd, args: []any{storedKey(name), []byte(name)}}
}

// errNoGroup: a group was not there after it had been added, again and again.
var errNoGroup = errors.New("the group does not stay")

func groupName(name string) string { return "group " + name }
