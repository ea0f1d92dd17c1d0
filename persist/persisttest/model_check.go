package persisttest

import (
	"fmt"
	"maps"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/persist"
)

// modelLetter is one dead letter; its number is learned when it is first
// listed.
type modelLetter struct {
	letter persist.DeadLetter
}

// bury moves an entry to the dead letters.
func (m *model) bury(e *modelEntry, state persist.State, code byte, reason string) {
	m.remove(e, persist.Fate{State: state, ReasonCode: code, LastError: reason})
	first, last := e.first, e.reason
	if state == persist.StateFailed {
		last = reason
		if first == "" {
			first = reason
		}
	}
	m.letters = append(m.letters, &modelLetter{letter: persist.DeadLetter{
		First: persist.Failure{Error: first}, Last: persist.Failure{Error: last},
		Side: persist.SideOutbox, State: state, Ref: e.ref, Message: e.msg, ReasonCode: code, Reason: reason, Attempts: e.attempts,
	}})
}

func (m *model) addLetters(t *rapid.T) {
	letters := make([]persist.DeadLetter, rapid.IntRange(1, 3).Draw(t, "letters"))
	for i := range letters {
		m.serial++
		letters[i] = letter(fmt.Sprint("letter", m.serial))
		letters[i].Group = drawGroup(t)
		m.letters = append(m.letters, &modelLetter{letter: letters[i]})
	}
	require.NoError(m, m.store.AddDeadLetters(m.ctx, letters))
}

// chooseLetters draws a filter and a limit, and selects by them.
func (m *model) chooseLetters(t *rapid.T) (filter persist.DeadLetterFilter, limit int, chosen []*modelLetter) {
	filter.Side = persist.Side(rapid.IntRange(0, 2).Draw(t, "side"))
	filter.Group = rapid.SampledFrom([]string{"", "", "g"}).Draw(t, "group")
	limit = rapid.IntRange(1, 4).Draw(t, "limit")
	if len(m.letters) > 0 && rapid.IntRange(0, 2).Draw(t, "by number") == 0 {
		filter.Numbers = []int64{rapid.SampledFrom(m.letters).Draw(t, "letter").letter.Number, 1 << 40}
	}
	for _, l := range m.letters {
		if len(chosen) < limit && (filter.Side == 0 || filter.Side == l.letter.Side) &&
			(filter.Group == "" || filter.Group == l.letter.Group) &&
			(filter.Numbers == nil || filter.Numbers[0] == l.letter.Number) {
			chosen = append(chosen, l)
		}
	}
	return filter, limit, chosen
}

// discard takes letters out; what they told of their messages is gone.
func (m *model) discard(letters []*modelLetter) {
	m.letters = slices.DeleteFunc(m.letters, func(l *modelLetter) bool { return slices.Contains(letters, l) })
	for _, l := range letters {
		if l.letter.Side == persist.SideOutbox {
			m.fates[l.letter.Ref] = gone()
		}
	}
}

func (m *model) purgeLetters(t *rapid.T) {
	filter, limit, chosen := m.chooseLetters(t)
	n, err := m.store.PurgeDeadLetters(m.ctx, filter, limit)
	require.NoError(m, err)
	require.Equal(m, len(chosen), n)
	m.discard(chosen)
}

func (m *model) retryLetters(t *rapid.T) {
	filter, limit, chosen := m.chooseLetters(t)
	var fresh []persist.Message
	for _, l := range chosen {
		msg := l.letter.Message
		msg.Expiry, msg.Delay, msg.Supersede = 0, 0, false
		if !msg.Idempotent || !m.holder(msg.ID) &&
			!slices.ContainsFunc(fresh, func(f persist.Message) bool { return f.ID == msg.ID && known(f) }) {
			fresh = append(fresh, msg)
		}
	}
	room := m.room(fresh)
	full := !room.Fits()
	if full && slices.ContainsFunc(fresh, func(msg persist.Message) bool { return msg.Droppable }) {
		t.Skip("the store's choice what gives way")
	}
	n, err := m.retry(filter, limit)
	if full {
		m.refused(room.Full(), err)
		return
	}
	require.NoError(m, err)
	require.Equal(m, len(chosen), n)
	m.discard(chosen)
	for _, msg := range fresh {
		m.add(msg) // where, the next listing tells
	}
}

