package sqlite

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/oncemq/oncemq/internal/wire"
	"github.com/oncemq/oncemq/persist"
)

// LoadSession reads packet state; see [persist.Sessions].
func (s *Store) LoadSession(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
	const op = "load session"
	t := &loadTask{call: newCall(op, clientID, 1), clientID: clientID, epoch: epoch}
	if err := s.submit(ctx, t); err != nil {
		return nil, err
	}
	states, err := wire.DecodeSession(t.states)
	if err != nil {
		return nil, &persist.Error{Op: op, Object: clientID, Err: err} // wraps ErrCorrupt
	}
	return states, nil
}

type loadTask struct {
	call
	clientID string
	epoch    int64
	states   []byte
}

func (t *loadTask) run(ctx context.Context, tx *txn) error {
	t.states = nil
	var dest [1]driver.Value
	found, err := queryRow(ctx, tx, dest[:], tx.q.sessionLoad, t.clientID, t.epoch)
	if err != nil {
		return err
	}
	if !found {
		return t.refuse(persist.ErrLeaseLost)
	}
	t.states, _ = dest[0].([]byte)
	return nil
}

// SaveSession writes packet state; see [persist.Sessions].
func (s *Store) SaveSession(ctx context.Context, session persist.Session) error {
	return s.save(ctx, session, nil)
}

// SaveSession writes packet state under the lease; see [persist.Lane].
func (l *lane) SaveSession(ctx context.Context, clientID string, states []persist.PacketState) error {
	return l.s.save(ctx, persist.Session{ClientID: clientID, Epoch: l.epoch, Number: l.saves.Add(1), States: states}, l)
}

func (s *Store) save(ctx context.Context, session persist.Session, l *lane) error {
	const op = "save session"
	if session.Number < 0 {
		err := fmt.Errorf("number is %d, must not be negative", session.Number)
		return &persist.Error{Op: op, Object: session.ClientID, Kind: persist.ErrInvalid, Err: err}
	}
	states, err := wire.AppendSession(nil, session.States)
	if err != nil {
		return &persist.Error{Op: op, Object: session.ClientID, Kind: persist.ErrInvalid, Err: err}
	}
	return s.submit(ctx, &saveTask{
		call: newCall(op, session.ClientID, 1), l: l, clientID: session.ClientID,
		epoch: session.Epoch, number: session.Number, states: states,
	})
}

type saveTask struct {
	call
	l        *lane // whose lease must be held; may be nil
	clientID string
	epoch    int64
	number   int64
	states   []byte
}

func (t *saveTask) run(ctx context.Context, tx *txn) error {
	if t.l != nil {
		if held, err := t.l.held(ctx, tx); err != nil {
			return err
		} else if !held {
			return t.refuse(persist.ErrLeaseLost)
		}
	}
	n, err := tx.exec(ctx, tx.q.sessionSave, t.clientID, t.epoch, t.number, t.states)
	if err == nil && n == 0 {
		return t.refuse(persist.ErrLeaseLost)
	}
	return err
}
