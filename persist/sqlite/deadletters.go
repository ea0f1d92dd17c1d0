package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

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
		int64(d.ReasonCode), d.Reason, int64(d.Attempts), tx.now, d.First.Error, unixMilli(d.First.At),
		d.Last.Error, unixMilli(d.Last.At), max(0, millis(d.Message.Expiry)), wire.AppendMessage(nil, &d.Message))
	return err
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
	err := s.browse(ctx, op, s.name, func(ctx context.Context, r runner) (err error) {
		letters, err = listLetters(ctx, r, s.q, filterArgs(filter, s.now(), limit))
		return err
	})
	return letters, err
}

func listLetters(ctx context.Context, r runner, q *queries, args []any) ([]persist.DeadLetter, error) {
	var letters []persist.DeadLetter
	var dest [16]driver.Value
	rows, err := r.query(ctx, q.deadList, args...)
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
		First:      failureOf(dest[10:12]),
		Last:       failureOf(dest[12:14]),
	}
	if position, ok := dest[3].(int64); ok {
		d.Ref = persist.Ref{Lane: laneOfPosition(position), Position: position}
	}
	body, _ := dest[15].([]byte)
	m, err := wire.DecodeMessage(body)
	if err != nil {
		d.Reason = err.Error() // [DEAD-2]
	}
	d.Message = m
	d.Message.Expiry = time.Duration(asInt(dest[14])) * time.Millisecond
	return d
}

// failureOf reads an error and its time.
func failureOf(dest []driver.Value) persist.Failure {
	f := persist.Failure{Error: asText(dest[0])}
	if at := asInt(dest[1]); at != 0 {
		f.At = time.UnixMilli(at)
	}
	return f
}

func filterArgs(f persist.DeadLetterFilter, now int64, limit int) []any {
	var numbers, codes, latest any
	if f.Numbers != nil {
		numbers = jsonInts(f.Numbers)
	}
	if f.ReasonCodes != nil {
		list := make([]int64, len(f.ReasonCodes))
		for i, code := range f.ReasonCodes {
			list[i] = int64(code)
		}
		codes = jsonInts(list)
	}
	if f.OlderThan > 0 {
		latest = now - millis(f.OlderThan)
	}
	after, last := f.Range()
	return []any{after, int64(f.Side), f.Group, numbers, codes, latest, int64(limit), last}
}

// RetryDeadLetters moves letters back into the outbox; see
// [persist.DeadLetters].
func (s *Store) RetryDeadLetters(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
	const op = "retry dead letters"
	msgs, err := s.opts.limits().CheckRetries(op, s.identity, retries)
	if err != nil {
		return nil, err
	}
	if len(retries) == 0 {
		return nil, nil
	}
	t := &retryTask{call: newCall(op, s.name, len(retries)), s: s, retries: retries, msgs: msgs}
	t.wakes = true
	if err := s.submit(ctx, t); err != nil {
		return nil, err
	}
	return t.out, nil
}

type retryTask struct {
	call
	s       *Store
	retries []persist.Retry
	msgs    []persist.Message
	out     []persist.Retried
}

func (t *retryTask) run(ctx context.Context, tx *txn) error {
	t.out = make([]persist.Retried, len(t.retries))
	var chosen []int // of retries whose letters are there
	var msgs []persist.Message
	keys := make([][2]string, 0, len(t.retries)) // group and key of the chosen
	for i := range t.retries {
		var dest [2]driver.Value
		found, err := queryRow(ctx, tx, dest[:], tx.q.deadKey, t.retries[i].Number)
		if err != nil {
			return err
		}
		if !found {
			t.out[i].Gone = true
			continue
		}
		chosen, msgs = append(chosen, i), append(msgs, t.msgs[i])
		keys = append(keys, [2]string{asText(dest[0]), asText(dest[1])})
	}
	if len(msgs) == 0 {
		return nil
	}
	add, err := t.s.newEnqueue(msgs)
	if err != nil {
		return err // they were checked
	}
	add.op = t.op
	var e enqueuer
	if err := e.enqueue(ctx, tx, t.s, []*enqueueTask{add}); err != nil {
		return err
	}
	if add.err != nil {
		t.err = add.err
		return nil //nolint:nilerr // as above
	}
	for n, i := range chosen {
		r := &t.retries[i]
		t.out[i].Enqueued = add.out[n]
		if _, err := tx.exec(ctx, tx.q.deadDelete, r.Number); err != nil {
			return err
		}
		group, key := keys[n][0], keys[n][1]
		if key == "" || r.KeepMark {
			continue
		}
		forgotten, err := tx.exec(ctx, tx.q.claimForgetDead, group, storedKey(key)) // [DEAD-4]
		if err != nil {
			return err
		}
		tx.keys.moved(keyDead, keyAbsent, forgotten)
	}
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
	t.purged, err = tx.exec(ctx, tx.q.deadPurge, filterArgs(t.filter, tx.now, t.limit)...)
	return err
}

func (s *Store) checkLimit(op string, limit int) error {
	if limit > 0 {
		return nil
	}
	return &persist.Error{Op: op, Object: s.name, Kind: persist.ErrInvalid, Err: fmt.Errorf("limit is %d, must be positive", limit)}
}
