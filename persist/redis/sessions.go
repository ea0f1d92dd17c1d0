package redis

import (
	"context"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// statusStale is what the scripts of sessions answer to an epoch that is too low.
const statusStale = -1

// LoadSession reads packet state; see [persist.Sessions].
func (s *Store) LoadSession(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
	const op = "load session"
	answer, err := s.do(ctx, op, clientID, s.run.sessionLoad, []string{s.keys.session(clientID)}, epoch)
	if err != nil {
		return nil, err
	}
	if n, ok := answer.(int64); ok && n == statusStale {
		return nil, refuse(op, clientID, persist.ErrLeaseLost)
	}
	states, err := wire.DecodeSession([]byte(asText(answer)))
	if err != nil {
		return nil, &persist.Error{Op: op, Object: clientID, Err: err} // wraps ErrCorrupt
	}
	return states, nil
}

// SaveSession writes packet state under the lease; see [persist.Lane].
func (l *lane) SaveSession(ctx context.Context, clientID string, states []persist.PacketState) error {
	const op = "save session"
	stored, err := wire.AppendSession(nil, states)
	if err != nil {
		return invalid(op, clientID, "%w", err)
	}
	_, err = l.do(ctx, op, l.s.run.sessionSaveHeld, []string{l.keys[0], l.s.keys.session(clientID)}, append(l.lease(2), l.saves.Add(1), stored)...)
	return err
}

// SaveSession writes packet state; see [persist.Sessions].
func (s *Store) SaveSession(ctx context.Context, session persist.Session) error {
	const op = "save session"
	if session.Number < 0 {
		return invalid(op, session.ClientID, "number is %d, must not be negative", session.Number)
	}
	states, err := wire.AppendSession(nil, session.States)
	if err != nil {
		return invalid(op, session.ClientID, "%w", err)
	}
	answer, err := s.do(ctx, op, session.ClientID, s.run.sessionSave,
		[]string{s.keys.session(session.ClientID)}, session.Epoch, session.Number, states)
	if err == nil && asInt(answer) == statusStale {
		err = refuse(op, session.ClientID, persist.ErrLeaseLost)
	}
	return err
}
