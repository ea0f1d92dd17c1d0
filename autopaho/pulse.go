package autopaho

import (
	"sync/atomic"
	"time"
)

// pulse tells whether a loop moves. It beats when it begins a round, and rests while
// it waits for what it cannot hurry: an event, or the store. A loop that neither
// beats nor rests is stuck, in a hook of the user's or in a mistake of ours.
type pulse struct{ at atomic.Int64 } // Unix nanoseconds; zero at rest

func (p *pulse) beat(now time.Time) { p.at.Store(now.UnixNano()) }
func (p *pulse) rest()              { p.at.Store(0) }

// pause rests for a call, and tells whether the pulse was beating, which resume is
// to be told.
func (p *pulse) pause() (beating bool) { return p.at.Swap(0) != 0 }

func (p *pulse) resume(beating bool) {
	if beating {
		p.beat(time.Now())
	}
}

// stuck is for how long the loop has not moved, if that is longer than limit.
func (p *pulse) stuck(now time.Time, limit time.Duration) (time.Duration, bool) {
	at := p.at.Load()
	if at == 0 {
		return 0, false
	}
	d := now.Sub(time.Unix(0, at))
	return d, d > limit
}
