package autopaho

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// DeadLetterStore is what the functions about dead letters need of a
// [persist.Store]. They need no client and no broker.
type DeadLetterStore interface {
	persist.DeadLetters
	// Time is as in [persist.Store].
	Time(ctx context.Context) (time.Time, error)
}

// DeadLetterFilter selects dead letters; a zero field selects all.
type DeadLetterFilter struct {
	persist.DeadLetterFilter
	// Topic is a topic filter. A letter whose message cannot be read has no topic,
	// and is selected if Topic is empty.
	Topic string
}

// letterPage is how many letters are read, moved or deleted at once.
const letterPage = 256

// EachDeadLetter calls fn for the letters that a filter selects, in the order of
// their numbers, until fn returns false or an error, which it returns. The error
// wraps qos.ErrInvalid for a Topic that is no filter.
func EachDeadLetter(
	ctx context.Context, store DeadLetterStore, filter DeadLetterFilter, fn func(*persist.DeadLetter) (more bool, err error),
) error {
	if filter.Topic != "" {
		if err := qos.ValidateFilter(filter.Topic); err != nil {
			return err
		}
	}
	page := filter.DeadLetterFilter
	for {
		letters, err := store.ListDeadLetters(ctx, page, letterPage)
		if err != nil {
			return err
		}
		for i := range letters {
			l := &letters[i]
			page.After = l.Number
			if filter.Topic != "" && !qos.Match(filter.Topic, l.Message.Topic) {
				continue
			}
			if more, err := fn(l); err != nil || !more {
				return err
			}
		}
		if len(letters) < letterPage {
			return nil
		}
	}
}

// PurgeDeadLetters deletes the letters that a filter selects, the oldest first, and
// at most limit of them if that is not zero. It tells how many it deleted, also with
// an error. Their messages are lost.
func PurgeDeadLetters(ctx context.Context, store DeadLetterStore, filter DeadLetterFilter, limit int) (purged int, err error) {
	var numbers []int64
	flush := func() error {
		if len(numbers) == 0 {
			return nil
		}
		n, err := store.PurgeDeadLetters(ctx, persist.DeadLetterFilter{Numbers: numbers}, len(numbers))
		purged += n
		numbers = numbers[:0]
		return err
	}
	if filter.Topic == "" { // the store can choose by itself
		for limit == 0 || purged < limit {
			most := letterPage
			if limit > 0 {
				most = min(most, limit-purged)
			}
			n, err := store.PurgeDeadLetters(ctx, filter.DeadLetterFilter, most)
			purged += n
			if err != nil || n == 0 {
				return purged, err
			}
		}
		return purged, nil
	}
	chosen := 0
	err = EachDeadLetter(ctx, store, filter, func(l *persist.DeadLetter) (bool, error) {
		numbers = append(numbers, l.Number)
		chosen++
		more := limit == 0 || chosen < limit
		if len(numbers) == letterPage {
			return more, flush()
		}
		return more, nil
	})
	if err == nil {
		err = flush()
	}
	return purged, err
}

// DeadLetterRetry describes which letters are to be tried again, and how they are
// changed before. The zero value tries all of them as they are.
type DeadLetterRetry struct {
	Filter DeadLetterFilter
	// Limit is the most letters to move. Zero is all.
	Limit int
	// Topic, if set, takes the place of the messages' topics.
	Topic string
	// SetProperties are user properties that are set: those of the same name are
	// removed first. RemoveProperties are names of user properties that are removed.
	SetProperties    []UserProperty
	RemoveProperties []string
	// MaxPayload is the largest payload to store, in bytes. Zero is 1 MiB, as in
	// Config.
	MaxPayload int
	// DryRun tells what would be moved, and changes nothing. Whether the outbox has
	// room it does not tell.
	DryRun bool
	// Report, if set, is told of every letter that was selected, in the order of
	// their numbers. Its error ends the run.
	Report func(RetriedLetter) error
}

