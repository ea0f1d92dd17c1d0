package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// uncompletedFor is how long after its lease a key that nobody completed is
// remembered: it carries the attempts, which count across redeliveries.
const uncompletedFor = 24 * time.Hour

// The parts of a sweep, in their order.
const (
	sweepOfProcessed = 0
	sweepOfClaims    = 1
	sweepEnd         = 2
)

// ExpireProcessed forgets keys; see [persist.Processed]. It goes through the
// completed keys and then through the claims, each in the order of the primary
// key, so that the times need no index. The place where it stopped is kept in the
// store, so that short-lived processes get round as well. Of two processes that
// sweep at the same moment one does nothing. Keys that a transaction has in work are
// left for the next round. A sweep waits for the claims under way, but no longer
// than a second, nor than a quarter of the time that ctx leaves: then it does nothing.
func (s *Store) ExpireProcessed(ctx context.Context, limit int) (int, error) {
	const op = "expire keys"
	if limit <= 0 {
		return 0, invalid(op, s.name, fmt.Errorf("limit is %d, must be positive", limit))
	}
	if err := s.enter(op); err != nil {
		return 0, err
	}
	defer s.leave()
	forgotten := 0
	err := s.inTx(ctx, op, s.name, func(ctx context.Context, tx pgx.Tx) (err error) {
		forgotten, err = s.sweep(ctx, pgxRunner{tx}, int64(limit))
		return err
	})
	switch {
	case codeOf(err) == codeLockTimeout:
		return 0, nil // another time
	case err != nil:
		return 0, err
	}
	return forgotten, nil
}

// sweepPatience is how long a sweep waits for the claims under way. Who has little time
// wants to know whether the store answers, and it does.
func sweepPatience(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return forgetPatience
	}
	// Zero would be no limit.
	return max(min(forgetPatience, time.Until(deadline)/4), time.Millisecond)
}

// place is how far a sweep has come.
type place struct {
	part  int16
	group int32
	key   []byte
}

func (s *Store) sweep(ctx context.Context, r runner, limit int64) (int, error) {
	q := s.q
	var at place
	found := false
	_, err := r.run(ctx, []step{
		{stmt: q.steer},
		{stmt: q.deadCountsCompact},
		{stmt: q.sweepFrom, row: func(r row) error {
			found = true
			return r.Scan(&at.part, &at.group, &at.key)
		}},
	})
	if err != nil || !found {
		return 0, err
	}
	if _, err := r.run(ctx, s.forgetting(sweepPatience(ctx))); err != nil {
		return 0, err
	}
	forgotten := int64(0)
	for limit > 0 && at.part < sweepEnd {
		stmt, args := q.sweepProcessed, []any{at.group, at.key, limit}
		if at.part == sweepOfClaims {
			stmt, args = q.sweepClaims, append(args, uncompletedFor.Milliseconds())
		}
		var seen, gone int64
		var group *int32
		var key []byte
		_, err := r.run(ctx, []step{{stmt: stmt, args: args, row: func(r row) error {
			return r.Scan(&seen, &group, &key, &gone)
		}}})
		if err != nil {
			return 0, err
		}
		forgotten += gone
		if seen < limit {
			at = place{part: at.part + 1, key: []byte{}}
		} else {
			at.group, at.key = *group, key
		}
		limit -= seen
	}
	if at.part == sweepEnd {
		at = place{part: sweepOfProcessed, key: []byte{}}
	}
	_, err = r.run(ctx, []step{{stmt: q.sweepSave, args: []any{at.part, at.group, at.key}}})
	return int(forgotten), err
}
