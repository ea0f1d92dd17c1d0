package persisttest

import (
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/persist"
)

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
		m.remove(e, gone())
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
