package autopaho

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// tenure is what a drain knows of its lease without asking the store, by this
// process's own clock. It ends a sixth of the lease before the lease does.
//
// Messages leave only while the store knows that this holder may send
// [LEASE-6], so that the next one can tell which messages were never sent:
//
//	renew                          engine, under its lock
//	1. Renew(sending) succeeds
//	2. sending is set              Take hands out, what it hands out is in flight
//	...
//	3. sending is cleared          Take hands out nothing
//	4. nothing is in flight,
//	   no connection is there
//	5. Renew(not sending)
//
// What Take hands out was committed before, and sending ends before the lease:
// so it is not newer than what step 1 has recorded, even if the process stood
// still in between. From step 3 on Take gives nothing; what it gave before was in
// flight before step 4 could look, or has been answered. A connection that comes
// up after step 3 therefore sends nothing until step 1 has been done once more.
type tenure struct {
	held    atomic.Pointer[span] // in which the lease is certainly ours
	sending atomic.Pointer[span] // in which messages may leave; nil if none may

	up      chan struct{} // holds one: a connection came up
	renewed chan struct{} // holds one: held was moved on
	lost    chan struct{} // closed once the lease is lost
}

// newTenure is of a lease that was asked for at that time.
func newTenure(asked time.Time, lease time.Duration) *tenure {
	t := &tenure{up: make(chan struct{}, 1), renewed: make(chan struct{}, 1), lost: make(chan struct{})}
	t.held.Store(&span{asked, lease - lease/6})
	return t
}

// span is a stretch of time by two clocks: the monotonic one, which nobody sets,
// and the wall clock, which goes on while the machine sleeps. It has ended when one
// of them says so.
type span struct {
	from   time.Time
	length time.Duration
}

func (s *span) covers(now time.Time) bool {
	return s != nil && s.reaches(now.Sub(s.from), now.Round(0).Sub(s.from.Round(0)))
}

// reaches is covers, for a time that is so much later by each clock.
func (s *span) reaches(monotonic, wall time.Duration) bool {
	return monotonic < s.length && wall < s.length
}

func (t *tenure) isHeld() bool               { return t.held.Load().covers(time.Now()) }
func (t *tenure) maySend(now time.Time) bool { return t.sending.Load().covers(now) }

// extend notes a renewal that was asked for at that time.
func (t *tenure) extend(asked time.Time, lease time.Duration, sending bool) {
	s := &span{asked, lease - lease/6}
	t.held.Store(s)
	if sending {
		t.sending.Store(s)
	}
	signal(t.renewed)
}

func (t *tenure) end() {
	t.sending.Store(nil)
	t.held.Store(nil)
	close(t.lost)
}

// permit waits until it is certain that the lease is ours: with the lane's client
// ID we would end the connection of the next holder.
func (t *tenure) permit(ctx context.Context) error {
	for !t.isHeld() {
		select {
		case <-t.renewed:
		case <-t.lost:
			return persist.ErrLeaseLost
		case <-ctx.Done():
			return errors.New("the store does not renew the lease of the lane, which others may have taken")
		}
	}
	return nil
}

// renewAgain is how long to wait before a renewal that failed is tried again
// although it is not due, since messages wait for it.
const renewAgain = 200 * time.Millisecond

// renew keeps the lease. It returns once the lease is lost.
func (d *drain) renew(ctx context.Context) {
	lease := d.client.cfg.Relay.Lease
	tick := time.NewTicker(lease / 3)
	defer tick.Stop()
	again := time.NewTimer(lease)
	again.Stop()
	sender := sender{drain: d}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-d.tenure.up:
			if d.tenure.maySend(time.Now()) {
				continue
			}
		case <-again.C:
		}
		sending := sender.sends()
		asked := time.Now()
		rctx, cancel := context.WithTimeout(ctx, lease/3)
		err := d.lane.Renew(rctx, lease, sending)
		cancel()
		d.client.store.note(err)
		switch {
		case err == nil:
			stopped := !d.tenure.maySend(time.Now())
			d.tenure.extend(asked, lease, sending)
			if stopped && sending {
				d.wakeEngine()
			}
		case errors.Is(err, persist.ErrLeaseLost):
			d.tenure.end() // the next holder sends
			d.lost <- fmt.Errorf("lane %d: %w", d.lane.Number(), err)
			return
		case ctx.Err() == nil:
			d.relay.trouble("renew lease", err)
			if sending && !d.tenure.maySend(time.Now()) {
				again.Reset(renewAgain)
			}
		}
	}
}

// sender tells whether a drain sends, or is about to.
type sender struct {
	drain *drain

	told       bool   // the store may know that we send
	generation uint64 // of the link, when it was looked at last
}

// sends is asked before each renewal. A link that was down, with nothing in
// flight, at two of them with no connection in between sends no more.
func (s *sender) sends() bool {
	engine := s.drain.engine()
	if engine == nil {
		return false
	}
	now := engine.Snapshot()
	still := now.Generation == s.generation
	s.generation = now.Generation
	if now.Connected {
		s.told = true
	}
	if !s.told || !still || now.Connected || now.InFlight > 0 {
		return s.told
	}
	s.drain.tenure.sending.Store(nil)
	// A connection may have come up before that.
	now = engine.Snapshot()
	s.told = now.Connected || now.InFlight > 0
	return s.told
}
