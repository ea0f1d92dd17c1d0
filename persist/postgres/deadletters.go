package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// retryPage is how many letters RetryDeadLetters reads at a time.
const retryPage = 500

// AddDeadLetters stores letters; see [persist.DeadLetters].
func (s *Store) AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error {
	const op = "add dead letters"
	var list letterList
	for i := range letters {
		if err := checkLetter(&letters[i]); err != nil {
			return invalid(op, fmt.Sprintf("letter %d", i), err)
		}
		list.add(&letters[i])
	}
	if len(letters) == 0 {
		return nil
	}
	return s.do(ctx, op, s.name, writes, func() []step {
		return []step{{stmt: s.q.deadAdd, args: list.args()}}
	})
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

// letterList is the columns of letters. Their numbers and times are the store's.
type letterList struct {
	sides, states, codes          []int16
	positions                     []int64
	groups, keys, reasons, bodies [][]byte
	attempts                      []int32
}

func (l *letterList) add(d *persist.DeadLetter) {
	position := int64(0)
	if d.Side == persist.SideOutbox {
		position = d.Ref.Position
	}
	l.sides = append(l.sides, int16(d.Side))
	l.states = append(l.states, int16(d.State))
	l.positions = append(l.positions, position)
	l.groups = append(l.groups, []byte(d.Group))
	l.keys = append(l.keys, []byte(d.Key))
	l.codes = append(l.codes, int16(d.ReasonCode))
	l.reasons = append(l.reasons, []byte(d.Reason))
	l.attempts = append(l.attempts, int32(d.Attempts))
	l.bodies = append(l.bodies, wire.AppendMessage(nil, &d.Message))
}

func (l *letterList) args() []any {
	return []any{l.sides, l.states, l.positions, l.groups, l.keys, l.codes, l.reasons, l.attempts, l.bodies}
}

// ListDeadLetters returns letters; see [persist.DeadLetters].
func (s *Store) ListDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
	const op = "list dead letters"
	if err := s.checkLimit(op, limit); err != nil {
		return nil, err
	}
	var letters []persist.DeadLetter
	err := s.do(ctx, op, s.name, reads, func() []step {
		letters = nil
		return []step{{stmt: s.q.steer}, listLetters(s.q.deadList, filter, limit, &letters)}
	})
	if err != nil {
		return nil, err
	}
	return letters, nil
}

func listLetters(stmt *statement, filter persist.DeadLetterFilter, limit int, letters *[]persist.DeadLetter) step {
	return step{stmt: stmt, args: filterArgs(filter, limit), row: func(r row) error {
		d, err := scanLetter(r)
		*letters = append(*letters, d)
		return err
	}}
}

func scanLetter(r row) (persist.DeadLetter, error) {
	var d persist.DeadLetter
	var side, state, code int16
	var position *int64
	var attempts int32
	var at int64
	var group, key, reason, body []byte
	if err := r.Scan(&d.Number, &side, &state, &position, &group, &key, &code, &reason, &attempts, &at, &body); err != nil {
		return d, err
	}
	d.Side, d.State, d.ReasonCode = persist.Side(side), persist.State(state), byte(code)
	d.Group, d.Key, d.Reason = string(group), string(key), string(reason)
	d.Attempts, d.At = int(attempts), time.UnixMilli(at)
	if position != nil {
		d.Ref = persist.Ref{Lane: laneOfPosition(*position), Position: *position}
	}
	m, err := wire.DecodeMessage(body)
	if err != nil {
		d.Reason = err.Error() // [DEAD-2]
	}
	d.Message = m
	return d, nil
}

func filterArgs(f persist.DeadLetterFilter, limit int) []any {
	var group []byte
	if f.Group != "" {
		group = []byte(f.Group)
	}
	return []any{f.After, int32(f.Side), group, f.Numbers, int64(limit)}
}

// RetryDeadLetters moves letters back into the outbox; see [persist.DeadLetters].
// A letter whose message cannot be read, or sent, stays. One whose message is idempotent, and
// in the outbox again by now, is deleted without adding a second [OUTBOX-4]. A
// message that came without an ID, or with one that is too long, gets one, made of
// the store's identity and the letter's number.
func (s *Store) RetryDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) (int, error) {
	const op = "retry dead letters"
	if err := s.checkLimit(op, limit); err != nil {
		return 0, err
	}
	if err := s.enter(op); err != nil {
		return 0, err
	}
	defer s.leave()
	moved := 0
	err := s.inTx(ctx, op, s.name, func(ctx context.Context, tx pgx.Tx) (err error) {
		moved, err = s.retryLetters(ctx, pgxRunner{tx}, filter, limit)
		return err
	})
	if err != nil {
		return 0, err
	}
	if moved > 0 {
		s.notifier.wake()
		s.notifier.tell()
	}
	return moved, nil
}

func (s *Store) retryLetters(ctx context.Context, r runner, filter persist.DeadLetterFilter, limit int) (int, error) {
	if _, err := r.run(ctx, []step{{stmt: s.q.steer}, {stmt: s.q.deadCountsCompact}}); err != nil {
		return 0, err
	}
	var numbers []int64
	var msgs []persist.Message
	for len(msgs) < limit {
		var letters []persist.DeadLetter
		page := min(retryPage, limit-len(msgs))
		if _, err := r.run(ctx, []step{listLetters(s.q.deadClaim, filter, page, &letters)}); err != nil {
			return 0, err
		}
		if len(letters) == 0 {
			break
		}
		for i := range letters {
			d := &letters[i]
			filter.After = d.Number
			m := d.Message
			if m.ID == "" || len(m.ID) > persist.MaxMessageID { // of a message from elsewhere
				m.ID = fmt.Sprintf("%s-%d", s.identity, d.Number)
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
		return 0, nil
	}
	t, err := s.newEnqueue(msgs)
	if err != nil {
		return 0, err
	}
	if s.opts.MaxMessages > 0 {
		if err := s.insertLimited(ctx, r, []*enqueueTask{t}); err != nil {
			return 0, err
		}
		if t.err != nil {
			return 0, refuse("retry dead letters", s.name, persist.ErrOutboxFull) // nothing else refuses these
		}
	} else {
		_, steps := s.insert([]*enqueueTask{t})
		if _, err := r.run(ctx, steps); err != nil {
			return 0, err
		}
	}
	_, err = r.run(ctx, []step{{stmt: s.q.deadDelete, args: []any{numbers}}})
	return len(numbers), err
}

// PurgeDeadLetters deletes letters; see [persist.DeadLetters].
func (s *Store) PurgeDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) (int, error) {
	const op = "purge dead letters"
	if err := s.checkLimit(op, limit); err != nil {
		return 0, err
	}
	var purged int64
	err := s.do(ctx, op, s.name, writes, func() []step {
		return []step{
			{stmt: s.q.steer},
			{stmt: s.q.deadPurge, args: filterArgs(filter, limit), changed: &purged},
			{stmt: s.q.deadCountsCompact},
		}
	})
	if err != nil {
		return 0, err
	}
	return int(purged), nil
}

func (s *Store) checkLimit(op string, limit int) error {
	if limit > 0 {
		return nil
	}
	return invalid(op, s.name, fmt.Errorf("limit is %d, must be positive", limit))
}
