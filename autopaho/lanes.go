package autopaho

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/oncemq/oncemq/persist"
)

const (
	// handOverPoll is how often a relay that could drain more lanes than it does
	// looks for free ones: a store's notifications may not cross processes.
	handOverPoll = 200 * time.Millisecond
	// lookPause is the least time between two looks: there is a notification for
	// every commit.
	lookPause = 50 * time.Millisecond
)

// shares is how the lanes of a store are shared out among the live relays, as far
// as this one knows. Each takes free lanes up to its target and gives back what it
// has beyond; since all compute the targets from the same names, these add up to
// the number of lanes. It is used by relay.run alone.
type shares struct {
	live   []string // the names of the live relays; nil if that is not known
	target int
	asked  time.Time         // when the store was asked last
	free   map[int]time.Time // since when lanes have been seen free
	// unknown are the free ones that are this relay's own, unknown to it: nobody
	// else can have them, so that they are taken to be given back, if beyond the target.
	unknown map[int]bool
}

// targetOf is how many of the lanes the relay of that rank drains.
func targetOf(rank, relays, lanes int) int {
	n := lanes / relays
	if rank < lanes%relays {
		n++
	}
	return n
}

// announce keeps this relay among the live ones and learns its target. While the
// store does not tell, it keeps what it has and takes what is free.
func (r *relay) announce() {
	s := &r.shares
	s.asked = time.Now()
	lease := r.client.cfg.Relay.Lease
	ctx, cancel := context.WithTimeout(r.looking, lease/3)
	defer cancel()
	var live []string
	err := r.patience.call(ctx, func(ctx context.Context) (err error) {
		live, err = r.store.AnnounceRelay(ctx, r.owner, lease)
		return err
	})
	rank := slices.Index(live, r.owner)
	if err != nil || rank < 0 {
		s.live, s.target = nil, r.lanes
		if err != nil {
			r.trouble("announce relay", err)
		}
		return
	}
	if !slices.Equal(live, s.live) {
		r.ownUp()
	}
	s.live, s.target = live, targetOf(rank, len(live), r.lanes)
	if r.lanes == 1 {
		s.target = 1 // anybody who finds it free takes it
	}
}

// announceWaiting announces a relay that waits for the only lane. Its holder need
// not be announced; it asks for the others before it stands aside.
func (r *relay) announceWaiting() {
	if r.lanes == 1 && !r.holdsAll() && time.Since(r.shares.asked) >= r.client.cfg.Relay.Lease/3 {
		r.announce()
	}
}

// withdraw tells the others that they share the lanes out without this relay. It
// does so before a lane is released, so that whoever finds it free may take it.
func (r *relay) withdraw() {
	defer close(r.withdrawn)
	r.depart()
}

// depart takes this relay's name off the list of the live ones.
func (r *relay) depart() {
	if r.shares.asked.IsZero() {
		return // it is not on it
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), closeTimeout/2)
	defer cancel()
	if _, err := r.store.AnnounceRelay(ctx, r.owner, 0); err != nil {
		r.trouble("withdraw relay", err) // it is forgotten with time
	}
}

// look takes lanes that are free or gives one back, as the relay's share demands,
// and tells when to look again.
func (r *relay) look(wg *sync.WaitGroup, ended chan<- *drain) time.Duration {
	s, cfg := &r.shares, &r.client.cfg.Relay
	if r.standsAside() {
		return min(handOverPoll, cfg.Poll)
	}
	if r.lanes > 1 && time.Since(s.asked) >= cfg.Lease/3 {
		r.announce()
	}
	if r.holdsAll() {
		r.shed()
		if r.lanes == 1 {
			return cfg.Poll
		}
		return max(0, cfg.Lease/3-time.Since(s.asked))
	}
	again := min(handOverPoll, cfg.Poll)
	infos, err := r.infos()
	if err != nil {
		r.trouble("look for free lanes", err)
		return again
	}
	free := r.noteFree(infos)
	if len(free) == 0 {
		r.announceWaiting()
		r.shed() // not before the lane given back last was taken by another
		return again
	}
	if r.lanes > 1 && r.working() >= s.target && time.Since(s.asked) >= lookPause {
		// Perhaps its holder has closed or died, and the targets have changed.
		r.announce()
	}
	for _, n := range free {
		// A lane that those whose turn it is leave free, for whatever reason, is
		// anybody's after a while: a share must not keep messages waiting.
		left := time.Since(s.free[n]) > cfg.Lease
		if r.closing() || r.resting(n) || r.working() >= s.target && !left && !s.unknown[n] {
			continue
		}
		r.take(n, left && r.working() >= s.target, wg, ended)
	}
	r.announceWaiting()
	return again
}

