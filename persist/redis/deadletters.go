package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

const (
	// lettersPage is how many letters one script hands over or deletes.
	lettersPage = 500
	// lettersNamed is how many letters that were asked for by number one script
	// hands over.
	lettersNamed = 64
	// lettersLook is how many letters one script looks at.
	lettersLook = 2000
	// maxRetry is how many letters one retry moves, and maxRetryBytes how many
	// bytes of payload. It is one script, during which the server
	// serves nobody else: about 25 microseconds a letter.
	maxRetry      = 2000
	maxRetryBytes = 32 << 20
	// retryAttempts is how often RetryDeadLetters begins anew because another
	// has taken a letter away meanwhile.
	retryAttempts = 10
)

// AddDeadLetters stores letters; see [persist.DeadLetters]. A call has at most
// 10,000 letters and 32 MiB of payload, or one letter; more is refused with an
// error that wraps [persist.ErrInvalid].
func (s *Store) AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error {
	const op = "add dead letters"
	if len(letters) > maxCallMessages {
		return invalid(op, s.name, "%d letters, at most %d fit into one call", len(letters), maxCallMessages)
	}
	bytes := 0
	for i := range letters {
		bytes += len(letters[i].Message.Payload)
		if err := checkLetter(&letters[i]); err != nil {
			return &persist.Error{Op: op, Object: fmt.Sprintf("letter %d", i), Kind: persist.ErrInvalid, Err: err}
		}
	}
	if bytes > maxCallBytes && len(letters) > 1 {
		return invalid(op, s.name, "%d bytes of payload, at most %d fit into one call", bytes, maxCallBytes)
	}
	if len(letters) == 0 {
		return nil
	}
	args := make([]any, 0, 14*len(letters))
	for i := range letters {
		args = letterArgs(args, &letters[i])
	}
	_, err := s.do(ctx, op, s.name, s.run.deadAdd, s.lettersKeys(), args...)
	return err
}

func (s *Store) lettersKeys() []string {
	return []string{s.keys.totals, s.keys.dead, s.keys.fates}
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

// letterArgs are what add_letter in include/letter.lua takes. A letter's number
// and time are the store's.
func letterArgs(args []any, d *persist.DeadLetter) []any {
	place := ""
	if d.Side == persist.SideOutbox && d.Ref != (persist.Ref{}) {
		place = placeOf(d.Ref)
	}
	return append(args, int(d.Side), int(d.State), place, d.Group, d.Key,
		int(d.ReasonCode), d.Reason, d.Attempts, d.First.Error, unixMilli(d.First.At), d.Last.Error, unixMilli(d.Last.At),
		max(0, millis(d.Message.Expiry)), wire.AppendMessage(nil, &d.Message))
}

// unixMilli is zero for the zero time.
func unixMilli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func placeOf(ref persist.Ref) string { return fmt.Sprintf("%d:%d", ref.Lane, ref.Position) }

// ListDeadLetters returns letters; see [persist.DeadLetters].
func (s *Store) ListDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
	const op = "list dead letters"
	if err := s.checkLimit(op, limit); err != nil {
		return nil, err
	}
	var letters []persist.DeadLetter
	err := s.eachLetter(ctx, op, filter, limit, func(d *persist.DeadLetter) bool {
		letters = append(letters, *d)
		return len(letters) < limit
	})
	return letters, err
}

// eachLetter calls fn for the letters that the filter selects, in the order of
// their numbers, until it returns false. want is how many it is likely to take.
func (s *Store) eachLetter(ctx context.Context, op string, filter persist.DeadLetterFilter, want int, fn func(*persist.DeadLetter) bool) error {
	if filter.Numbers != nil {
		return s.eachNumbered(ctx, op, filter, fn)
	}
	codes := ""
	if filter.ReasonCodes != nil {
		codes = " "
		for _, code := range filter.ReasonCodes {
			codes += strconv.Itoa(int(code)) + " "
		}
	}
	for cursor := max(filter.After, 0); cursor >= 0; {
		answer, err := s.do(ctx, op, s.name, s.run.deadList, []string{s.keys.dead},
			cursor, min(want, lettersPage), int(filter.Side), filter.Group, lettersLook, max(0, millis(filter.OlderThan)), codes)
		if err != nil {
			return err
		}
		f := asList(answer)
		if len(f) != 2 {
			return strange(op, s.name)
		}
		for _, row := range asList(f[1]) {
			d := letterOf(asList(row))
			if !fn(&d) {
				return nil
			}
		}
		cursor = asInt(f[0])
	}
	return nil
}

