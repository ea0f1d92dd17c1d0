package autopaho

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// probeLimit is how long the broker and the store have to answer when
	// readiness is asked for, and probeAge for how long the outcome serves all who
	// ask: together they are well below the two seconds within which a loss shows.
	probeLimit = time.Second
	probeAge   = 250 * time.Millisecond
	// stuckLimit is how long a loop may take for a round, and lookLimit how long
	// the look at the client may take, which waits for nothing but its locks.
	stuckLimit = 30 * time.Second
	lookLimit  = 5 * time.Second
)

// Health is the answer of [Client.Live] and [Client.Ready].
type Health struct {
	// OK tells that all is well.
	OK bool
	// Reasons say what is not, a sentence each, for humans. Credentials and
	// payloads are in none of them.
	Reasons []string
}

func (h *Health) fault(format string, args ...any) {
	h.OK = false
	h.Reasons = append(h.Reasons, fmt.Sprintf(format, args...))
}

// Live tells whether the client's loops move: that of the relay, those of its lanes,
// and those that take what connections bring. One that is held up for more than 30 s
// by anything but the store or the broker will not move again by itself (a hook that
// blocks, such as OnEvent, is the usual cause): that is what a restart mends. That
// broker or store is away is no reason for one, and no matter of Live; nor is a
// handler that does not return, see Counters.Stuck. It asks nobody, and takes 5 s at
// most.
func (c *Client) Live() Health {
	h := Health{OK: true}
	seen := make(chan []named, 1)
	go func() { seen <- c.pulses() }() // joined below, unless it is what is stuck
	t := time.NewTimer(lookLimit)
	defer t.Stop()
	select {
	case all := <-seen:
		now := time.Now()
		for _, n := range all {
			if d, stuck := n.pulse.stuck(now, c.stuckLimit); stuck {
				h.fault("%s has not moved for %s", n.name, d.Round(time.Second))
			}
		}
	case <-t.C:
		h.fault("the client's state could not be looked at within %s", lookLimit)
	}
	return h
}

// named is a pulse with the name of its loop.
type named struct {
	name  string
	pulse *pulse
}

func (c *Client) pulses() []named {
	var all []named
	if r := c.relay; r != nil {
		all = append(all, named{"the relay", &r.pulse})
		r.mu.Lock()
		for n, d := range r.drains {
			all = append(all, named{fmt.Sprintf("lane %d", n), &d.pulse})
			all = append(all, named{fmt.Sprintf("the connection of lane %d", n), &d.answers})
		}
		r.mu.Unlock()
	}
	c.mu.Lock()
	in, requests := c.consumer, c.requester
	c.mu.Unlock()
	if in != nil {
		all = append(all, named{"the connection of the subscriptions", &in.pulse})
	}
	if requests != nil {
		all = append(all, named{"the connection of the responses", &requests.in.pulse})
	}
	c.statusOf() // has to have all locks
	return all
}

// Ready tells whether messages flow: every session in use has a connection on which
// the broker answers, it has agreed to every subscription, that of the responses to
// requests included, the store answers, and no circuit breaker is open. A relay that has no lane, since others have them all,
// is ready when its store answers.
//
// Broker and store are asked, each with a time-out of a second, and what they say
// serves all who ask within the next quarter of a second: so a loss shows within two
// seconds of it, also that of a broker to which the connection has only gone silent,
// which the keep alive takes far longer to find. The context bounds the wait.
func (c *Client) Ready(ctx context.Context) Health {
	return c.readiness.ask(ctx, c.ready)
}

// readiness has one look at a time, for all who ask.
type readiness struct {
	mu     sync.Mutex // guards the following
	flight *look
}

// look is one look: its outcome once done is closed.
type look struct {
	done   chan struct{}
	health Health
	at     time.Time
}

