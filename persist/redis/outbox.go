package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// maxLanes is the most lanes a store can have.
const maxLanes = 64

// What one call takes in at most. It is one script, during which the server serves
// nobody else, and which cannot be cut up since the call is all or none: 4 to 20
// microseconds a message, 4 milliseconds a mebibyte. A single message may be larger.
const (
	maxCallMessages = 10_000
	maxCallBytes    = 32 << 20
)

// lookupRefs is how many messages one script looks up.
const lookupRefs = 1000

// Enqueue stores messages; see [persist.Outbox]. A call has at most 10,000
// messages and 32 MiB of payload, or one message; more is refused with an error
// that wraps [persist.ErrInvalid].
func (s *Store) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	c, err := newAddition(s.name, s.opts.limits(), msgs)
	if err != nil || len(msgs) == 0 {
		return nil, err
	}
	if err := s.adder.submit(ctx, s, c); err != nil {
		return nil, err
	}
	return c.out, nil
}

// checkMessages refuses messages that cannot be stored.
func checkMessages(op, object string, limits persist.Limits, msgs []persist.Message) error {
	if len(msgs) > maxCallMessages {
		return invalid(op, object, "%d messages, at most %d fit into one call", len(msgs), maxCallMessages)
	}
	bytes := 0
	for i := range msgs {
		m := &msgs[i]
		if err := limits.CheckMessage(m); err != nil {
			return &persist.Error{Op: op, Object: fmt.Sprintf("message %d", i), Kind: persist.ErrInvalid, Err: err}
		}
		bytes += len(m.Payload)
	}
	if bytes > maxCallBytes && len(msgs) > 1 {
		return invalid(op, object, "%d bytes of payload, at most %d fit into one call", bytes, maxCallBytes)
	}
	return nil
}

// Lookup tells what became of messages; see [persist.Outbox]. It looks at a
// thousand at a time, so that the answers for many are not of one moment.
func (s *Store) Lookup(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
	const op = "lookup"
	fates := make([]persist.Fate, len(refs))
	if len(refs) == 0 {
		return fates, nil
	}
	names := []string{s.keys.fates, s.keys.dead}
	for i := range s.keys.lanes {
		names = append(names, s.keys.lanes[i].messages, s.keys.lanes[i].states)
	}
	args := make([]any, 0, 2*min(len(refs), lookupRefs))
	for from := 0; from < len(refs); from += lookupRefs {
		part := refs[from:min(from+lookupRefs, len(refs))]
		args = args[:0]
		for _, ref := range part {
			lane, position := ref.Lane, ref.Position
			if lane < 0 || lane >= s.lanes || position < 1 {
				lane, position = 0, 0 // nothing is there
			}
			args = append(args, lane, position)
		}
		answer, err := s.do(ctx, op, s.name, s.run.lookup, names, args...)
		if err != nil {
			return nil, err
		}
		rows := asList(answer)
		if len(rows) != len(part) {
			return nil, strange(op, s.name)
		}
		for i, row := range rows {
			fates[from+i] = fateOf(asList(row))
		}
	}
	return fates, nil
}

// fateOf reads state, reason code and reason.
func fateOf(f []any) persist.Fate {
	state := asInt(at(f, 0))
	if state < 0 {
		return persist.Fate{State: persist.StateDelivered, Gone: true}
	}
	if persist.State(state) >= persist.StateDropped {
		return persist.FateOf(persist.State(state))
	}
	return persist.Fate{State: persist.State(state), ReasonCode: byte(asInt(at(f, 1))), LastError: asText(at(f, 2))}
}

// Lanes describes every lane; see [persist.Outbox].
func (s *Store) Lanes(ctx context.Context) ([]persist.LaneInfo, error) {
	const op = "list lanes"
	names := make([]string, s.lanes)
	for i := range names {
		names[i] = s.keys.lanes[i].hash
	}
	answer, err := s.do(ctx, op, s.name, s.run.lanes, names)
	if err != nil {
		return nil, err
	}
	rows := asList(answer)
	if len(rows) != s.lanes+1 {
		return nil, strange(op, s.name)
	}
	infos := make([]persist.LaneInfo, s.lanes)
	for i := range infos {
		infos[i] = laneInfo(i, asList(rows[i+1]), asInt(rows[0]))
	}
	return infos, nil
}

// laneInfo reads owner, epoch, holder, end of the lease and pending.
func laneInfo(lane int, f []any, now int64) persist.LaneInfo {
	info := persist.LaneInfo{Lane: lane, Owner: asText(at(f, 0)), Epoch: asInt(at(f, 1)), Pending: asInt(at(f, 4))}
	if asInt(at(f, 2)) != 0 {
		info.Remaining = time.Duration(asInt(at(f, 3))-now) * time.Millisecond
	}
	return info
}

// AnnounceRelay keeps owner among the live relays; see [persist.Outbox].
func (s *Store) AnnounceRelay(ctx context.Context, owner string, ttl time.Duration) ([]string, error) {
	const op = "announce relay"
	if owner == "" || ttl < 0 {
		return nil, invalid(op, owner, "a name is needed, and a ttl that is not negative")
	}
	answer, err := s.do(ctx, op, owner, s.run.relays, []string{s.keys.relays}, owner, millis(ttl))
	if err != nil {
		return nil, err
	}
	var live []string
	for _, name := range asList(answer) {
		live = append(live, asText(name))
	}
	slices.Sort(live)
	return live, nil
}

func laneName(number int) string { return "lane " + strconv.Itoa(number) }

// millis is a duration in whole milliseconds, rounded up, so that what is not
// zero does not become it. It is bounded so that no time of the store leaves the
// six bytes that it is kept in.
func millis(d time.Duration) int64 {
	const most = 2000 * 365 * 24 * 3600 * 1000
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return min(ms, most)
}
