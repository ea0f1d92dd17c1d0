package memory

import (
	"context"
	"slices"

	"github.com/oncemq/oncemq/persist"
)

// session is the packet state of one client ID.
type session struct {
	epoch  int64
	number int64 // of the save that states are of
	states []persist.PacketState
}

// session returns what is known of a client ID, for the holder of an epoch,
// and remembers the epoch [SESSION-1] [SESSION-3]. The caller holds s.mu.
func (s *Store) session(op, clientID string, epoch int64) (*session, error) {
	known := s.sessions[clientID]
	if known == nil {
		known = &session{epoch: epoch}
		s.sessions[clientID] = known
	}
	if epoch < known.epoch {
		return nil, fail(op, "session", persist.ErrLeaseLost)
	}
	if epoch > known.epoch {
		known.epoch, known.number = epoch, 0
	}
	return known, nil
}

// LoadSession implements persist.Sessions.
func (s *Store) LoadSession(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "load", "session"); err != nil {
		return nil, err
	}
	known, err := s.session("load", clientID, epoch)
	if err != nil {
		return nil, err
	}
	return slices.Clone(known.states), nil
}

// SaveSession implements persist.Sessions.
func (s *Store) SaveSession(ctx context.Context, session persist.Session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "save", "session"); err != nil {
		return err
	}
	return s.save(session)
}

// SaveSession implements persist.Lane.
func (l *lane) SaveSession(ctx context.Context, clientID string, states []persist.PacketState) error {
	l.store.mu.Lock()
	defer l.store.mu.Unlock()
	if _, err := l.held(ctx, "save session"); err != nil {
		return err
	}
	l.saves++
	return l.store.save(persist.Session{ClientID: clientID, Epoch: l.epoch, Number: l.saves, States: states})
}

// save replaces what is known of a client ID. The caller holds s.mu.
func (s *Store) save(session persist.Session) error {
	if session.Number < 0 {
		return refuse("save", "session", "number is %d, must not be negative", session.Number)
	}
	for i := range session.States {
		if p := &session.States[i]; p.Step < persist.StepPublished || p.Step > persist.StepReceived {
			return refuse("save", "session", "packet %d has step %d", p.PacketID, p.Step)
		}
	}
	known, err := s.session("save", session.ClientID, session.Epoch)
	if err != nil {
		return err
	}
	if session.Number < known.number {
		return nil // it is late [SESSION-6]
	}
	known.number = session.Number
	known.states = append(known.states[:0], session.States...)
	return nil
}
