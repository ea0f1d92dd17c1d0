package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

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
	firsts, lasts                 [][]byte
	firstAts, lastAts, expiries   []int64
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
	l.firsts = append(l.firsts, []byte(d.First.Error))
	l.firstAts = append(l.firstAts, unixMilli(d.First.At))
	l.lasts = append(l.lasts, []byte(d.Last.Error))
	l.lastAts = append(l.lastAts, unixMilli(d.Last.At))
	l.expiries = append(l.expiries, max(0, millis(d.Message.Expiry)))
	l.bodies = append(l.bodies, wire.AppendMessage(nil, &d.Message))
}

func (l *letterList) args() []any {
	return []any{
		l.sides, l.states, l.positions, l.groups, l.keys, l.codes, l.reasons, l.attempts,
		l.firsts, l.firstAts, l.lasts, l.lastAts, l.expiries, l.bodies,
	}
}

// unixMilli is zero for the zero time.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
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
	var at, firstAt, lastAt, expiry int64
	var group, key, reason, first, last, body []byte
	err := r.Scan(&d.Number, &side, &state, &position, &group, &key, &code, &reason, &attempts, &at,
		&first, &firstAt, &last, &lastAt, &expiry, &body)
	if err != nil {
		return d, err
	}
	d.Side, d.State, d.ReasonCode = persist.Side(side), persist.State(state), byte(code)
	d.Group, d.Key, d.Reason = string(group), string(key), string(reason)
	d.Attempts, d.At = int(attempts), time.UnixMilli(at)
	d.First, d.Last = failureOf(first, firstAt), failureOf(last, lastAt)
	if position != nil {
		d.Ref = persist.Ref{Lane: laneOfPosition(*position), Position: *position}
	}
	m, err := wire.DecodeMessage(body)
	if err != nil {
		d.Reason = err.Error() // [DEAD-2]
	}
	d.Message = m
	d.Message.Expiry = time.Duration(expiry) * time.Millisecond
	return d, nil
}

func failureOf(text []byte, at int64) persist.Failure {
	f := persist.Failure{Error: string(text)}
	if at != 0 {
		f.At = time.UnixMilli(at)
	}
	return f
}

func filterArgs(f persist.DeadLetterFilter, limit int) []any {
	var group []byte
	if f.Group != "" {
		group = []byte(f.Group)
	}
	var codes []int16
	if f.ReasonCodes != nil {
		codes = make([]int16, len(f.ReasonCodes))
		for i, code := range f.ReasonCodes {
			codes[i] = int16(code)
		}
	}
	after, last := f.Range()
	return []any{after, int32(f.Side), group, f.Numbers, codes, max(0, millis(f.OlderThan)), int64(limit), last}
}

// RetryDeadLetters moves letters back into the outbox; see [persist.DeadLetters].
func (s *Store) RetryDeadLetters(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
	const op = "retry dead letters"
	msgs, err := s.opts.limits().CheckRetries(op, s.identity, retries)
	if err != nil {
		return nil, err
	}
	if err := s.enter(op); err != nil {
		return nil, err
	}
	defer s.leave()
	if len(retries) == 0 {
		return nil, nil
	}
	var out []persist.Retried
	err = s.inTx(ctx, op, s.name, func(ctx context.Context, tx pgx.Tx) (err error) {
		out, err = s.retryLetters(ctx, pgxRunner{tx}, retries, msgs)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.notifier.wake()
	s.notifier.tell()
	return out, nil
}

func (s *Store) retryLetters(ctx context.Context, r runner, retries []persist.Retry, msgs []persist.Message) ([]persist.Retried, error) {
	numbers := make([]int64, len(retries))
	for i := range retries {
		numbers[i] = retries[i].Number
	}
	type named struct{ group, key []byte }
	found := make(map[int64]named, len(retries))
	claim := step{stmt: s.q.deadClaim, args: []any{numbers}, row: func(r row) error {
		var number int64
		var n named
		err := r.Scan(&number, &n.group, &n.key)
		found[number] = n
		return err
	}}
	if _, err := r.run(ctx, []step{{stmt: s.q.steer}, {stmt: s.q.deadCountsCompact}, claim}); err != nil {
		return nil, err
	}
	out := make([]persist.Retried, len(retries))
	var chosen []int // of retries whose letters are there
	var fit []persist.Message
	var groups, keys [][]byte
	for i := range retries {
		n, ok := found[retries[i].Number]
		if !ok {
			out[i].Gone = true
			continue
		}
		chosen, fit = append(chosen, i), append(fit, msgs[i])
		if len(n.key) > 0 && !retries[i].KeepMark {
			groups, keys = append(groups, storedKey(string(n.group))), append(keys, storedKey(string(n.key)))
		}
	}
	if len(fit) == 0 {
		return out, nil
	}
	t, err := s.newEnqueue(fit)
	if err != nil {
		return nil, err
	}
	if s.opts.limits().CountsRoom() {
		if err := s.insertLimited(ctx, r, []*enqueueTask{t}); err != nil {
			return nil, err
		}
		if t.err != nil {
			return nil, t.err
		}
	} else {
		in, steps := s.insert([]*enqueueTask{t})
		if _, err := r.run(ctx, steps); err != nil {
			return nil, err
		}
		in.finish()
	}
	steps := []step{{stmt: s.q.deadDelete, args: []any{numbers}}}
	if len(keys) > 0 { // [DEAD-4]
		steps = append(append(steps, s.forgetting(forgetPatience)...), step{stmt: s.q.claimForgetDead, args: []any{groups, keys}})
	}
	if _, err := r.run(ctx, steps); err != nil {
		return nil, err
	}
	for n, i := range chosen {
		out[i].Enqueued = t.out[n]
	}
	return out, nil
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
