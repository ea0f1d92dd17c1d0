package redis

import (
	"cmp"
	"context"
	"slices"

	"github.com/oncemq/oncemq/persist"
)

// Settle records what became of messages; see [persist.Lane].
func (l *lane) Settle(ctx context.Context, settlements []persist.Settlement) error {
	const op = "settle"
	for i := range settlements {
		st := &settlements[i]
		if st.Outcome > persist.OutcomeSuperseded || st.ReceiptTimeout < 0 {
			return invalid(op, laneName(l.number), "settlement of position %d with outcome %d and receipt time-out %s",
				st.Position, st.Outcome, st.ReceiptTimeout)
		}
	}
	if err := l.settle(ctx, op, settlements); err != nil {
		return err
	}
	l.remember(settlements)
	return nil
}

// remember keeps the list of returned messages. They need no mark in the
// store: to a new holder every unsettled message is new.
func (l *lane) remember(settlements []persist.Settlement) {
	for i := range settlements {
		position := settlements[i].Position
		at, found := slices.BinarySearch(l.returned, position)
		switch returned := settlements[i].Outcome == persist.OutcomeReturned; {
		case returned && !found:
			l.returned = slices.Insert(l.returned, at, position)
		case !returned && found:
			l.returned = slices.Delete(l.returned, at, at+1)
		}
	}
}

// delivery is a settlement with OutcomeDelivered; in milliseconds.
type delivery struct{ position, timeout int64 }

// The outcomes in settle.lua.
const (
	luaRetry      = 1
	luaFailed     = 2
	luaExpired    = 3
	luaSuperseded = 4
)

// settle records settlements. Acknowledgements come nearly in order, so that the
// positions form few runs of consecutive numbers; runs are what the script gets.
func (l *lane) settle(ctx context.Context, op string, settlements []persist.Settlement) error {
	args := append(l.lease(3+4*len(settlements)), l.number, l.lateDue+1, 0)
	counted := len(args) - 1
	delivered := make([]delivery, 0, len(settlements))
	others := 0
	for i := range settlements {
		st := &settlements[i]
		outcome := 0
		switch st.Outcome {
		case persist.OutcomeDelivered:
			if st.Position > 0 {
				delivered = append(delivered, delivery{st.Position, millis(st.ReceiptTimeout)})
			}
			continue
		case persist.OutcomeRetry:
			outcome = luaRetry
		case persist.OutcomeFailed:
			outcome = luaFailed
		case persist.OutcomeExpired:
			outcome = luaExpired
		case persist.OutcomeSuperseded:
			outcome = luaSuperseded
		case persist.OutcomeReturned:
			continue // see remember
		}
		if st.Position <= 0 {
			continue
		}
		others++
		args = append(args, st.Position, outcome, int(st.ReasonCode), st.Reason)
	}
	args[counted] = others

	slices.SortStableFunc(delivered, func(a, b delivery) int { return cmp.Compare(a.position, b.position) })
	for all := delivered; len(all) > 0; {
		n := 1
		for n < len(all) && all[n].timeout == all[0].timeout && all[n].position <= all[n-1].position+1 {
			n++
		}
		args = append(args, all[0].position, all[n-1].position, all[0].timeout, l.bytesOf(all[:n]))
		all = all[n:]
	}
	if _, err := l.do(ctx, op, l.s.run.settle, l.keys, args...); err != nil {
		return err
	}
	for i := range settlements {
		if outcome := settlements[i].Outcome; outcome != persist.OutcomeRetry && outcome != persist.OutcomeReturned {
			delete(l.plain, settlements[i].Position)
		}
	}
	return nil
}

// bytesOf is what the messages of a run have in bytes; -1 if it is not known that
// all of them are plain.
func (l *lane) bytesOf(run []delivery) (sum int64) {
	for i, d := range run {
		if i > 0 && d.position == run[i-1].position {
			continue
		}
		bytes, ok := l.plain[d.position]
		if !ok {
			return -1
		}
		sum += bytes
	}
	return sum
}

// Acknowledge records receipts; see [persist.Lane].
func (l *lane) Acknowledge(ctx context.Context, receipts []persist.Receipt) ([]bool, error) {
	const op = "acknowledge"
	args := append(l.lease(1+3*len(receipts)), l.number)
	for i := range receipts {
		args = append(args, receipts[i].ID, receipts[i].Failed, receipts[i].Reason)
	}
	f, err := l.do(ctx, op, l.s.run.acknowledge, l.keys, args...)
	if err != nil {
		return nil, err
	}
	return flags(op, laneName(l.number), f[1:], len(receipts))
}

// flags are n answers that are 1 or 0.
func flags(op, object string, list []any, n int) ([]bool, error) {
	if len(list) != n {
		return nil, strange(op, object)
	}
	out := make([]bool, n)
	for i := range out {
		out[i] = asInt(list[i]) == 1
	}
	return out, nil
}
