package dedup

import (
	"context"
	"sync"
	"time"
)

// clockTrust is for how long the store's time is carried on by our monotonic
// clock before the store is asked again.
const clockTrust = time.Minute

// clockError covers what the store's time may be off after clockTrust: fractions
// that a store leaves out, and two clocks that do not run at the same rate.
const clockError = 100 * time.Millisecond

// storeTime is a store's clock.
type storeTime interface {
	// Time is as in [persist.Store].
	Time(ctx context.Context) (time.Time, error)
}

// storeClock knows what time it is by the store. The wall clock of this process
// plays no part in it, but as a hint that the monotonic clock stood still: it
// does while a machine sleeps.
type storeClock struct {
	mu sync.Mutex // guards the following
	// told is what the store said; asked and answered are our own times of the
	// question and the answer, between which it was so.
	told            time.Time
	asked, answered time.Duration
	wall            time.Time // of the question, without the monotonic clock
}

// refresh asks the store if its time is unknown or was learned too long ago.
func (s *storeClock) refresh(ctx context.Context, p *limits, own func() time.Duration) error {
	asked, wall := own(), time.Now().Round(0)
	s.mu.Lock()
	age, byWall := asked-s.asked, wall.Sub(s.wall)
	fresh := !s.told.IsZero() && age < clockTrust && (byWall-age).Abs() < time.Second
	s.mu.Unlock()
	if fresh {
		return nil
	}
	told, err := call(ctx, p, callTime, p.store.Time)
	if err != nil {
		return err
	}
	answered := own()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told, s.asked, s.answered, s.wall = told.Round(0), asked, answered, wall
	return nil
}

// at is what the store's clock said at a time of this process, as well as we know;
// while the store was never asked, that time itself. started is the zero of our own
// time.
func (s *storeClock) at(t, started time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.told.IsZero() {
		t = s.told.Add(t.Sub(started) - (s.asked+s.answered)/2)
	}
	return t.Truncate(time.Millisecond)
}

// latest is a time that the store's clock does not exceed at our time own.
func (s *storeClock) latest(own time.Duration) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told.Add(own - s.asked + clockError)
}

// earliest is a time that the store's clock has reached at our time own.
func (s *storeClock) earliest(own time.Duration) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told.Add(own - s.answered - clockError)
}
