package postgres

import (
	"context"
	"strconv"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Enqueue stores messages; see [persist.Outbox]. The end of ctx withdraws a call
// whose commit has not begun; once it has, the error wraps
// [persist.ErrUnknownOutcome] as well.
func (s *Store) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	t, err := s.newEnqueue(msgs)
	if err != nil || len(msgs) == 0 {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, translate(opEnqueue, s.name, err)
	}
	if err := s.enter(opEnqueue); err != nil {
		return nil, err
	}
	defer s.leave()
	if t.waits {
		err = s.conditional.submit(ctx, t)
	} else {
		err = s.plain.submit(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	return t.out, nil
}

const opEnqueue = "enqueue"

// Lookup tells what became of messages; see [persist.Outbox].
func (s *Store) Lookup(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
	fates := make([]persist.Fate, len(refs))
	if len(refs) == 0 {
		return fates, nil
	}
	at := make(map[int64]int, len(refs))
	positions := make([]int64, len(refs))
	for i, ref := range refs {
		positions[i] = ref.Position
		at[ref.Position] = i
	}
	err := s.do(ctx, "lookup", s.name, reads, func() []step {
		for i := range fates {
			fates[i] = persist.Fate{State: persist.StateDelivered, Gone: true}
		}
		return []step{{stmt: s.q.steer}, {stmt: s.q.outboxFates, args: []any{positions}, row: func(r row) error {
			var position int64
			var state, code int16
			var reason []byte
			if err := r.Scan(&position, &state, &code, &reason); err != nil {
				return err
			}
			if persist.State(state) >= persist.StateDropped {
				fates[at[position]] = persist.FateOf(persist.State(state))
				return nil
			}
			fates[at[position]] = persist.Fate{State: persist.State(state), ReasonCode: byte(code), LastError: string(reason)}
			return nil
		}}}
	})
	if err != nil {
		return nil, err
	}
	for i, ref := range refs { // the same place may be asked for twice
		fates[i] = fates[at[ref.Position]]
	}
	return fates, nil
}

// Lanes describes every lane; see [persist.Outbox].
func (s *Store) Lanes(ctx context.Context) ([]persist.LaneInfo, error) {
	var rows []laneRow
	err := s.do(ctx, "list lanes", s.name, reads, func() []step {
		rows = nil
		return []step{s.listLanes(&rows)}
	})
	if err != nil {
		return nil, err
	}
	lanes := make([]persist.LaneInfo, len(rows))
	for i := range rows {
		lanes[i] = rows[i].LaneInfo
	}
	return lanes, nil
}

// laneRow is a lane with all its counters.
type laneRow struct {
	persist.LaneInfo
	delivered, dropped, superseded, bytes int64
}

func (s *Store) listLanes(rows *[]laneRow) step {
	return step{stmt: s.q.laneList, row: func(r row) error {
		var l laneRow
		var number int16
		var owner []byte
		var left *int64
		if err := r.Scan(&number, &owner, &l.Epoch, &left, &l.Pending, &l.delivered, &l.dropped, &l.superseded, &l.bytes); err != nil {
			return err
		}
		l.Lane, l.Owner = int(number), string(owner)
		if left != nil {
			l.Remaining = time.Duration(*left) * time.Millisecond
		}
		*rows = append(*rows, l)
		return nil
	}}
}

func laneName(number int) string { return "lane " + strconv.Itoa(number) }

// millis is a duration in whole milliseconds, rounded up, so that what is not
// zero does not become it.
func millis(d time.Duration) int64 {
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms
}