// RetriedLetter is what became of one letter.
type RetriedLetter struct {
	Number int64
	// Message is the message that was stored; empty if Err is set.
	Message Message
	// Place is where it is stored. With Duplicate set the outbox held a message of
	// that ID already, and the letter was dropped for it. Zero in a dry run.
	Place persist.Enqueued
	// Err says why the letter was refused, and stays. It wraps ErrInvalidMessage,
	// ErrUnreadable or persist.ErrNotFound.
	Err error
}

// ErrUnreadable says that the message of a dead letter cannot be read, so that it
// cannot be sent either. It can be purged.
var ErrUnreadable = errors.New("the message cannot be read")

func (r *DeadLetterRetry) validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: %s: %s", ErrConfig, field, fmt.Sprintf(format, args...)))
	}
	if r.Topic != "" {
		if err := qos.ValidateTopic(r.Topic); err != nil {
			bad("Topic", "%s", err)
		}
	}
	names := slices.Clone(r.RemoveProperties)
	for _, p := range r.SetProperties {
		names = append(names, p.Name)
		if err := qos.ValidateString("user property value", p.Value); err != nil {
			bad("SetProperties", "%s", err)
		}
	}
	for _, name := range names {
		if err := qos.ValidateString("user property name", name); err != nil {
			bad("SetProperties and RemoveProperties", "%s", err)
		}
		switch name {
		case PropertyMessageID, PropertyOrderingKey, PropertyFirstSent, dedup.PropertyRetried:
			bad("SetProperties and RemoveProperties", "%q is oncemq's own, and stays as it is", name)
		}
	}
	if r.Limit < 0 {
		bad("Limit", "%d is negative; use 0 for all", r.Limit)
	}
	if r.MaxPayload < 0 {
		bad("MaxPayload", "%d is negative; use 0 for the default", r.MaxPayload)
	}
	return errors.Join(errs...)
}

// RetryDeadLetters moves letters back into the outbox, in the order of their
// numbers, and tells how many it moved, also with an error. A relay of the store
// sends them. Each keeps its message ID; expiry and delay are gone.
//
// The group that gave a consumer's letter up processes it once more, however old it
// is, unless it has processed the key since. To other groups the message is what it
// was: a duplicate for those that have processed it, or too old. A retained message
// is not retained again.
//
// Letters that come while it runs stay, unless they are chosen by their numbers: what
// was moved may fail again at once, and would be moved again without end.
//
// A letter that cannot be sent is refused, and stays, without stopping the others:
// see RetriedLetter. If the outbox has no room the error wraps
// persist.ErrOutboxFull; what was not moved stays. The error wraps ErrConfig if r
// itself is at fault.
func RetryDeadLetters(ctx context.Context, store DeadLetterStore, r DeadLetterRetry) (moved int, err error) {
	if err := r.validate(); err != nil {
		return 0, fmt.Errorf("retry dead letters: %w", err)
	}
	if r.MaxPayload == 0 {
		r.MaxPayload = defaultMaxPayload
	}
	now, err := store.Time(ctx)
	if err != nil {
		return 0, err
	}
	run := letterRetry{DeadLetterRetry: r, store: store, now: now}
	err = EachDeadLetter(ctx, store, r.Filter, func(l *persist.DeadLetter) (bool, error) {
		if r.Filter.Numbers == nil && l.At.After(now) {
			return true, nil
		}
		run.add(l)
		if len(run.results) < letterPage && run.bytes < letterBytes && !run.enough() {
			return true, nil
		}
		err := run.flush(ctx)
		return !run.enough(), err
	})
	if err == nil {
		err = run.flush(ctx)
	}
	return run.moved, err
}

// letterBytes is after how many bytes of payload letters are moved.
const letterBytes = 4 << 20

// letterRetry is one run of RetryDeadLetters.
type letterRetry struct {
	DeadLetterRetry
	store DeadLetterStore
	now   time.Time
	moved int

	results []RetriedLetter // of the letters that were read
	retries []persist.Retry // of those among them that are not refused
	places  []int           // in results
	bytes   int
}

