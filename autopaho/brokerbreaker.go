package autopaho

import (
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/qos"
)

const (
	// refusalsInARow open the broker's breaker: refusals of class Retry, such as
	// a quota that is used up, with no message taken in between. One topic that
	// is refused while others flow does not do it.
	refusalsInARow = 20
	// uselessInARow do so as well: attempts to connect that fail, and connections
	// that end before a message was taken.
	uselessInARow = 3
	// breakPause is how long nothing new is sent after that, and calmPeriod how
	// long a trial must go on without a refusal if nothing is answered at all:
	// there may be nothing to send.
	breakPause = 200 * time.Millisecond
	calmPeriod = time.Second
	// trialSize is how many messages try it. The least that the breaker lets
	// through is as many each breakPause.
	trialSize = 64
)

// brokerBreaker is the breaker around the broker's acceptance, for all lanes of a
// relay. It adds to what holds each message back on its own (the policy's
// backoff) and each connection (the waits before it is made again): a broker that
// refuses everything is not sent the rest of the backlog only to have it refused
// as well. What is in flight stays so, and a broker that is back is not made to
// wait: a new connection begins with the breaker half-open.
type brokerBreaker struct {
	breaker
	relay *relay

	// All guarded by mu.
	live    map[*drain]struct{} // those that are connected
	useless int                 // in a row
	timer   *time.Timer         // of the next move; nil if none is due
	last    time.Time           // when the last trial began
	left    int                 // how many messages are left of it
}

func newBrokerBreaker(r *relay) *brokerBreaker {
	b := &brokerBreaker{relay: r, live: make(map[*drain]struct{})}
	b.init(r.client, BreakerBroker, refusalsInARow, breakPause)
	b.moved = func(_, is BreakerState) {
		if is != BreakerOpen {
			r.wakeEngines()
		}
	}
	return b
}

// answered counts the broker's answers, a batch at a time.
func (b *brokerBreaker) answered(done []session.Completion) {
	taken, refused := false, 0
	var last *session.Completion
	for i := range done {
		switch c := &done[i]; {
		case c.Expired:
		case c.Class == qos.Success || c.Class == qos.NoSubscribers:
			taken = true
		case c.Class == qos.Retry:
			refused++
			last = c
		}
	}
	switch {
	case taken:
		b.accepted()
	case refused > 0:
		err := &DeliveryError{ID: last.Out.Message.ID, ReasonCode: last.Code, Reason: reasonText(last)}
		b.change(func() {
			for range min(refused, refusalsInARow) {
				b.record(err)
			}
			b.schedule()
		})
	}
}

func (b *brokerBreaker) accepted() {
	if !b.calm.Load() {
		b.change(b.end)
	}
}

// end closes the breaker, within change.
func (b *brokerBreaker) end() {
	b.useless = 0
	b.inner.RecordSuccess() // ends the row of refusals
	b.inner.Close()
	b.calm.Store(true)
	b.schedule()
}

// up tells that a lane has a connection. What it is good for is to be seen.
func (b *brokerBreaker) up(d *drain) {
	b.change(func() {
		b.live[d] = struct{}{}
		if b.status.State == BreakerOpen {
			b.try()
		}
		b.schedule()
	})
}

// down tells that a lane has none: the connection ended, with or without having
// been of use, or could not be made.
func (b *brokerBreaker) down(d *drain, err error, useful bool) {
	b.change(func() {
		delete(b.live, d)
		if !useful {
			b.calm.Store(false)
			b.lastErr = err
			b.useless++
		}
		// With another lane connected it may be this one's own trouble.
		if len(b.live) == 0 && (b.useless >= uselessInARow || b.status.State == BreakerHalfOpen) {
			b.inner.Open()
			b.status.Err = b.lastErr
		}
		b.schedule()
	})
}

// gone tells that a lane is not drained here any more.
func (b *brokerBreaker) gone(d *drain) {
	b.change(func() {
		delete(b.live, d)
		b.schedule()
	})
}

// try begins a trial, within change.
func (b *brokerBreaker) try() {
	b.inner.HalfOpen()
	b.left, b.last = trialSize, time.Now()
}

// schedule sets the timer for what is to happen without anybody's help, within
// change. Without a connection nothing does.
func (b *brokerBreaker) schedule() {
	if b.timer != nil {
		b.timer.Stop()
		b.timer = nil
	}
	if len(b.live) == 0 {
		return
	}
	switch was := b.status.State; was {
	case BreakerOpen:
		b.timer = time.AfterFunc(b.inner.RemainingDelay(), func() { b.move(was) })
	case BreakerHalfOpen:
		b.timer = time.AfterFunc(calmPeriod-time.Since(b.status.Since), func() { b.move(was) })
	case BreakerClosed:
	}
}

// move goes on from a state that lasted long enough.
func (b *brokerBreaker) move(from BreakerState) {
	b.change(func() {
		switch {
		case b.status.State != from:
		case from == BreakerOpen:
			b.try()
			b.schedule()
		default:
			b.end()
		}
	})
}

// permit is how many of so many messages may be sent now.
func (b *brokerBreaker) permit(limit int) int {
	if b.calm.Load() {
		return limit
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.status.State {
	case BreakerOpen:
		return 0
	case BreakerHalfOpen:
		if now := time.Now(); now.Sub(b.last) >= breakPause {
			b.left, b.last = trialSize, now
		}
		return min(limit, b.left)
	default:
		return limit
	}
}

// spend tells how many messages of a permit were sent.
func (b *brokerBreaker) spend(n int) {
	if n == 0 || b.calm.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left = max(0, b.left-n)
}

// close ends all changes.
func (b *brokerBreaker) close() {
	b.breaker.close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timer != nil {
		b.timer.Stop()
	}
}
