package persisttest

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/persist"
)

// modelLane is one lane of the outbox and its leases.
type modelLane struct {
	number  int
	entries []*modelEntry // by position
	last    int64

	epoch    int64
	owner    string
	leaseEnd time.Duration
	released bool
	lease    persist.Lane   // the last one given out; nil after a crash
	lost     []persist.Lane // leases that must not be good any more
}

func (l *modelLane) held(now time.Duration) bool {
	return l.epoch > 0 && !l.released && now < l.leaseEnd
}

// good tells whether there is a lease that can be used.
func (l *modelLane) good() bool { return l.lease != nil && !l.released }

// modelEntry is one message of the outbox.
type modelEntry struct {
	msg      persist.Message
	ref      persist.Ref
	enqueued time.Duration
	state    persist.State
	attempts int
	reason   string // of the last refusal
	first    string // that of the first

	touched  bool          // was handed out, to any holder
	handed   bool          // to the present holder, and not returned since
	late     bool          // became due out of turn
	dueAt    time.Duration // a delay's end
	awaiting bool          // its receipt, with receiptDue, if that is not zero
	// receiptDue is when the receipt is overdue, and missed that a hand-out has
	// counted that already.
	receiptDue time.Duration
	missed     bool
}

// due tells whether Next may hand the entry out.
func (e *modelEntry) due(now time.Duration) bool {
	if e.awaiting {
		return e.receiptDue != 0 && now >= e.receiptDue && !e.handed
	}
	return !e.handed && now >= e.dueAt
}

// remove takes an entry out; its fate is what Lookup tells from now on.
func (m *model) remove(e *modelEntry, fate persist.Fate) {
	l := m.lanes[e.ref.Lane]
	l.entries = slices.DeleteFunc(l.entries, func(other *modelEntry) bool { return other == e })
	m.fates[e.ref] = fate
}

// gone is the fate of a message that is in the store no more.
func gone() persist.Fate { return persist.Fate{State: persist.StateDelivered, Gone: true} }

// find is the entry of a place, or nil.
func (m *model) find(ref persist.Ref) *modelEntry {
	for _, e := range m.lanes[ref.Lane].entries {
		if e.ref == ref {
			return e
		}
	}
	return nil
}

func (m *model) lane(t *rapid.T) *modelLane {
	return m.lanes[rapid.IntRange(0, len(m.lanes)-1).Draw(t, "lane")]
}

// leased draws a lane with a good lease, or skips the step.
func (m *model) leased(t *rapid.T) *modelLane {
	good := slices.DeleteFunc(slices.Clone(m.lanes), func(l *modelLane) bool { return !l.good() })
	if len(good) == 0 {
		t.Skip("no lane is leased")
	}
	return rapid.SampledFrom(good).Draw(t, "leased lane")
}

func (m *model) acquire(t *rapid.T) {
	l, ttl := m.lane(t), ticks(t, "ttl", 5)
	owner := rapid.SampledFrom([]string{"owner", "other", ""}).Draw(t, "owner")
	lane, err := m.store.AcquireLane(m.ctx, l.number, owner, ttl)
	if l.held(m.now) && (owner == "" || owner != l.owner) {
		require.ErrorIs(m, err, persist.ErrLeaseHeld)
		return
	}
	require.NoError(m, err)
	require.Greater(m, lane.Epoch(), l.epoch)
	if l.lease != nil {
		l.lost = append(l.lost, l.lease)
	}
	l.lease, l.epoch, l.released = lane, lane.Epoch(), false
	l.owner, l.leaseEnd = owner, m.now+ttl
	for _, e := range l.entries {
		e.handed = false
		e.late = e.awaiting || e.dueAt > m.now
	}
}

func (m *model) renew(t *rapid.T) {
	l, ttl := m.leased(t), ticks(t, "ttl", 5)
	require.NoError(m, l.lease.Renew(m.ctx, ttl, false))
	l.leaseEnd = m.now + ttl
}

