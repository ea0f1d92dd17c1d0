package autopaho

import "time"

// A relay that reaches the store and not the broker keeps its leases, and the
// messages of its lanes wait although another relay could send them. So one whose
// lanes have had no connection for a while, and that is not the only live one,
// stands aside: it withdraws, gives its lanes back, and comes again later.
//
// The last live relay never stands aside: when the broker is away for all, somebody
// holds every lane and connects as soon as it is back. Two that stand aside at the
// same moment leave lanes free, which ends the rest of both after a lease.
const (
	// asideAfter is for how many leases a relay goes without a connection, and
	// asideRest for how many it stays away then: each time for twice as long, up
	// to asideLongest.
	asideAfter   = 2
	asideRest    = 6
	asideLongest = 10 * time.Minute
)

// absence is why and until when a relay stands aside. It is used by relay.run
// alone.
type absence struct {
	looked time.Time // at the connections, the last time
	since  time.Time // when lanes were first seen without one; zero if they have one
	until  time.Time // no lane is taken before that
	rest   time.Duration
}

// standsAside tells whether the relay takes no lanes for now, and sees to it that
// it has none then.
func (r *relay) standsAside() bool {
	a, lease := &r.absence, r.client.cfg.Relay.Lease
	now := time.Now()
	if now.Before(a.until) {
		return !r.leftFree(now)
	}
	stood := now.Sub(a.looked) > lease // this process did: it cannot have connected
	a.looked = now
	switch connected, idle := r.connected(); {
	case connected:
		*a = absence{looked: now}
		return false
	case idle:
		a.since = time.Time{}
		return false
	case a.since.IsZero() || stood:
		a.since = now
	}
	if now.Sub(a.since) < asideAfter*lease {
		return false
	}
	if now.Sub(r.shares.asked) >= lease/3 {
		r.announce()
	}
	if len(r.shares.live) < 2 {
		return false // nobody would be there to send
	}
	a.rest = max(asideRest*lease, min(2*a.rest, asideLongest))
	r.client.cfg.Logger.WarnContext(r.ctx, "relay stands aside: it does not reach the broker",
		"for", now.Sub(a.since).Round(time.Second), "rest", a.rest)
	a.until, a.since = now.Add(a.rest), time.Time{}
	r.depart()
	r.shares.asked = time.Time{} // to be announced when it comes back
	r.yieldAll()
	return true
}

// connected tells whether one of the lanes has a connection, and whether there is
// no lane that could.
func (r *relay) connected() (connected, idle bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.drains {
		d.mu.Lock()
		link := d.link
		d.mu.Unlock()
		if link != nil && link.Engine().Snapshot().Connected {
			return true, false
		}
	}
	return false, len(r.drains) == 0
}

// leftFree ends the rest of a relay that stands aside if a lane that it does not
// hold has been free for the time of a lease.
func (r *relay) leftFree(now time.Time) bool {
	lease := r.client.cfg.Relay.Lease
	infos, err := r.infos()
	if err != nil {
		r.trouble("look for free lanes", err)
		return false
	}
	for _, n := range r.noteFree(infos) {
		if now.Sub(r.shares.free[n]) > lease {
			r.absence.until = time.Time{}
			return true
		}
	}
	return false
}

// yieldAll begins to give every lane back.
func (r *relay) yieldAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.drains {
		if !d.yielding {
			d.yielding = true
			close(d.yield)
		}
	}
}