func (r *letterRetry) enough() bool { return r.Limit > 0 && r.moved+len(r.retries) >= r.Limit }

// add reads a letter.
func (r *letterRetry) add(l *persist.DeadLetter) {
	result := RetriedLetter{Number: l.Number}
	retry, err := r.change(l)
	if err != nil {
		result.Err = err
	} else {
		result.Message = retry.Message
		r.retries = append(r.retries, retry)
		r.places = append(r.places, len(r.results))
		r.bytes += len(retry.Message.Payload)
	}
	r.results = append(r.results, result)
}

// change makes of a letter what is stored.
func (r *letterRetry) change(l *persist.DeadLetter) (persist.Retry, error) {
	retry := l.Retry()
	m := &retry.Message
	if m.Topic == "" {
		return retry, fmt.Errorf("%w: %s", ErrUnreadable, l.Reason)
	}
	if r.Topic != "" {
		m.Topic = r.Topic
	}
	// A message that was received has oncemq's properties among the user's.
	id, key := m.ID, m.OrderingKey
	user := make([]UserProperty, 0, len(m.Properties.User)+len(r.SetProperties)+1)
	for _, u := range m.Properties.User {
		switch {
		case u.Name == PropertyMessageID:
			continue
		case u.Name == PropertyOrderingKey:
			if key == "" {
				key = u.Value
			}
			continue
		case u.Name == dedup.PropertyRetried && l.Side == persist.SideConsumer,
			slices.Contains(r.RemoveProperties, u.Name),
			slices.ContainsFunc(r.SetProperties, func(set UserProperty) bool { return set.Name == u.Name }):
			continue
		}
		user = append(user, u)
	}
	m.ID, m.OrderingKey = id, key
	m.Properties.User = append(user, r.SetProperties...)
	if l.Side == persist.SideConsumer {
		m.QoS = max(m.QoS, 1)
		m.Retain = false // the broker's retained message may be a later one
	}
	if l.Side == persist.SideConsumer && l.Key != "" {
		retry.KeepMark = dedup.Rekeyed(l.Key, &l.Message, m)
		m.Properties.User = append(m.Properties.User, dedup.Retried(l.Group, r.now))
	}
	if err := validate(m, r.MaxPayload); err != nil {
		return retry, fmt.Errorf("%w: %w", ErrInvalidMessage, err)
	}
	return retry, nil
}

// flush moves what was read, and reports it.
func (r *letterRetry) flush(ctx context.Context) error {
	full := r.move(ctx, r.retries, r.places)
	for i := range r.results {
		result := &r.results[i]
		if full != nil && result.Err == nil && result.Place == (persist.Enqueued{}) && !r.DryRun {
			continue // not moved
		}
		if r.Report == nil {
			continue
		}
		if err := r.Report(*result); err != nil {
			return err
		}
	}
	clear(r.results)
	r.results, r.retries, r.places, r.bytes = r.results[:0], nil, r.places[:0], 0
	return full
}

// move moves letters, as many as the outbox has room for.
func (r *letterRetry) move(ctx context.Context, retries []persist.Retry, places []int) error {
	if len(retries) == 0 {
		return nil
	}
	if r.DryRun {
		r.moved += len(retries)
		return nil
	}
	out, err := r.store.RetryDeadLetters(ctx, retries)
	switch {
	case errors.Is(err, persist.ErrOutboxFull) && len(retries) > 1:
		half := len(retries) / 2
		if err := r.move(ctx, retries[:half], places[:half]); err != nil {
			return err
		}
		return r.move(ctx, retries[half:], places[half:])
	case err != nil:
		return err
	}
	for i := range out {
		result := &r.results[places[i]]
		if out[i].Gone {
			result.Err = fmt.Errorf("dead letter %d: %w", result.Number, persist.ErrNotFound)
			continue
		}
		result.Place = out[i].Enqueued
		r.moved++
	}
	return nil
}