func (s *Store) eachNumbered(ctx context.Context, op string, filter persist.DeadLetterFilter, fn func(*persist.DeadLetter) bool) error {
	now := time.Time{}
	if filter.OlderThan > 0 {
		var err error
		if now, err = s.Time(ctx); err != nil {
			return err
		}
	}
	list := slices.Compact(slices.Sorted(slices.Values(filter.Numbers)))
	for part := range slices.Chunk(list, lettersNamed) {
		part = slices.DeleteFunc(slices.Clone(part), func(n int64) bool { return n <= max(filter.After, 0) })
		if len(part) == 0 {
			continue
		}
		answer, err := s.do(ctx, op, s.name, s.run.deadGet, []string{s.keys.dead}, numbers(nil, part)...)
		if err != nil {
			return err
		}
		for _, row := range asList(answer) {
			d := letterOf(asList(row))
			if filter.Side != 0 && d.Side != filter.Side || filter.Group != "" && d.Group != filter.Group ||
				filter.ReasonCodes != nil && !slices.Contains(filter.ReasonCodes, d.ReasonCode) ||
				filter.OlderThan > 0 && d.At.UnixMilli() > now.UnixMilli()-millis(filter.OlderThan) {
				continue
			}
			if !fn(&d) {
				return nil
			}
		}
	}
	return nil
}

// letterOf reads number and fields.
func letterOf(row []any) persist.DeadLetter {
	d := persist.DeadLetter{Number: asInt(at(row, 0))}
	f := asList(at(row, 1))
	body, expiry := "", time.Duration(0)
	for i := 0; i+1 < len(f); i += 2 {
		value := asText(f[i+1])
		switch asText(f[i]) {
		case "side":
			d.Side = persist.Side(asInt(value))
		case "state":
			d.State = persist.State(asInt(value))
		case "place":
			d.Ref = refOf(value)
		case "group":
			d.Group = value
		case "key":
			d.Key = value
		case "code":
			d.ReasonCode = byte(asInt(value))
		case "reason":
			d.Reason = value
		case "attempts":
			d.Attempts = int(asInt(value))
		case "at":
			d.At = time.UnixMilli(asInt(value))
		case "first":
			d.First.Error = value
		case "first_at":
			d.First.At = timeOf(asInt(value))
		case "last":
			d.Last.Error = value
		case "last_at":
			d.Last.At = timeOf(asInt(value))
		case "expiry":
			expiry = time.Duration(asInt(value)) * time.Millisecond
		case "body":
			body = value
		}
	}
	m, err := wire.DecodeMessage([]byte(body))
	if err != nil {
		d.Reason = err.Error() // [DEAD-2]
	}
	d.Message = m
	d.Message.Expiry = expiry
	return d
}

