package persisttest

import (
	"fmt"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/internal/wire"
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

func (m *model) bytes() (n int64) {
	for _, l := range m.lanes {
		for _, e := range l.entries {
			n += sizeOf(e.msg)
		}
	}
	return n
}

// sizeOf is the size of a message as it is stored.
func sizeOf(msg persist.Message) int64 { return int64(wire.Size(&msg)) }

// add puts a message at the end of its lane.
func (m *model) add(msg persist.Message) *modelEntry {
	l := m.lanes[persist.LaneOf(msg.Key(), len(m.lanes))]
	e := &modelEntry{msg: msg, ref: persist.Ref{Lane: l.number}, enqueued: m.now}
	if msg.Delay > 0 {
		e.dueAt, e.late = m.now+msg.Delay, true
	}
	if msg.Supersede {
		for _, old := range l.entries {
			if old.msg.Supersede && !old.touched && old.msg.Key() == msg.Key() {
				m.remove(old, persist.FateOf(persist.StateSuperseded))
				m.superseded++
				break
			}
		}
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
		ID: fmt.Sprint("m", m.serial), Topic: "t", QoS: byte(m.serial % 3),
		OrderingKey: rapid.SampledFrom([]string{"", "a", "b", "c", "d"}).Draw(t, "key"),
	}
	msg.Payload = make([]byte, rapid.SampledFrom([]int{0, 1, 40}).Draw(t, "payload"))
	switch kind := rapid.IntRange(0, 5).Draw(t, "kind"); {
	case m.latest:
		msg.Supersede = true
		msg.OrderingKey = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "one of few keys")
	case kind < 3:
		msg.Receipt = true
	case kind == 3:
		msg.Supersede = true
	}
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
	drop := rapid.Bool().Draw(t, "droppable") && !m.latest
	for i := range msgs {
		msgs[i] = m.draw(t)
		msgs[i].Droppable = drop
		if drop {
			msgs[i].Supersede = false
		}
		if m.limits.CountsRoom() {
			msgs[i].OrderingKey = msgs[0].OrderingKey
		}
	}
	duplicate, fresh := m.duplicates(msgs)
	victims, full := m.victims(t, msgs, fresh)
	places, err := m.store.Enqueue(m.ctx, msgs)
	if full != nil {
		m.refused(full, err)
		return
	}
	for _, e := range victims {
		m.remove(e, persist.FateOf(persist.StateDropped))
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
			if fate, ended := m.fates[places[i].Ref]; ended { // by a message of the same call
				require.Equal(m, persist.StateSuperseded, fate.State)
				continue
			}
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

// refused demands the error of a full outbox, with what it says.
func (m *model) refused(want *persist.FullError, err error) {
	require.ErrorIs(m, err, persist.ErrOutboxFull)
	var full *persist.FullError
	require.ErrorAs(m, err, &full)
	require.Equal(m, want, full)
}

// room is what the outbox holds, and what it is to take.
func (m *model) room(fresh []persist.Message) persist.Room {
	room := persist.Room{Limits: m.limits, Messages: int64(m.size()), Bytes: m.bytes()}
	waiting := make(map[string]int64)
	for _, l := range m.lanes {
		for _, e := range l.entries {
			if e.msg.Supersede && !e.touched {
				waiting[e.msg.Key()] = sizeOf(e.msg)
			}
		}
	}
	for _, msg := range fresh {
		room.AddMessages++
		room.AddBytes += sizeOf(msg)
		if !msg.Supersede {
			continue
		}
		if old, ok := waiting[msg.Key()]; ok {
			room.AddMessages--
			room.AddBytes -= old
		}
		waiting[msg.Key()] = sizeOf(msg)
	}
	return room
}

// victims are the entries that give way to new messages, all of the lane and
// the kind of the first; or it tells which limit is in the way.
func (m *model) victims(t *rapid.T, msgs, fresh []persist.Message) (victims []*modelEntry, full *persist.FullError) {
	room := m.room(fresh)
	full = room.Full()
	var share persist.Share
	for _, msg := range fresh {
		if msg.Droppable {
			share.Messages++
			share.Bytes += sizeOf(msg)
		}
	}
	for _, e := range m.lanes[persist.LaneOf(msgs[0].Key(), len(m.lanes))].entries {
		if !room.Wants(share) {
			break
		}
		if e.state != persist.StatePending || !e.msg.Droppable {
			continue
		}
		if known(e.msg) && slices.ContainsFunc(msgs, func(msg persist.Message) bool { return msg.ID == e.msg.ID }) {
			// Whether it is a duplicate of what just gave way is not worth a rule.
			t.Skip("a message and its duplicate in one full outbox")
		}
		room.Take(&share, sizeOf(e.msg))
		victims = append(victims, e)
	}
	if room.Fits() {
		return victims, nil
	}
	return nil, full
}