func (m *model) release(t *rapid.T) {
	l := m.leased(t)
	require.NoError(m, l.lease.Release(m.ctx))
	l.released = true
}

// useLost calls a lane whose lease is not good any more.
func (m *model) useLost(t *rapid.T) {
	l := m.lane(t)
	lost := slices.Clone(l.lost)
	if l.lease != nil && l.released {
		lost = append(lost, l.lease)
	}
	if len(lost) == 0 {
		t.Skip("no lease was lost")
	}
	lane, position := rapid.SampledFrom(lost).Draw(t, "lease"), int64(1)
	if len(l.entries) > 0 {
		position = rapid.SampledFrom(l.entries).Draw(t, "entry").ref.Position
	}
	for name, call := range laneCalls(lane, position) {
		require.ErrorIs(m, call(m.ctx), persist.ErrLeaseLost, name)
	}
}

func (m *model) next(t *rapid.T) { m.hand(t, m.leased(t), rapid.IntRange(1, 6).Draw(t, "limit")) }

func (m *model) acquireAndDrain(t *rapid.T) {
	m.acquire(t)
	for _, l := range m.lanes {
		if l.good() {
			m.hand(t, l, 100)
		}
	}
}

// hand calls Next and compares what comes with what is due.
func (m *model) hand(t *rapid.T, l *modelLane, limit int) {
	var inTurn, late []*modelEntry
	for _, e := range l.entries {
		if e.due(m.now) && e.late {
			late = append(late, e)
		} else if e.due(m.now) {
			inTurn = append(inTurn, e)
		}
	}
	entries, err := l.lease.Next(m.ctx, limit, 1<<30)
	require.NoError(m, err)
	require.Len(m, entries, min(limit, len(inTurn)+len(late)), "messages due")
	for i := range entries {
		e := m.find(entries[i].Ref)
		require.NotNil(m, e, "%s is not in the outbox", entries[i].Message.ID)
		require.True(m, e.due(m.now), "%s was handed out already, or early", e.msg.ID)
		if !e.late {
			require.Equal(m, inTurn[0].msg.ID, e.msg.ID, "the order of positions")
			inTurn = inTurn[1:]
		}
		e.handed, e.touched = true, true
		m.sameAge(e, entries[i])
		if e.awaiting && !e.missed {
			e.missed = true
			e.attempts++
		}
		if e.awaiting { // a store may say either of what is sent once more
			require.Contains(m, []persist.State{persist.StatePending, persist.StateDelivered}, entries[i].State)
			e.state = entries[i].State
		}
		m.same(e, entries[i])
	}
}

// settle settles some of what the holder has, and places where nothing is.
func (m *model) settle(t *rapid.T) {
	l := m.leased(t)
	var chosen []*modelEntry
	for _, e := range l.entries {
		if e.handed && rapid.Bool().Draw(t, "settled") {
			chosen = append(chosen, e)
		}
	}
	slices.SortFunc(chosen, func(a, b *modelEntry) int { return cmp.Compare(a.ref.Position, b.ref.Position) })
	var settlements []persist.Settlement
	for ref := range m.fates {
		if ref.Lane == l.number {
			settlements = append(settlements, persist.Settlement{Position: ref.Position, Outcome: persist.OutcomeFailed, Reason: "gone"})
			break
		}
	}
	for _, e := range chosen {
		m.serial++
		st := persist.Settlement{
			Position: e.ref.Position,
			Outcome: rapid.SampledFrom([]persist.Outcome{
				persist.OutcomeDelivered, persist.OutcomeDelivered, persist.OutcomeRetry,
				persist.OutcomeFailed, persist.OutcomeExpired, persist.OutcomeReturned, persist.OutcomeSuperseded,
			}).Draw(t, "outcome"),
		}
		if st.Outcome != persist.OutcomeDelivered {
			st.Reason, st.ReasonCode = fmt.Sprint("reason ", m.serial), byte(0x80+m.serial%16)
		} else if rapid.Bool().Draw(t, "with time-out") {
			st.ReceiptTimeout = ticks(t, "receipt time-out", 5)
		}
		settlements = append(settlements, st)
		m.settled(e, st)
	}
	require.NoError(m, l.lease.Settle(m.ctx, settlements))
}

