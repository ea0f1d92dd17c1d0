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
	reason   string

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

func known(m persist.Message) bool { return m.Idempotent || m.Receipt }

// holder finds the entry that makes an idempotent message of that ID a
// duplicate.
func (m *model) holder(id string) bool {
	for _, l := range m.lanes {
		for _, e := range l.entries {
			if e.msg.ID == id && known(e.msg) {
				return true
			}
		}
	}
	return false
}

func (m *model) size() (n int) {
	for _, l := range m.lanes {
		n += len(l.entries)
	}
	return n
}

// add puts a message at the end of its lane.
func (m *model) add(msg persist.Message) *modelEntry {
	l := m.lanes[persist.LaneOf(msg.Key(), len(m.lanes))]
	e := &modelEntry{msg: msg, ref: persist.Ref{Lane: l.number}, enqueued: m.now}
	if msg.Delay > 0 {
		e.dueAt, e.late = m.now+msg.Delay, true
	}
	l.entries = append(l.entries, e)
	return e
}

// placed tells the model where an entry came to lie.
func (m *model) placed(e *modelEntry, ref persist.Ref) {
	l := m.lanes[e.ref.Lane]
	require.Equal(m, l.number, ref.Lane)
	require.Greater(m, ref.Position, l.last, "a position that is not the highest")
	e.ref, l.last = ref, ref.Position
}

// remove takes an entry out; its fate is what Lookup tells from now on.
func (m *model) remove(e *modelEntry, fate persist.Fate) {
	l := m.lanes[e.ref.Lane]
	l.entries = slices.DeleteFunc(l.entries, func(other *modelEntry) bool { return other == e })
	m.fates[e.ref] = fate
}

var gone = persist.Fate{State: persist.StateDelivered} //nolint:gochecknoglobals // never changed

// draw makes a message.
func (m *model) draw(t *rapid.T) persist.Message {
	m.serial++
	msg := persist.Message{
		ID: fmt.Sprint("m", m.serial), Topic: "t", QoS: byte(m.serial % 3), Payload: []byte(fmt.Sprint(m.serial)),
		OrderingKey: rapid.SampledFrom([]string{"", "a", "b", "c", "d"}).Draw(t, "key"),
	}
	msg.Receipt = rapid.Bool().Draw(t, "receipt")
	if rapid.Bool().Draw(t, "own ID") {
		msg.ID = rapid.SampledFrom([]string{"own1", "own2", "own3"}).Draw(t, "ID")
		msg.Idempotent = rapid.Bool().Draw(t, "idempotent")
	}
	switch rapid.IntRange(0, 4).Draw(t, "time") {
	case 0:
		msg.Delay = ticks(t, "delay", 3)
	case 1:
		msg.Expiry = ticks(t, "expiry", 20)
	}
	return msg
}

func (m *model) enqueue(t *rapid.T) {
	msgs := make([]persist.Message, rapid.IntRange(1, 4).Draw(t, "messages"))
	// With a limit a call keeps to one lane and one kind: which of several
	// lanes gives way first is the store's choice.
	drop := rapid.Bool().Draw(t, "droppable")
	for i := range msgs {
		msgs[i] = m.draw(t)
		msgs[i].Droppable = drop
		if m.limit > 0 {
			msgs[i].OrderingKey = msgs[0].OrderingKey
		}
	}
	duplicate, fresh := m.duplicates(msgs)
	victims, fits := m.victims(t, msgs, len(fresh))
	places, err := m.store.Enqueue(m.ctx, msgs)
	if !fits {
		require.ErrorIs(m, err, persist.ErrOutboxFull)
		return
	}
	for _, e := range victims {
		m.remove(e, gone)
	}
	m.dropped += int64(len(victims))
	require.NoError(m, err)
	require.Len(m, places, len(msgs))
	for i, msg := range msgs {
		require.Equal(m, duplicate[i], places[i].Duplicate, "duplicate")
		if duplicate[i] {
			continue
		}
		m.placed(m.add(msg), places[i].Ref)
	}
	for i, msg := range msgs {
		if duplicate[i] {
			e := m.find(places[i].Ref)
			require.NotNil(m, e, "the first of a duplicate")
			require.True(m, e.msg.ID == msg.ID && known(e.msg), "the place of the first")
		}
	}
}

// duplicates tells which messages the outbox has already, and which are new.
func (m *model) duplicates(msgs []persist.Message) (duplicate []bool, fresh []persist.Message) {
	duplicate = make([]bool, len(msgs))
	for i, msg := range msgs {
		duplicate[i] = msg.Idempotent && (m.holder(msg.ID) ||
			slices.ContainsFunc(fresh, func(f persist.Message) bool { return f.ID == msg.ID && known(f) }))
		if !duplicate[i] {
			fresh = append(fresh, msg)
		}
	}
	return duplicate, fresh
}

// victims are the entries that give way to n new messages, all of the lane and
// the kind of the first; it tells whether there is room then.
func (m *model) victims(t *rapid.T, msgs []persist.Message, n int) (victims []*modelEntry, fits bool) {
	over := m.size() + n - m.limit
	if m.limit == 0 || n == 0 || over <= 0 {
		return nil, true
	}
	for _, e := range m.lanes[persist.LaneOf(msgs[0].Key(), len(m.lanes))].entries {
		if !msgs[0].Droppable || e.state != persist.StatePending || !e.msg.Droppable || len(victims) == min(over, n) {
			continue
		}
		if known(e.msg) && slices.ContainsFunc(msgs, func(msg persist.Message) bool { return msg.ID == e.msg.ID }) {
			// Whether it is a duplicate of what just gave way is not worth a rule.
			t.Skip("a message and its duplicate in one full outbox")
		}
		victims = append(victims, e)
	}
	return victims, len(victims) >= over
}

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
	lane, err := m.store.AcquireLane(m.ctx, l.number, "owner", ttl)
	if l.held(m.now) {
		require.ErrorIs(m, err, persist.ErrLeaseHeld)
		return
	}
	require.NoError(m, err)
	require.Greater(m, lane.Epoch(), l.epoch)
	if l.lease != nil {
		l.lost = append(l.lost, l.lease)
	}
	l.lease, l.epoch, l.leaseEnd, l.released = lane, lane.Epoch(), m.now+ttl, false
	for _, e := range l.entries {
		e.handed = false
		e.late = e.awaiting || e.dueAt > m.now
	}
}

func (m *model) renew(t *rapid.T) {
	l, ttl := m.leased(t), ticks(t, "ttl", 5)
	require.NoError(m, l.lease.Renew(m.ctx, ttl))
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
		e.handed = true
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
				persist.OutcomeFailed, persist.OutcomeExpired, persist.OutcomeReturned,
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

// settled applies a settlement to the model.
func (m *model) settled(e *modelEntry, st persist.Settlement) {
	switch st.Outcome {
	case persist.OutcomeDelivered:
		if !e.msg.Receipt {
			m.remove(e, gone)
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
	case persist.OutcomeFailed:
		e.attempts++
		m.bury(e, persist.StateFailed, st.ReasonCode, st.Reason)
	case persist.OutcomeExpired:
		m.bury(e, persist.StateExpired, st.ReasonCode, st.Reason)
	case persist.OutcomeReturned:
		e.handed, e.late = false, true
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
			m.remove(e, gone)
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
		m.remove(e, gone)
	}
}
