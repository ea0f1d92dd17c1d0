package persisttest

import (
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/oncemq/oncemq/persist"
)

// modelSession is the packet state of one client ID.
type modelSession struct {
	epoch  int64
	number int64 // of the save that states are of
	states []persist.PacketState
}

// drawSession draws a client, and an epoch about that of its session.
func (m *model) drawSession(t *rapid.T) (client string, s *modelSession, epoch int64) {
	client = rapid.SampledFrom([]string{"client", ""}).Draw(t, "client")
	s = m.sessions[client]
	if s == nil {
		s = &modelSession{}
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
	s.raise(epoch)
	m.sameSession(s, states)
}

func (m *model) saveSession(t *rapid.T) {
	client, s, epoch := m.drawSession(t)
	session := persist.Session{ClientID: client, Epoch: epoch, Number: s.drawNumber(t)}
	id := rapid.Uint16Range(1, 8)
	for _, id := range rapid.SliceOfNDistinct(id, 0, 6, rapid.ID[uint16]).Draw(t, "identifiers") {
		session.States = append(session.States, persist.PacketState{
			PacketID: id, Step: persist.PacketStep(rapid.IntRange(1, 3).Draw(t, "step")),
			Position: int64(rapid.IntRange(0, 3).Draw(t, "position")) + int64(id),
		})
	}
	err := m.store.SaveSession(m.ctx, session)
	if epoch < s.epoch {
		require.ErrorIs(m, err, persist.ErrLeaseLost)
		return
	}
	require.NoError(m, err)
	s.raise(epoch)
	if session.Number >= s.number { // else it is late
		s.number, s.states = session.Number, session.States
	}
}

// raise raises the epoch, with which numbers begin anew.
func (s *modelSession) raise(epoch int64) {
	if epoch > s.epoch {
		s.epoch, s.number = epoch, 0
	}
}

// drawNumber draws the number of a save, about that of the last one.
func (s *modelSession) drawNumber(t *rapid.T) int64 {
	return max(s.number+int64(rapid.SampledFrom([]int{1, 1, 0, -1}).Draw(t, "number")), 0)
}

// sameSession compares packet states, which come in the order in which they were
// saved.
func (m *model) sameSession(s *modelSession, got []persist.PacketState) {
	if len(s.states) == 0 {
		require.Empty(m, got)
		return
	}
	require.Equal(m, s.states, got)
}
