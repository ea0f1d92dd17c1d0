package memory

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// abandonedFor is how long a key is remembered after its lease ended without
// anybody completing, releasing or claiming it.
const abandonedFor = 24 * time.Hour

// markKey is a dedup key within its group.
type markKey struct{ group, key string }

// mark is what is known of one dedup key.
type mark struct {
	markKey
	standing standing
	owner    string
	epoch    int64
	attempts int
	// until is when the lease ends or the window closes, in milliseconds. A
	// released key keeps the end that its lease had.
	until int64
	slot  int  // index in marks.ring
	dead  bool // completed with a dead letter
}

// standing is what became of a key.
type standing uint8

const (
	inWork standing = iota
	released
	completed
)

// marks are all dedup keys. Epochs are counted for all of them together: a key
// that was forgotten and comes back has a higher one still [CLAIM-3].
type marks struct {
	byKey map[markKey]*mark
	// ring is visited by ExpireProcessed in turn, from hand on. A mark that is
	// taken out leaves its place to the last.
	ring  []*mark
	hand  int
	epoch int64
	count [3]int64 // by standing
	// groups are those that have claimed keys.
	groups map[string]struct{}
}

func (m *marks) add(key markKey) *mark {
	k := &mark{markKey: key, slot: len(m.ring)}
	m.byKey[key] = k
	if _, known := m.groups[key.group]; !known {
		m.groups[key.group] = struct{}{}
	}
	m.ring = append(m.ring, k)
	m.count[k.standing]++
	return k
}

func (m *marks) remove(k *mark) {
	last := len(m.ring) - 1
	m.ring[k.slot] = m.ring[last]
	m.ring[k.slot].slot = k.slot
	m.ring[last] = nil
	m.ring = m.ring[:last]
	delete(m.byKey, k.markKey)
	m.count[k.standing]--
}

func (m *marks) set(k *mark, to standing) {
	m.count[k.standing]--
	m.count[to]++
	k.standing = to
}

// mine returns the mark that a claim holds or has completed, or nil [CLAIM-5].
func (m *marks) mine(group string, claim persist.Claim) *mark {
	k := m.byKey[markKey{group, claim.Key}]
	if k == nil || k.epoch != claim.Epoch || k.standing == released {
		return nil
	}
	return k
}

// Claim implements persist.Processed.
func (s *Store) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	const op = "claim"
	if req.TTL <= 0 {
		return nil, refuse(op, "keys", "the lease must last; %v is no time", req.TTL)
	}
	seen := make(map[string]struct{}, len(req.Keys))
	for _, key := range req.Keys {
		seen[key] = struct{}{}
	}
	if len(seen) < len(req.Keys) {
		return nil, refuse(op, "keys", "a key occurs twice")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, op, "keys"); err != nil {
		return nil, err
	}
	now := s.now()
	claims := make([]persist.Claim, len(req.Keys))
	for i, key := range req.Keys {
		claims[i] = s.claim(req, key, now)
	}
	return claims, nil
}

// claim answers for one key. The caller holds s.mu.
func (s *Store) claim(req persist.ClaimRequest, key string, now int64) persist.Claim {
	k := s.marks.byKey[markKey{req.Group, key}]
	switch {
	case k == nil:
		k = s.marks.add(markKey{req.Group, key})
	case k.standing == completed && now < k.until: // [CLAIM-1]
		return persist.Claim{Key: key, State: persist.ClaimCompleted, Dead: k.dead}
	case k.standing == completed:
		k.attempts, k.dead = 0, false
	case k.standing == inWork && now < k.until: // [CLAIM-2]
		return persist.Claim{
			Key: key, State: persist.ClaimBusy, Owner: k.owner, Epoch: k.epoch, Attempts: k.attempts,
			Remaining: duration(k.until - now),
		}
	}
	s.marks.epoch++
	s.marks.set(k, inWork)
	k.owner, k.epoch, k.until = req.Owner, s.marks.epoch, now+millis(req.TTL)
	k.attempts++
	return persist.Claim{Key: key, State: persist.ClaimGranted, Epoch: k.epoch, Attempts: k.attempts}
}

// RenewClaims implements persist.Processed.
func (s *Store) RenewClaims(ctx context.Context, group string, claims []persist.Claim, ttl time.Duration) ([]bool, error) {
	const op = "renew"
	if ttl <= 0 {
		return nil, refuse(op, "claims", "the lease must last; %v is no time", ttl)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, op, "claims"); err != nil {
		return nil, err
	}
	until := s.now() + millis(ttl)
	held := make([]bool, len(claims))
	for i := range claims {
		if k := s.marks.mine(group, claims[i]); k != nil && k.standing == inWork {
			k.until, k.attempts = until, max(0, claims[i].Attempts)
			held[i] = true
		}
	}
	return held, nil
}

// Complete implements persist.Processed.
func (s *Store) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	const op = "complete"
	if window < time.Second {
		return nil, refuse(op, "claims", "the window is %v; it must be at least a second", window)
	}
	for i := range completions {
		if dead := completions[i].Dead; dead != nil {
			if err := checkDeadLetter(dead); err != nil {
				return nil, refuse(op, "claims", "%w", err)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, op, "claims"); err != nil {
		return nil, err
	}
	now := s.now()
	done := make([]bool, len(completions))
	for i := range completions {
		k := s.marks.mine(group, completions[i].Claim)
		if k == nil {
			continue
		}
		done[i] = true
		k.until = now + millis(window)
		if k.standing == completed {
			continue // its letter is there already
		}
		s.marks.set(k, completed)
		if dead := completions[i].Dead; dead != nil { // [CLAIM-6]
			k.dead = true
			s.deadLetters.add(now, *dead)
		}
	}
	return done, nil
}

// Release implements persist.Processed.
func (s *Store) Release(ctx context.Context, group string, claims []persist.Claim) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "release", "claims"); err != nil {
		return err
	}
	for i := range claims {
		if k := s.marks.mine(group, claims[i]); k != nil && k.standing == inWork {
			s.marks.set(k, released)
			k.attempts = max(0, claims[i].Attempts)
		}
	}
	return nil
}

// ExpireProcessed implements persist.Processed.
func (s *Store) ExpireProcessed(ctx context.Context, limit int) (int, error) {
	const op = "expire"
	if limit <= 0 {
		return 0, refuse(op, "processed keys", "the limit is %d; it must be positive", limit)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, op, "processed keys"); err != nil {
		return 0, err
	}
	now := s.now()
	forgotten := 0
	for range min(limit, len(s.marks.ring)) {
		if s.marks.hand >= len(s.marks.ring) {
			s.marks.hand = 0
		}
		k := s.marks.ring[s.marks.hand]
		until := k.until
		if k.standing == inWork {
			until += abandonedFor.Milliseconds()
		}
		if now < until {
			s.marks.hand++
			continue
		}
		s.marks.remove(k) // another is in its place now, and visited next
		forgotten++
	}
	return forgotten, nil
}

// Forget implements persist.Processed.
func (s *Store) Forget(ctx context.Context, group string, keys []string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.begin(ctx, "forget", "processed keys"); err != nil {
		return 0, err
	}
	forgotten := 0
	for _, key := range keys {
		if k := s.marks.byKey[markKey{group, key}]; k != nil && k.standing == completed {
			s.marks.remove(k)
			forgotten++
		}
	}
	return forgotten, nil
}
