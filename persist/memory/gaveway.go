package memory

import "github.com/oncemq/oncemq/persist"

// gaveWay remembers what became of messages that were dropped or superseded, the
// latest of them [OUTBOX-15].
type gaveWay struct {
	states map[persist.Ref]persist.State
	order  []persist.Ref // a ring, once it is full
	oldest int
}

func (g *gaveWay) add(ref persist.Ref, state persist.State) {
	if g.states == nil {
		g.states = make(map[persist.Ref]persist.State)
	}
	g.states[ref] = state
	if len(g.order) < persist.RememberedFates {
		g.order = append(g.order, ref)
		return
	}
	delete(g.states, g.order[g.oldest])
	g.order[g.oldest] = ref
	g.oldest = (g.oldest + 1) % len(g.order)
}

// giveWay takes an entry out of the outbox for another. The caller holds s.mu.
func (s *Store) giveWay(e *entry, state persist.State) {
	s.remove(e)
	s.given.add(e.Ref, state)
	if state == persist.StateSuperseded {
		s.superseded++
	} else {
		s.dropped++
	}
}

// waits tells whether a newer message of its key may take the place of an entry.
func (s *Store) waits(e *entry) bool {
	return e.message.Supersede && s.latest[e.message.Key()] == e
}

// handed is what being handed out means to an entry: it stays [OUTBOX-14]. The
// caller holds s.mu.
func (s *Store) handed(e *entry) {
	if s.waits(e) {
		delete(s.latest, e.message.Key())
	}
}
