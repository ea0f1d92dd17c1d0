package postgres

import (
	"context"
	"fmt"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// LoadSession reads packet state; see [persist.Sessions].
func (s *Store) LoadSession(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
	const op = "load session"
	var stored []byte
	held := false
	err := s.do(ctx, op, clientID, writes, func() []step {
		stored, held = nil, false
		return []step{{
			stmt: s.q.sessionLoad, args: []any{storedKey(clientID), []byte(clientID), epoch},
			row: func(r row) error {
				held = true
				return r.Scan(&stored)
			},
		}}
	})
	if err != nil {
		return nil, err
	}
	if !held {
		return nil, refuse(op, clientID, persist.ErrLeaseLost)
	}
	states, err := wire.DecodeSession(stored)
	if err != nil {
		return nil, &persist.Error{Op: op, Object: clientID, Err: err} // wraps ErrCorrupt
	}
	return states, nil
}

// SaveSession writes packet state; see [persist.Sessions].
func (s *Store) SaveSession(ctx context.Context, session persist.Session) error {
	return s.save(ctx, session, s.q.sessionSave)
}

// SaveSession writes packet state under the lease; see [persist.Lane].
func (l *lane) SaveSession(ctx context.Context, clientID string, states []persist.PacketState) error {
	return l.s.save(ctx, persist.Session{ClientID: clientID, Epoch: l.epoch, Number: l.saves.Add(1), States: states}, l.s.q.sessionSaveHeld, int16(l.number))
}

// save runs a statement that saves a session, with more arguments of its own.
func (s *Store) save(ctx context.Context, session persist.Session, stmt *statement, more ...any) error {
	const op = "save session"
	if session.Number < 0 {
		return invalid(op, session.ClientID, fmt.Errorf("number is %d, must not be negative", session.Number))
	}
	states, err := wire.AppendSession([]byte{}, session.States) // not NULL
	if err != nil {
		return invalid(op, session.ClientID, err)
	}
	var changed int64
	err = s.do(ctx, op, session.ClientID, writes, func() []step {
		changed = 0
		return []step{{
			stmt:    stmt,
			args:    append([]any{storedKey(session.ClientID), []byte(session.ClientID), session.Epoch, session.Number, states}, more...),
			changed: &changed,
		}}
	})
	if err == nil && changed == 0 {
		err = refuse(op, session.ClientID, persist.ErrLeaseLost)
	}
	return err
}