// awaitReceipts has all that is due delivered, and looks later what is overdue.
func (m *model) awaitReceipts(t *rapid.T) {
	l := m.leased(t)
	m.hand(t, l, 100)
	var settlements []persist.Settlement
	for _, e := range slices.Clone(l.entries) {
		if !e.handed {
			continue
		}
		st := persist.Settlement{Position: e.ref.Position, Outcome: persist.OutcomeDelivered}
		if rapid.Bool().Draw(t, "with time-out") {
			st.ReceiptTimeout = ticks(t, "receipt time-out", 2)
		}
		settlements = append(settlements, st)
		m.settled(e, st)
	}
	require.NoError(m, l.lease.Settle(m.ctx, settlements))
	m.advance(t)
	m.hand(t, l, 100)
}

// settled applies a settlement to the model.
func (m *model) settled(e *modelEntry, st persist.Settlement) {
	switch st.Outcome {
	case persist.OutcomeDelivered:
		if !e.msg.Receipt {
			m.remove(e, gone())
			return
		}
		e.state, e.awaiting, e.late, e.handed, e.missed = persist.StateDelivered, true, true, false, false
		e.receiptDue = 0
		if st.ReceiptTimeout > 0 {
			e.receiptDue = m.now + st.ReceiptTimeout
		}
	case persist.OutcomeRetry:
		e.attempts++
		e.reason = st.Reason
		if e.first == "" {
			e.first = st.Reason
		}
	case persist.OutcomeFailed:
		e.attempts++
		m.bury(e, persist.StateFailed, st.ReasonCode, st.Reason)
	case persist.OutcomeExpired:
		m.bury(e, persist.StateExpired, st.ReasonCode, st.Reason)
	case persist.OutcomeReturned:
		e.handed, e.late = false, true
	case persist.OutcomeSuperseded:
		m.remove(e, persist.FateOf(persist.StateSuperseded))
		m.superseded++
	}
}

func (m *model) acknowledge(t *rapid.T) {
	l := m.leased(t)
	candidates := []string{"unknown"}
	for _, e := range l.entries {
		if e.msg.Receipt {
			candidates = append(candidates, e.msg.ID)
		}
	}
	receipt := persist.Receipt{
		ID: rapid.SampledFrom(candidates).Draw(t, "ID"), Failed: rapid.Bool().Draw(t, "failed"), Reason: "given up",
	}
	var found []*modelEntry
	for _, e := range l.entries {
		if e.msg.ID == receipt.ID {
			found = append(found, e)
		}
	}
	if len(found) > 1 {
		t.Skip("one ID for several messages is its users' fault")
	}
	ok, err := l.lease.Acknowledge(m.ctx, []persist.Receipt{receipt})
	require.NoError(m, err)
	require.Equal(m, []bool{len(found) == 1}, ok)
	for _, e := range found {
		if receipt.Failed {
			m.bury(e, persist.StateFailed, 0, receipt.Reason)
		} else {
			m.remove(e, gone())
		}
	}
}

func (m *model) purge(t *rapid.T) {
	l := m.lane(t)
	req := persist.ListRequest{
		Lane: l.number, Limit: rapid.IntRange(1, 3).Draw(t, "limit"),
		States: rapid.SampledFrom([][]persist.State{nil, {persist.StatePending}, {persist.StateDelivered}}).Draw(t, "states"),
	}
	var victims []*modelEntry
	for _, e := range l.entries {
		if len(victims) < req.Limit && (req.States == nil || e.state == req.States[0]) {
			victims = append(victims, e)
		}
	}
	n, err := m.store.PurgeOutbox(m.ctx, req)
	require.NoError(m, err)
	require.Equal(m, len(victims), n)
	for _, e := range victims {
		m.remove(e, gone())
	}
}
