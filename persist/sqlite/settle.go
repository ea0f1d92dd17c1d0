package sqlite

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// never is the due of a delivered message whose receipt is awaited for ever.
const never = math.MaxInt64

// Settle records what became of messages; see [persist.Lane].
func (l *lane) Settle(ctx context.Context, settlements []persist.Settlement) error {
	t := l.newSettle("settle", settlements)
	for i := range settlements {
		st := &settlements[i]
		if st.Outcome > persist.OutcomeSuperseded || st.ReceiptTimeout < 0 {
			return &persist.Error{
				Op: t.op, Object: t.object, Kind: persist.ErrInvalid,
				Err: fmt.Errorf("settlement of position %d with outcome %d and receipt time-out %s",
					st.Position, st.Outcome, st.ReceiptTimeout),
			}
		}
	}
	if err := l.s.submit(ctx, t); err != nil {
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

// settleTask is one call of Settle.
type settleTask struct {
	call
	l           *lane
	settlements []persist.Settlement
	// minDue is after every due that the lane was handed out by, see lane.
	minDue int64

	delivered []delivery
	change    laneChange
}

// delivery is a settlement with OutcomeDelivered.
type delivery struct {
	position int64
	timeout  time.Duration
}

func (l *lane) newSettle(op string, settlements []persist.Settlement) *settleTask {
	return &settleTask{
		call: newCall(op, laneName(l.number), len(settlements)), l: l,
		settlements: settlements, minDue: l.lateDue + 1,
	}
}

func (t *settleTask) run(ctx context.Context, tx *txn) error {
	t.change = laneChange{}
	t.delivered = t.delivered[:0]
	if held, err := t.l.held(ctx, tx); err != nil {
		return err
	} else if !held {
		return t.refuse(persist.ErrLeaseLost)
	}
	for i := range t.settlements {
		st := &t.settlements[i]
		if st.Position <= t.l.below || st.Position >= t.l.above {
			continue // of another lane, so not here [OUTBOX-10]
		}
		var err error
		switch st.Outcome {
		case persist.OutcomeDelivered:
			if t.delivered == nil {
				t.delivered = make([]delivery, 0, len(t.settlements))
			}
			t.delivered = append(t.delivered, delivery{st.Position, st.ReceiptTimeout})
		case persist.OutcomeRetry:
			_, err = tx.exec(ctx, tx.q.settleRetry, st.Position, st.Reason, tx.now)
		case persist.OutcomeFailed:
			err = t.bury(ctx, tx, st, persist.StateFailed, 1) // this attempt
		case persist.OutcomeExpired:
			err = t.bury(ctx, tx, st, persist.StateExpired, 0)
		case persist.OutcomeSuperseded:
			err = t.giveWay(ctx, tx, st.Position)
		case persist.OutcomeReturned:
			// See lane.remember.
		}
		if err != nil {
			return err
		}
	}
	if err := t.deliver(ctx, tx); err != nil {
		return err
	}
	return t.change.write(ctx, tx, t.l.number)
}

// held tells whether the lease is still the holder's [LEASE-3].
func (l *lane) held(ctx context.Context, tx *txn) (bool, error) {
	var dest [2]driver.Value
	found, err := queryRow(ctx, tx, dest[:], tx.q.laneHolder, int64(l.number))
	return found && asInt(dest[0]) == l.epoch, err
}

// deliver settles what the broker acknowledged. Acknowledgements come nearly in
// order, so that the positions form few runs of consecutive numbers, and a run
// is one statement whatever its length.
func (t *settleTask) deliver(ctx context.Context, tx *txn) error {
	byPosition := func(a, b delivery) int { return cmp.Compare(a.position, b.position) }
	slices.SortFunc(t.delivered, byPosition)
	t.delivered = slices.CompactFunc(t.delivered, func(a, b delivery) bool { return a.position == b.position })
	for all := t.delivered; len(all) > 0; {
		n := 1
		for n < len(all) && all[n].position == all[n-1].position+1 {
			n++
		}
		if err := t.deliverRun(ctx, tx, all[:n]); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func (t *settleTask) deliverRun(ctx context.Context, tx *txn, run []delivery) error {
	first, last := run[0].position, run[len(run)-1].position
	var bytes [1]driver.Value
	if _, err := queryRow(ctx, tx, bytes[:], tx.q.settleBytes, first, last); err != nil {
		return err
	}
	deleted, err := tx.exec(ctx, tx.q.settleDelivered, first, last)
	if err != nil {
		return err
	}
	t.change.pending -= deleted
	t.change.bytes -= asInt(bytes[0])
	if deleted == int64(len(run)) {
		return nil
	}
	// The others asked for a receipt, or are gone.
	for len(run) > 0 {
		n := 1
		for n < len(run) && run[n].timeout == run[0].timeout {
			n++
		}
		if err := t.await(ctx, tx, run[0].position, run[n-1].position, run[0].timeout); err != nil {
			return err
		}
		run = run[n:]
	}
	return nil
}

// await keeps messages of a range that asked for a receipt.
func (t *settleTask) await(ctx context.Context, tx *txn, first, last int64, timeout time.Duration) error {
	due := int64(never)
	if timeout > 0 {
		due = max(tx.now+millis(timeout), t.minDue)
	}
	n, err := tx.exec(ctx, tx.q.settleAwaiting, first, last, due)
	t.change.pending -= n
	t.change.delivered += n
	return err
}

// bury moves a message to the dead letters [OUTBOX-11].
func (t *settleTask) bury(ctx context.Context, tx *txn, st *persist.Settlement, state persist.State, attempts int64) error {
	found, err := t.leaves(ctx, tx, st.Position)
	if err != nil || !found {
		return err
	}
	return buryMessage(ctx, tx, st.Position, state, st.ReasonCode, st.Reason, attempts)
}

// leaves counts a message that is about to leave the lane, if it is there.
func (t *settleTask) leaves(ctx context.Context, tx *txn, position int64) (found bool, err error) {
	var dest [2]driver.Value
	found, err = queryRow(ctx, tx, dest[:], tx.q.outboxState, position)
	if err != nil || !found {
		return false, err
	}
	t.change.left(persist.State(asInt(dest[0])), asInt(dest[1]))
	return true, nil
}

// giveWay deletes a message that its holder found superseded [OUTBOX-16].
func (t *settleTask) giveWay(ctx context.Context, tx *txn, position int64) error {
	found, err := t.leaves(ctx, tx, position)
	if err != nil || !found {
		return err
	}
	if _, err := tx.exec(ctx, tx.q.outboxDelete, position); err != nil {
		return err
	}
	t.change.superseded++
	return remember(ctx, tx, []int64{position}, persist.StateSuperseded)
}

// buryMessage moves a message that is there to the dead letters, adding to its
// attempts.
func buryMessage(ctx context.Context, tx *txn, position int64, state persist.State, code byte, reason string, attempts int64) error {
	_, err := tx.exec(ctx, tx.q.settleDead, position, int64(state), int64(code), reason, tx.now, attempts)
	if err != nil {
		return err
	}
	_, err = tx.exec(ctx, tx.q.outboxDelete, position)
	return err
}

// Acknowledge records receipts; see [persist.Lane].
func (l *lane) Acknowledge(ctx context.Context, receipts []persist.Receipt) ([]bool, error) {
	t := &receiptTask{call: newCall("acknowledge", laneName(l.number), len(receipts)), l: l, receipts: receipts}
	if err := l.s.submit(ctx, t); err != nil {
		return nil, err
	}
	return t.known, nil
}

// receiptTask is one call of Acknowledge.
type receiptTask struct {
	call
	l        *lane
	receipts []persist.Receipt
	known    []bool
}

func (t *receiptTask) run(ctx context.Context, tx *txn) error {
	t.known = make([]bool, len(t.receipts))
	if held, err := t.l.held(ctx, tx); err != nil {
		return err
	} else if !held {
		return t.refuse(persist.ErrLeaseLost)
	}
	var change laneChange
	for i := range t.receipts {
		r := &t.receipts[i]
		if !r.Failed {
			// Nearly always the message is delivered: one statement.
			var dest [1]driver.Value
			rows, err := tx.query(ctx, tx.q.receiptDelete, r.ID, t.l.below, t.l.above)
			err = eachRow(rows, err, dest[:], func() error {
				t.known[i] = true
				change.left(persist.StateDelivered, asInt(dest[0]))
				return nil
			})
			if err != nil {
				return err
			}
			if t.known[i] {
				continue
			}
		}
		if err := t.find(ctx, tx, i, &change); err != nil {
			return err
		}
	}
	return change.write(ctx, tx, t.l.number)
}

// find ends the messages that a receipt answers, whatever their state.
func (t *receiptTask) find(ctx context.Context, tx *txn, i int, change *laneChange) error {
	r := &t.receipts[i]
	var positions []int64
	var dest [3]driver.Value
	rows, err := tx.query(ctx, tx.q.receiptFind, r.ID, t.l.below, t.l.above)
	err = eachRow(rows, err, dest[:], func() error {
		t.known[i] = true
		positions = append(positions, asInt(dest[0]))
		change.left(persist.State(asInt(dest[1])), asInt(dest[2]))
		return nil
	})
	for _, position := range positions {
		if err != nil {
			break
		}
		if r.Failed {
			err = buryMessage(ctx, tx, position, persist.StateFailed, 0, r.Reason, 0)
		} else {
			_, err = tx.exec(ctx, tx.q.outboxDelete, position)
		}
	}
	return err
}