// check compares all that can be seen.
func (m *model) check(*rapid.T) {
	for _, l := range m.lanes {
		stored := m.stored(l.number)
		require.Len(m, stored, len(l.entries), "messages in lane %d", l.number)
		for i, e := range l.entries {
			if e.ref.Position == 0 {
				m.placed(e, stored[i].Ref)
			}
			m.same(e, stored[i])
		}
	}
	m.checkLetters()
	m.checkStats()
	for client, s := range m.sessions {
		m.sameSession(s, m.load(client, s.epoch)) // which raises no epoch
	}
	refs := slices.Collect(maps.Keys(m.fates))
	for _, l := range m.lanes {
		for _, e := range l.entries {
			refs = append(refs, e.ref)
		}
	}
	for i, fate := range m.lookup(refs...) {
		if want, settled := m.fates[refs[i]]; settled {
			require.Equal(m, want, fate, "the fate of %v", refs[i])
		} else {
			require.Equal(m, m.find(refs[i]).state, fate.State, "the state of %v", refs[i])
		}
	}
}

func (m *model) checkLetters() {
	letters := m.env.letters(persist.DeadLetterFilter{})
	require.Len(m, letters, len(m.letters), "dead letters")
	last := int64(0)
	for i, l := range m.letters {
		require.Greater(m, letters[i].Number, last)
		last = letters[i].Number
		if l.letter.Number != 0 {
			require.Equal(m, l.letter.Number, letters[i].Number, "a letter's number changed")
		}
		want := l.letter
		if want.Side == persist.SideOutbox { // the suite looks at the times
			want.First.At, want.Last.At = letters[i].First.At, letters[i].Last.At
			require.Equal(m, want.First.Error == "", want.First.At.IsZero())
			require.Equal(m, want.Last.Error == "", want.Last.At.IsZero())
		}
		sameLetter(m.env, want, letters[i])
		l.letter.Number = letters[i].Number
	}
}

func (m *model) checkStats() {
	var want persist.Stats
	infos := make([]int64, len(m.lanes))
	oldest := m.now
	for _, l := range m.lanes {
		for _, e := range l.entries {
			if e.state == persist.StatePending {
				infos[l.number]++
				want.Pending++
				oldest = min(oldest, e.enqueued)
			} else {
				want.Delivered++
			}
		}
	}
	for _, l := range m.letters {
		switch {
		case l.letter.Side == persist.SideConsumer:
			want.ConsumerDead++
		case l.letter.State == persist.StateExpired:
			want.Expired++
		default:
			want.Failed++
		}
	}
	want.Dropped, want.Superseded = m.dropped, m.superseded
	want.Bytes, want.Limits = m.bytes(), m.limits
	stats := m.stats()
	m.around(m.now-oldest, stats.OldestPending, "oldest pending")
	require.Len(m, stats.Lanes, len(m.lanes))
	for i, l := range m.lanes {
		require.Equal(m, infos[i], stats.Lanes[i].Pending, "pending in lane %d", i)
		require.Equal(m, l.epoch, stats.Lanes[i].Epoch, "epoch of lane %d", i)
		require.Equal(m, l.held(m.now), stats.Lanes[i].Remaining > 0, "lease of lane %d", i)
	}
	var completed, inWork int64 // at least
	for _, k := range m.keys {
		if k.gone {
			continue
		}
		if k.standing == keyCompleted && m.now < k.until {
			completed++
		} else if k.standing == keyInWork && m.now < k.until {
			inWork++
		}
	}
	require.GreaterOrEqual(m, stats.Completed, completed)
	require.GreaterOrEqual(m, stats.InWork, inWork)
	require.LessOrEqual(m, stats.Completed+stats.InWork, int64(len(m.keys)), "processed keys")
	stats.Lanes, stats.OldestPending, stats.Completed, stats.InWork, stats.Groups = nil, 0, 0, 0, nil
	require.Equal(m, want, stats)
}

// sameAge looks at how old an entry may still get.
func (m *model) sameAge(e *modelEntry, got persist.Entry) {
	if m.limits.Age == 0 {
		require.Zero(m, got.AgeLeft)
		return
	}
	m.around(e.enqueued+m.limits.Age-m.now, got.AgeLeft, "age left")
}

// same compares an entry with the model's.
func (m *model) same(e *modelEntry, got persist.Entry) {
	require.Equal(m, e.ref, got.Ref)
	m.sameMessage(e.msg, got.Message)
	require.Equal(m, e.state, got.State, "state of %s", e.msg.ID)
	require.Equal(m, e.attempts, got.Attempts, "attempts of %s", e.msg.ID)
	require.Equal(m, e.reason, got.LastError, "last error of %s", e.msg.ID)
	if e.msg.Expiry == 0 {
		require.Zero(m, got.Message.Expiry)
		return
	}
	m.around(e.enqueued+e.msg.Expiry-m.now, got.Message.Expiry, "expiry left")
}