// timeOf is the reverse of unixMilli.
func timeOf(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// refOf reads what placeOf made.
func refOf(place string) persist.Ref {
	lane, position, found := strings.Cut(place, ":")
	if !found {
		return persist.Ref{}
	}
	l, _ := strconv.Atoi(lane)
	return persist.Ref{Lane: l, Position: asInt(position)}
}

// RetryDeadLetters moves letters back into the outbox; see
// [persist.DeadLetters]. A call has at most 2,000 letters, and 32 MiB of payload or
// one letter; more is refused with an error that wraps [persist.ErrInvalid].
func (s *Store) RetryDeadLetters(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
	const op = "retry dead letters"
	if len(retries) > maxRetry {
		return nil, invalid(op, s.name, "%d letters, at most %d fit into one call", len(retries), maxRetry)
	}
	msgs, err := s.opts.limits().CheckRetries(op, s.identity, retries)
	if err != nil {
		return nil, err
	}
	numbers := make([]int64, len(retries))
	bytes := 0
	for i := range retries {
		numbers[i] = retries[i].Number
		bytes += len(msgs[i].Payload)
	}
	if bytes > maxRetryBytes && len(retries) > 1 {
		return nil, invalid(op, s.name, "%d bytes of payload, at most %d fit into one call", bytes, maxRetryBytes)
	}
	if len(retries) == 0 {
		return nil, nil
	}
	out := make([]persist.Retried, len(retries))
	for range retryAttempts {
		again, err := s.retryLetters(ctx, op, retries, msgs, numbers, out)
		if err != nil {
			return nil, err
		}
		if !again {
			s.notifier.wake()
			return out, nil
		}
	}
	return nil, refuse(op, s.name, persist.ErrUnavailable)
}

// luaMissing is what retry.lua answers if a letter is gone.
const luaMissing = 2

// retryLetters looks which letters are there and moves them in one step, unless
// one of them is gone by then.
func (s *Store) retryLetters(
	ctx context.Context, op string, retries []persist.Retry, all []persist.Message, wanted []int64, out []persist.Retried,
) (again bool, err error) {
	type named struct{ group, key string }
	found := make(map[int64]named, len(wanted))
	err = s.eachNumbered(ctx, op, persist.DeadLetterFilter{Numbers: wanted}, func(d *persist.DeadLetter) bool {
		found[d.Number] = named{d.Group, d.Key}
		return true
	})
	if err != nil {
		return false, err
	}
	var there []int // of retries
	var chosen []int64
	var msgs []persist.Message
	var buckets, fields []string
	for i := range retries {
		n, ok := found[retries[i].Number]
		out[i] = persist.Retried{Gone: !ok}
		if !ok {
			continue
		}
		there, chosen, msgs = append(there, i), append(chosen, retries[i].Number), append(msgs, all[i])
		if n.key != "" && !retries[i].KeepMark {
			field := fieldOf(n.key)
			buckets = append(buckets, s.groupOf(n.group).bucket(bucketOf(field)))
			fields = append(fields, field)
		}
	}
	if len(msgs) == 0 {
		return false, nil
	}
	var l lines
	l.number(s, msgs)
	names := []string{s.keys.totals, s.keys.ids, s.keys.dead, s.keys.fates}
	l.args = append(l.args, s.keys.wake, s.handle, s.opts.limitsText(), len(l.lanes))
	for _, lane := range l.lanes {
		names = s.keys.appendLane(names, lane)
		l.args = append(l.args, lane)
	}
	names = append(names, s.keys.fates, s.keys.gave, s.keys.latest)
	l.args = numbers(append(l.args, len(chosen)), chosen)
	l.messages(msgs, l.index)
	for _, field := range fields {
		l.args = append(l.args, field)
	}
	answer, err := s.do(ctx, op, s.name, s.run.retry, append(names, buckets...), l.args...)
	if err != nil {
		return false, err
	}
	if full := asFull(answer); full != nil {
		return false, &persist.Error{Op: op, Object: s.name, Kind: persist.ErrOutboxFull, Err: full}
	}
	if code, ok := answer.(int64); ok && code == luaMissing {
		return true, nil
	}
	places := make([]persist.Enqueued, len(msgs))
	if err := readPlaces(asText(answer), places); err != nil {
		return false, &persist.Error{Op: op, Object: s.name, Kind: persist.ErrUnknownOutcome, Err: err}
	}
	for n, i := range there {
		out[i].Enqueued = places[n]
	}
	return false, nil
}

// PurgeDeadLetters deletes letters; see [persist.DeadLetters]. It does so a few
// hundred at a time: what a call that fails has deleted stays deleted.
func (s *Store) PurgeDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) (int, error) {
	const op = "purge dead letters"
	if err := s.checkLimit(op, limit); err != nil {
		return 0, err
	}
	purged := 0
	for purged < limit {
		var part []int64
		err := s.eachLetter(ctx, op, filter, min(lettersPage, limit-purged), func(d *persist.DeadLetter) bool {
			part = append(part, d.Number)
			return len(part) < min(lettersPage, limit-purged)
		})
		if err != nil || len(part) == 0 {
			return purged, err
		}
		answer, err := s.do(ctx, op, s.name, s.run.deadDelete, s.lettersKeys(), numbers(nil, part)...)
		if err != nil {
			return purged, err
		}
		purged += int(asInt(answer))
		filter.After = part[len(part)-1]
	}
	return purged, nil
}

func (s *Store) checkLimit(op string, limit int) error {
	if limit > 0 {
		return nil
	}
	return invalid(op, s.name, "limit is %d, must be positive", limit)
}
