package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// AnnounceRelay keeps owner among the live relays; see [persist.Outbox].
func (s *Store) AnnounceRelay(ctx context.Context, owner string, ttl time.Duration) ([]string, error) {
	const op = "announce relay"
	if owner == "" || ttl < 0 {
		return nil, &persist.Error{
			Op: op, Object: owner, Kind: persist.ErrInvalid,
			Err: errors.New("a name is needed, and a ttl that is not negative"),
		}
	}
	t := &announceTask{call: newCall(op, owner, 1), owner: owner, ttl: ttl}
	t.leaseOnly = true
	if err := s.submit(ctx, t); err != nil {
		return nil, err
	}
	return t.live, nil
}

type announceTask struct {
	call
	owner string
	ttl   time.Duration
	live  []string
}

func (t *announceTask) run(ctx context.Context, tx *txn) error {
	t.live = nil
	var gone any
	if t.ttl == 0 {
		gone = t.owner
	}
	if _, err := tx.exec(ctx, tx.q.relayDelete, gone, tx.now); err != nil {
		return err
	}
	if t.ttl > 0 {
		if _, err := tx.exec(ctx, tx.q.relayPut, t.owner, tx.now+millis(t.ttl)); err != nil {
			return err
		}
	}
	var dest [1]driver.Value
	rows, err := tx.query(ctx, tx.q.relayList, tx.now)
	return eachRow(rows, err, dest[:], func() error {
		t.live = append(t.live, asText(dest[0]))
		return nil
	})
}
