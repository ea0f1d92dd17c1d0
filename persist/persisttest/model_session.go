package persisttest

import (
	"cmp"
	"maps"
	"slices"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/persist"
)

// modelSession is the packet state of one client ID.
type modelSession struct {
	epoch  int64
	states map[exchange]persist.PacketState
}

// exchange is a packet identifier with its direction.
type exchange struct {
	id       uint16
	received bool
}

// drawSession draws a client, and an epoch about that of its session.
func (m *model) drawSession(t *rapid.T) (client string, s *modelSession, epoch int64) {
	client = rapid.SampledFrom([]string{"client", ""}).Draw(t, "client")
	s = m.sessions[client]
	if s == nil {
		s = &modelSession{states: make(map[exchange]persist.PacketState)}
		m.sessions[client] = s
	}
	return client, s, max(s.epoch+int64(rapid.SampledFrom([]int{0, 0, 0, 1, -1}).Draw(t, "epoch")), 0)
}

func (m *model) loadSession(t *rapid.T) {
	client, s, epoch := m.drawSession(t)
	states, err := m.store.LoadSession(m.ctx, client, epoch)
	if epoch < s.epoch {
		require.ErrorIs(m, err, persist.ErrLeaseLost)
		return
	}
	require.NoError(m, err)
	s.epoch = epoch
	m.sameSession(s, states)
}

func (m *model) saveSession(t *rapid.T) {
	client, s, epoch := m.drawSession(t)
	change := persist.SessionChange{ClientID: client, Epoch: epoch, Clear: rapid.IntRange(0, 5).Draw(t, "clear") == 0}
	id := rapid.Uint16Range(1, 4)
	change.Delete = rapid.SliceOfN(id, 0, 2).Draw(t, "delete")
	change.DeleteReceived = rapid.SliceOfN(id, 0, 2).Draw(t, "delete received")
	for _, id := range rapid.SliceOfNDistinct(id, 0, 3, rapid.ID[uint16]).Draw(t, "put") {
		m.serial++
		change.Put = append(change.Put, persist.PacketState{
			PacketID: id, Step: persist.PacketStep(rapid.IntRange(1, 3).Draw(t, "step")), Position: 7, Sequence: int64(m.serial),
		})
	}
	err := m.store.SaveSession(m.ctx, change)
	if epoch < s.epoch {
		require.ErrorIs(m, err, persist.ErrLeaseLost)
		return
	}
	require.NoError(m, err)
	s.epoch = epoch
	if change.Clear {
		clear(s.states)
	}
	for _, id := range change.Delete {
		delete(s.states, exchange{id, false})
	}
	for _, id := range change.DeleteReceived {
		delete(s.states, exchange{id, true})
	}
	for _, p := range change.Put {
		s.states[exchange{p.PacketID, p.Step == persist.StepReceived}] = p
	}
}

// sameSession compares packet states, which come in the order of their
// sequence.
func (m *model) sameSession(s *modelSession, got []persist.PacketState) {
	want := slices.SortedFunc(maps.Values(s.states), func(a, b persist.PacketState) int { return cmp.Compare(a.Sequence, b.Sequence) })
	if len(want) == 0 {
		require.Empty(m, got)
		return
	}
	require.Equal(m, want, got)
}
