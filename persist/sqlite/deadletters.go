package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// retryPage is how many letters RetryDeadLetters reads at a time.
const retryPage = 500

// AddDeadLetters stores letters; see [persist.DeadLetters].
func (s *Store) AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error {
	const op = "add dead letters"
	for i := range letters {
		if err := checkLetter(&letters[i]); err != nil {
			return &persist.Error{Op: op, Object: fmt.Sprintf("letter %d", i), Kind: persist.ErrInvalid, Err: err}
		}
	}
	if len(letters) == 0 {
		return nil
	}
	return s.submit(ctx, &addLettersTask{call: newCall(op, s.name, len(letters)), letters: letters})
}

func checkLetter(d *persist.DeadLetter) error {
	if d.Side != persist.SideOutbox && d.Side != persist.SideConsumer {
		return fmt.Errorf("unknown side %d", d.Side)
	}
	if d.State != persist.StateFailed && d.State != persist.StateExpired {
		return fmt.Errorf("state is %s, must be failed or expired", d.State)
	}
	return nil
}

type addLettersTask struct {
	call
	letters []persist.DeadLetter
}

func (t *addLettersTask) run(ctx context.Context, tx *txn) error {
	for i := range t.letters {
		if err := addDeadLetter(ctx, tx, &t.letters[i]); err != nil {
			return err
		}
	}
	return nil
}

// addDeadLetter stores one letter. Its number and time are the store's.
func addDeadLetter(ctx context.Context, tx *txn, d *persist.DeadLetter) error {
	var position any
	if d.Side == persist.SideOutbox && d.Ref != (persist.Ref{}) {
		position = d.Ref.Position
	}
	_, err := tx.exec(ctx, tx.q.deadAdd, int64(d.Side), int64(d.State), position, d.Group, d.Key,
		int64(d.ReasonCode), d.Reason, int64(d.Attempts), tx.now, wire.AppendMessage(nil, &d.Message))
	return err
}

// ListDeadLetters returns letters; see [persist.DeadLetters].
func (s *Store) ListDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
	const op = "list dead letters"
	if err := s.checkLimit(op, limit); err != nil {
		return nil, err
	}
	var letters []persist.DeadLetter
	err := s.browse(ctx, op, s.name, func(ctx context.Context, r runner) (err error) {
		letters, err = listLetters(ctx, r, s.q, filter, limit)
		return err
	})
	return letters, err
}

func listLetters(ctx context.Context, r runner, q *queries, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
	var letters []persist.DeadLetter
	var dest [11]driver.Value
	rows, err := r.query(ctx, q.deadList, filterArgs(filter, limit)...)
	err = eachRow(rows, err, dest[:], func() error {
		letters = append(letters, letterOf(dest[:]))
		return nil
	})
	return letters, err
}

func letterOf(dest []driver.Value) persist.DeadLetter {
	d := persist.DeadLetter{
		Number:     asInt(dest[0]),
		Side:       persist.Side(asInt(dest[1])),
		State:      persist.State(asInt(dest[2])),
		Group:      asText(dest[4]),
		Key:        asText(dest[5]),
		ReasonCode: byte(asInt(dest[6])),
		Reason:     asText(dest[7]),
		Attempts:   int(asInt(dest[8])),
		At:         time.UnixMilli(asInt(dest[9])),
	}
	if position, ok := dest[3].(int64); ok {
		d.Ref = persist.Ref{Lane: laneOfPosition(position), Position: position}
	}
	body, _ := dest[10].([]byte)
	m, err := wire.DecodeMessage(body)
	if err != nil {
		d.Reason = err.Error() // [DEAD-2]
	}
	d.Message = m
	return d
}

func filterArgs(f persist.DeadLetterFilter, limit int) []any {
	var numbers any
	if f.Numbers != nil {
		numbers = jsonInts(f.Numbers)
	}
	return []any{f.After, int64(f.Side), f.Group, numbers, int64(limit)}
}

// RetryDeadLetters moves letters back into the outbox; see
// [persist.DeadLetters]. A letter whose message cannot be read, or sent, stays.
// One whose message is idempotent, and in the outbox again by now, is deleted
// without adding a second [OUTBOX-4]. A message that came without an ID, or with
// one that is too long, gets one, made of the store's identity and the letter's
// number.
func (s *Store) RetryDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) (int, error) {
	const op = "retry dead letters"
	if err := s.checkLimit(op, limit); err != nil {
		return 0, err
	}
	t := &retryTask{call: newCall(op, s.name, limit), s: s, filter: filter, limit: limit}
	t.wakes = true
	err := s.submit(ctx, t)
	return t.moved, err
}

type retryTask struct {
	call
	s      *Store
	filter persist.DeadLetterFilter
	limit  int
	moved  int
}

func (t *retryTask) run(ctx context.Context, tx *txn) error {
	t.moved = 0
	var numbers []int64
	var msgs []persist.Message
	filter := t.filter
	for len(msgs) < t.limit {
		letters, err := listLetters(ctx, tx, tx.q, filter, min(retryPage, t.limit-len(msgs)))
		if err != nil {
			return err
		}
		if len(letters) == 0 {
			break
		}
		for i := range letters {
			d := &letters[i]
			filter.After = d.Number
			m := d.Message
			if m.ID == "" || len(m.ID) > persist.MaxMessageID { // of a message from elsewhere
				m.ID = fmt.Sprintf("%s-%d", t.s.identity, d.Number)
			}
			m.Expiry, m.Delay = 0, 0
			if checkMessage(&m) != nil {
				continue
			}
			msgs = append(msgs, m)
			numbers = append(numbers, d.Number)
		}
	}
	if len(msgs) == 0 {
		return nil
	}
	add, err := t.s.newEnqueue(msgs)
	if err != nil {
		t.err = err
		return nil //nolint:nilerr // a refusal, which undoes nothing of others
	}
	var e enqueuer
	if err := e.enqueue(ctx, tx, t.s, []*enqueueTask{add}); err != nil {
		return err
	}
	if add.err != nil {
		return t.refuse(persist.ErrOutboxFull) // nothing else refuses these
	}
	for _, number := range numbers {
		if _, err := tx.exec(ctx, tx.q.deadDelete, number); err != nil {
			return err
		}
	}
	t.moved = len(numbers)
	return nil
}

// PurgeDeadLetters deletes letters; see [persist.DeadLetters].
func (s *Store) PurgeDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) (int, error) {
	const op = "purge dead letters"
	if err := s.checkLimit(op, limit); err != nil {
		return 0, err
	}
	t := &purgeLettersTask{call: newCall(op, s.name, limit), filter: filter, limit: limit}
	err := s.submit(ctx, t)
	return int(t.purged), err
}

type purgeLettersTask struct {
	call
	filter persist.DeadLetterFilter
	limit  int
	purged int64
}

func (t *purgeLettersTask) run(ctx context.Context, tx *txn) (err error) {
	t.purged, err = tx.exec(ctx, tx.q.deadPurge, filterArgs(t.filter, t.limit)...)
	return err
}

func (s *Store) checkLimit(op string, limit int) error {
	if limit > 0 {
		return nil
	}
	return &persist.Error{Op: op, Object: s.name, Kind: persist.ErrInvalid, Err: fmt.Errorf("limit is %d, must be positive", limit)}
}
