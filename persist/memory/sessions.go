package memory

import (
	"context"
	"slices"

	"github.com/oncemq/oncemq/persist"
)

// session is the packet state of one client ID.
type session struct {
	epoch  int64
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
	known.epoch = epoch
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
	return l.store.save(persist.Session{ClientID: clientID, Epoch: l.epoch, States: states})
}

// save replaces what is known of a client ID. The caller holds s.mu.
func (s *Store) save(session persist.Session) error {
	for i := range session.States {
		if p := &session.States[i]; p.Step < persist.StepPublished || p.Step > persist.StepReceived {
			return refuse("save", "session", "packet %d has step %d", p.PacketID, p.Step)
		}
	}
	known, err := s.session("save", session.ClientID, session.Epoch)
	if err != nil {
		return err
	}
	known.states = append(known.states[:0], session.States...)
	return nil
}