func (r *readiness) ask(ctx context.Context, ready func() Health) Health {
	r.mu.Lock()
	l := r.flight
	if l == nil || l.over() && time.Since(l.at) >= probeAge {
		l = &look{done: make(chan struct{})}
		r.flight = l
		go func() { // ends soon after probeLimit
			l.health = ready()
			l.at = time.Now()
			close(l.done)
		}()
	}
	r.mu.Unlock()
	select {
	case <-l.done:
		return l.health
	case <-ctx.Done():
		h := Health{}
		h.fault("broker and store were not asked in time: %s", ctx.Err())
		return h
	}
}

func (l *look) over() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// ready asks broker and store.
func (c *Client) ready() Health {
	h := Health{OK: true}
	select {
	case <-c.closing:
		h.fault("the client is closed")
		return h
	default:
	}
	if err := c.Err(); err != nil {
		h.fault("the client does not connect any more: %s", err)
		return h
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeLimit)
	defer cancel()
	boards := c.boards()
	faults := make([]string, len(boards)+1)
	var probes sync.WaitGroup
	for i, b := range boards {
		probes.Go(func() { faults[i] = b.fault(ctx) })
	}
	if c.cfg.Store != nil {
		faults[len(boards)] = c.store.fault(ctx)
	}
	probes.Wait()
	for _, f := range faults {
		if f != "" {
			h.fault("%s", f)
		}
	}
	for _, s := range c.Subscriptions() {
		if !s.Agreed {
			h.fault("broker: it has not agreed to the subscription to %s yet", s.Filters[0].Filter)
		}
	}
	if topic, ok := c.responding(); !ok {
		h.fault("broker: it has not agreed to the subscription to %s yet", topic)
	}
	if r := c.relay; r != nil {
		if !r.looked.Load() {
			h.fault("relay: it has not looked for lanes yet")
		}
		for _, n := range r.held() {
			if !slices.ContainsFunc(boards, func(b *connBoard) bool { return b.role == RoleRelay && b.lane == n }) {
				h.fault("broker: lane %d has no session yet", n)
			}
		}
		if s := r.breaker.snapshot(); s.State == BreakerOpen {
			h.fault("broker: it takes no messages: %s", s.Err)
		}
	}
	if c.cfg.Store == nil && len(boards) == 0 {
		h.fault("broker: no connection was asked for yet")
	}
	return h
}

// fault is what is wrong with a session; empty if nothing is.
func (b *connBoard) fault(ctx context.Context) string {
	s := b.status()
	who := "broker: session " + s.ClientID
	switch {
	case s.State != StateConnected && s.LastError != nil:
		return fmt.Sprintf("%s is %s: %s", who, s.State, s.LastError)
	case s.State != StateConnected:
		return fmt.Sprintf("%s is %s", who, s.State)
	}
	if err := b.link.Ping(ctx); err != nil {
		return fmt.Sprintf("%s: %s within %s", who, err, probeLimit)
	}
	return ""
}

// fault is what is wrong with the store; empty if nothing is. It is asked to read a
// little; whether it can be written to is known from who writes.
func (s *storeBreaker) fault(ctx context.Context) string {
	if b := s.snapshot(); b.State != BreakerClosed {
		return fmt.Sprintf("store: it has failed since %s: %s", b.Since.UTC().Format(time.RFC3339), b.Err)
	}
	answered := make(chan error, 1)
	s.mu.Lock()
	asking := s.asking || s.closed
	if !asking {
		s.asking = true
		s.probes.Go(func() {
			ctx, cancel := context.WithTimeout(s.ctx, probeLimit)
			defer cancel()
			_, err := s.client.cfg.Store.Lanes(ctx)
			s.mu.Lock()
			s.asking = false
			s.mu.Unlock()
			answered <- err
		})
	}
	s.mu.Unlock()
	if asking {
		return "store: it has not answered yet"
	}
	var err error
	select {
	case err = <-answered:
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("store: no answer within %s", probeLimit)
	case err != nil:
		return "store: " + err.Error()
	}
	return ""
}
