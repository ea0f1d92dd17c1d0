package postgres

import (
	"context"
	"fmt"

	"github.com/oncemq/oncemq/persist"
)

// LoadSession reads packet state; see [persist.Sessions].
func (s *Store) LoadSession(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
	var states []persist.PacketState
	err := s.holdSession(ctx, "load session", clientID, epoch, func() []step {
		states = nil
		return []step{{stmt: s.q.packetList, args: []any{storedKey(clientID), epoch}, row: func(r row) error {
			var p persist.PacketState
			var id int32
			var phase int16
			err := r.Scan(&id, &phase, &p.Position, &p.Sequence)
			p.PacketID, p.Step = uint16(id), persist.PacketStep(phase)
			states = append(states, p)
			return err
		}}}
	})
	if err != nil {
		return nil, err
	}
	return states, nil
}

// SaveSession writes packet state; see [persist.Sessions].
func (s *Store) SaveSession(ctx context.Context, change persist.SessionChange) error {
	const op = "save session"
	for i := range change.Put {
		if phase := change.Put[i].Step; phase < persist.StepPublished || phase > persist.StepReceived {
			return invalid(op, change.ClientID, fmt.Errorf("packet %d: unknown step %d", change.Put[i].PacketID, phase))
		}
	}
	return s.holdSession(ctx, op, change.ClientID, change.Epoch, func() []step { return s.saveSteps(&change) })
}

func (s *Store) saveSteps(c *persist.SessionChange) []step {
	key := storedKey(c.ClientID)
	var steps []step
	if c.Clear {
		steps = append(steps, step{stmt: s.q.packetClear, args: []any{key, c.Epoch}})
	}
	for _, d := range []struct {
		received bool
		ids      []uint16
	}{{false, c.Delete}, {true, c.DeleteReceived}} {
		if len(d.ids) == 0 {
			continue
		}
		ids := make([]int32, len(d.ids))
		for i, id := range d.ids {
			ids[i] = int32(id)
		}
		steps = append(steps, step{stmt: s.q.packetDelete, args: []any{key, c.Epoch, d.received, ids}})
	}
	if n := len(c.Put); n > 0 {
		received, ids, phases := make([]bool, n), make([]int32, n), make([]int16, n)
		positions, sequences := make([]int64, n), make([]int64, n)
		for i, p := range c.Put {
			received[i], ids[i], phases[i] = p.Step == persist.StepReceived, int32(p.PacketID), int16(p.Step)
			positions[i], sequences[i] = p.Position, p.Sequence
		}
		steps = append(steps, step{stmt: s.q.packetPut, args: []any{key, c.Epoch, received, ids, phases, positions, sequences}})
	}
	return steps
}

// holdSession runs a transaction with the right to a session. Its statements must
// change nothing without it.
func (s *Store) holdSession(ctx context.Context, op, clientID string, epoch int64, build func() []step) error {
	held := false
	key := storedKey(clientID)
	err := s.do(ctx, op, clientID, writes, func() []step {
		held = false
		return append([]step{
			{stmt: s.q.steer},
			{stmt: s.q.sessionRaise, args: []any{key, []byte(clientID), epoch}},
			{stmt: s.q.sessionHold, args: []any{key, epoch}, row: func(r row) error {
				held = true
				return nil
			}},
		}, build()...)
	})
	if err == nil && !held {
		err = refuse(op, clientID, persist.ErrLeaseLost)
	}
	return err
}
