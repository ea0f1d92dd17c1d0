package sqlite

import "context"

// The states of a processed key, as they are stored.
const (
	keyAbsent    = -1 // there is no row
	keyInWork    = 0
	keyCompleted = 1
	keyReleased  = 2
	keyDead      = 3 // completed, with a dead letter
)

// keyCounts is by how much a transaction changes the numbers of processed keys. They
// are written once at its end: a trigger, which would do so with each row, makes a
// claim and its completion take half as long again.
type keyCounts struct{ completed, inWork int64 }

func (k *keyCounts) add(state, n int64) {
	switch state {
	case keyInWork:
		k.inWork += n
	case keyCompleted, keyDead:
		k.completed += n
	}
}

// moved counts n keys that went from one state to another.
func (k *keyCounts) moved(from, to, n int64) {
	k.add(from, -n)
	k.add(to, n)
}

// write is the last thing that a transaction does.
func (k *keyCounts) write(ctx context.Context, tx *txn) error {
	if *k == (keyCounts{}) {
		return nil
	}
	_, err := tx.exec(ctx, tx.q.keysCount, k.completed, k.inWork)
	return err
}