// noteFree returns the lanes that nobody holds, and keeps since when. A lane that
// this relay holds and does not drain counts as free: the answer to its AcquireLane,
// or its Release, was lost.
func (r *relay) noteFree(infos []persist.LaneInfo) []int {
	var free []int
	clear(r.shares.unknown)
	for _, info := range infos {
		own := info.Remaining > 0 && info.Owner == r.owner && !r.holds(info.Lane)
		if own {
			r.shares.unknown[info.Lane] = true
		}
		switch since := r.shares.free; {
		case info.Remaining > 0 && !own || r.holds(info.Lane):
			delete(since, info.Lane)
		default:
			free = append(free, info.Lane)
			if _, seen := since[info.Lane]; !seen {
				since[info.Lane] = time.Now()
			}
		}
	}
	return free
}

// take tries to get a lane and starts its drain. An adopted lane is one beyond
// the relay's target.
func (r *relay) take(n int, adopted bool, wg *sync.WaitGroup, ended chan<- *drain) {
	lease := r.client.cfg.Relay.Lease
	ctx, cancel := context.WithTimeout(r.ctx, lease)
	defer cancel()
	asked := time.Now()
	var lane persist.Lane
	err := r.patience.call(ctx, func(ctx context.Context) (err error) {
		lane, err = r.store.AcquireLane(ctx, n, r.owner, lease)
		return err
	})
	if errors.Is(err, persist.ErrLeaseHeld) {
		return // somebody was faster
	}
	if err != nil {
		r.trouble("acquire a lane", err)
		return
	}
	delete(r.shares.free, n)
	if r.closing() {
		if err := lane.Release(ctx); err != nil {
			r.trouble("release lane", err)
		}
		return
	}
	d := newDrain(r, lane, newTenure(asked, lease))
	r.mu.Lock()
	d.adopted = adopted
	r.drains[n] = d
	r.mu.Unlock()
	r.client.cfg.Logger.InfoContext(r.ctx, "lane taken", "lane", n, "epoch", lane.Epoch())
	wg.Go(func() {
		err := d.run()
		if err != nil {
			r.drained(d, err)
		}
		r.client.cfg.Logger.InfoContext(r.ctx, "lane given up", "lane", n, "epoch", lane.Epoch(), "reason", r.reason(err))
		ended <- d // has room for every lane
	})
}

// reason says why a lane was given up.
func (r *relay) reason(err error) string {
	switch {
	case err != nil:
		return err.Error()
	case r.closing():
		return "closing"
	}
	return "it is another relay's share"
}

// shed begins to give back a lane if there are more than the relay's target, one
// at a time.
func (r *relay) shed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	surplus := -r.shares.target
	var last *drain
	for n, d := range r.drains {
		switch {
		case d.yielding:
			return
		case d.adopted:
			continue
		}
		surplus++
		if last == nil || n > last.lane.Number() {
			last = d
		}
	}
	if surplus > 0 {
		last.yielding = true
		close(last.yield)
	}
}

// ownUp counts adopted lanes as any other: other relays are live than when their
// like left them free, and may have them.
func (r *relay) ownUp() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.drains {
		d.adopted = false
	}
}

// working is how many lanes are drained and not being given back.
func (r *relay) working() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, d := range r.drains {
		if !d.yielding {
			n++
		}
	}
	return n
}
