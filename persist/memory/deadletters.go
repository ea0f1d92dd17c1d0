package memory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// deadLetters are the letters in the order of their numbers.
type deadLetters struct {
	letters sequence[persist.DeadLetter]
	last    int64
	// byRef finds the letters of the outbox by where their messages were.
	byRef map[persist.Ref]*persist.DeadLetter

	failed, expired, consumer int64
}

// add stores a letter under the next number.
func (d *deadLetters) add(now int64, letter persist.DeadLetter) {
	d.last++
	letter.Number = d.last
	letter.At = time.UnixMilli(now)
	d.letters.add(letter.Number, &letter)
	if letter.Side == persist.SideOutbox && letter.Ref.Position > 0 {
		d.byRef[letter.Ref] = &letter
	}
	*d.counter(&letter)++
}

func (d *deadLetters) remove(letter *persist.DeadLetter) {
	d.letters.remove(letter.Number)
	if d.byRef[letter.Ref] == letter {
		delete(d.byRef, letter.Ref)
	}
	*d.counter(letter)--
}

// counter is the count that a letter is part of.
func (d *deadLetters) counter(letter *persist.DeadLetter) *int64 {
	switch {
	case letter.Side == persist.SideConsumer:
		return &d.consumer
	case letter.State == persist.StateExpired:
		return &d.expired
	default:
		return &d.failed
	}
}

// choose returns up to limit letters that the filter selects, in order.
func (d *deadLetters) choose(now int64, filter persist.DeadLetterFilter, limit int) []*persist.DeadLetter {
	var chosen []*persist.DeadLetter
	take := func(letter *persist.DeadLetter) bool {
		if (filter.Side == 0 || filter.Side == letter.Side) &&
			(filter.Group == "" || filter.Group == letter.Group) &&
			(filter.ReasonCodes == nil || slices.Contains(filter.ReasonCodes, letter.ReasonCode)) &&
			(filter.OlderThan <= 0 || letter.At.UnixMilli() <= now-millis(filter.OlderThan)) {
			chosen = append(chosen, letter)
		}
		return len(chosen) < limit
	}
	if filter.Numbers == nil {
		d.letters.after(filter.After)(func(_ int64, letter *persist.DeadLetter) bool { return take(letter) })
		return chosen
	}
	for _, number := range slices.Compact(slices.Sorted(slices.Values(filter.Numbers))) {
		if number <= filter.After {
			continue
		}
		if letter := d.letters.get(number); letter != nil && !take(letter) {
			break
		}
	}
	return chosen
}

// checkDeadLetter refuses a letter that says neither where nor how it failed.
func checkDeadLetter(letter *persist.DeadLetter) error {
	if letter.Side != persist.SideOutbox && letter.Side != persist.SideConsumer {
		return fmt.Errorf("a dead letter has side %d", letter.Side)
	}
	if letter.State != persist.StateFailed && letter.State != persist.StateExpired {
		return fmt.Errorf("a dead letter is %v; it must be failed or expired", letter.State)
	}
	return nil
}

// AddDeadLetters implements persist.DeadLetters.
func (s *Store) AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error {
	for i := range letters {
		if err := checkDeadLetter(&letters[i]); err != nil {
			return refuse("add", "dead letters", "%w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "add", "dead letters"); err != nil {
		return err
	}
	now := s.now()
	for _, letter := range letters {
		s.deadLetters.add(now, letter)
	}
	return nil
}

// ListDeadLetters implements persist.DeadLetters.
func (s *Store) ListDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chosen, err := s.chooseDeadLetters(ctx, "list", filter, limit)
	if err != nil {
		return nil, err
	}
	letters := make([]persist.DeadLetter, len(chosen))
	for i, letter := range chosen {
		letters[i] = *letter
	}
	return letters, nil
}

// RetryDeadLetters implements persist.DeadLetters.
func (s *Store) RetryDeadLetters(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
	out, err := s.retryDeadLetters(ctx, retries)
	if err == nil && len(retries) > 0 {
		s.notifier.wake()
	}
	return out, err
}

func (s *Store) retryDeadLetters(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
	const op, object = "retry", "dead letters"
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, op, object); err != nil {
		return nil, err
	}
	all, err := s.limits.CheckRetries(op, s.identity, retries)
	if err != nil {
		return nil, err
	}
	out := make([]persist.Retried, len(retries))
	var chosen []int // of retries whose letters are there
	var msgs []persist.Message
	for i, r := range retries {
		if s.deadLetters.letters.get(r.Number) == nil {
			out[i].Gone = true
			continue
		}
		chosen, msgs = append(chosen, i), append(msgs, all[i])
	}
	if err := s.makeRoom(op, msgs); err != nil {
		return nil, err
	}
	for n, place := range s.add(msgs) {
		i := chosen[n]
		out[i].Enqueued = place
		letter := s.deadLetters.letters.get(retries[i].Number)
		s.deadLetters.remove(letter)
		k := s.marks.byKey[markKey{letter.Group, letter.Key}]
		if k != nil && k.standing == completed && k.dead && letter.Key != "" && !retries[i].KeepMark { // [DEAD-4]
			s.marks.remove(k)
		}
	}
	return out, nil
}

// PurgeDeadLetters implements persist.DeadLetters.
func (s *Store) PurgeDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chosen, err := s.chooseDeadLetters(ctx, "purge", filter, limit)
	if err != nil {
		return 0, err
	}
	for _, letter := range chosen {
		s.deadLetters.remove(letter)
	}
	return len(chosen), nil
}

// chooseDeadLetters begins an operation on selected letters. The caller holds
// s.mu.
func (s *Store) chooseDeadLetters(
	ctx context.Context, op string, filter persist.DeadLetterFilter, limit int,
) ([]*persist.DeadLetter, error) {
	if err := s.begin(ctx, op, "dead letters"); err != nil {
		return nil, err
	}
	if limit <= 0 {
		return nil, refuse(op, "dead letters", "%w", errors.New("the limit must be positive"))
	}
	return s.deadLetters.choose(s.now(), filter, limit), nil
}
