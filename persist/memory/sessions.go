package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/oncemq/oncemq/persist"
)

// session is the packet state of one client ID.
type session struct {
	epoch     int64
	exchanges map[exchange]persist.PacketState
}

// exchange is a packet identifier with its direction: client and server give
// theirs out independently (MQTT 5, section 2.2.1).
type exchange struct {
	id       uint16
	received bool
}

// session returns what is known of a client ID, for the holder of an epoch,
// and remembers the epoch [SESSION-1] [SESSION-3]. The caller holds s.mu.
func (s *Store) session(op, clientID string, epoch int64) (*session, error) {
	known := s.sessions[clientID]
	if known == nil {
		known = &session{epoch: epoch, exchanges: make(map[exchange]persist.PacketState)}
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
	return slices.SortedFunc(maps.Values(known.exchanges), func(a, b persist.PacketState) int {
		return cmp.Compare(a.Sequence, b.Sequence)
	}), nil
}

// SaveSession implements persist.Sessions.
func (s *Store) SaveSession(ctx context.Context, change persist.SessionChange) error {
	for i := range change.Put {
		if p := &change.Put[i]; p.Step < persist.StepPublished || p.Step > persist.StepReceived {
			return refuse("save", "session", "packet %d has step %d", p.PacketID, p.Step)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "save", "session"); err != nil {
		return err
	}
	known, err := s.session("save", change.ClientID, change.Epoch)
	if err != nil {
		return err
	}
	if change.Clear {
		clear(known.exchanges)
	}
	for _, id := range change.Delete {
		delete(known.exchanges, exchange{id, false})
	}
	for _, id := range change.DeleteReceived {
		delete(known.exchanges, exchange{id, true})
	}
	for _, p := range change.Put {
		known.exchanges[exchange{p.PacketID, p.Step == persist.StepReceived}] = p
	}
	return nil
}
