package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/autopaho"
)

// RunSubscribe receives what other processes publish with RunPublish to the same topic.
// Their clocks are compared with this one: the latency is right as far as they agree.
func RunSubscribe(ctx context.Context, cfg Config) (res Result, err error) {
	caller := ctx
	r, ctx, err := begin(ctx, &cfg, false)
	if err != nil {
		return res, err
	}
	defer r.fail(nil)
	res = r.result("sub")
	s := newSubscribers(r)
	if err := s.start(ctx, cfg.Clients, r.cfg.Topic+"/#"); err != nil {
		_ = r.close(false) // the error is why
		return res, err
	}
	stop := r.observe()
	s.await(ctx, cfg.Count, cfg.Duration)
	stop()
	err = r.end(caller, ctx, &res)
	_ = r.close(false) // what has come by then is counted, however the clients end
	s.count(&res, nil, fromFirst)
	return res, err
}

// subscribers are the subscribers of a run.
type subscribers struct {
	r      *run
	series *series
	all    []*subscriber
}

// subscriber is one of them. Its handler runs one message after another.
type subscriber struct {
	s       *subscribers
	client  *autopaho.Client
	arrived atomic.Int64 // what the tracker has, for others to look at

	mu      sync.Mutex // guards the following: a client may end before its handler
	counted bool       // nothing is added any more
	tracker *tracker
	rec     *recorder
	foreign int64 // messages that are not of a run
}

func newSubscribers(r *run) *subscribers { return &subscribers{r: r, series: newSeries(&r.clock)} }

// window is for how long keys are remembered: long enough for what a run delivers twice.
const window = 15 * time.Minute

// start subscribes n clients, as a group if there is a store.
func (s *subscribers) start(ctx context.Context, n int, filter string) error {
	s.r.show("received", s.series)
	for i := range n {
		if err := s.r.apart(ctx, i); err != nil {
			return err
		}
		c, err := s.r.client(ctx, fmt.Sprintf("sub%d", i), false)
		if err != nil {
			return err
		}
		one := &subscriber{s: s, client: c, tracker: newTracker(), rec: s.series.recorder()}
		cfg := autopaho.SubscribeConfig{
			Filters: []string{filter}, QoS: s.r.cfg.QoS, AtMostOnce: s.r.cfg.QoS == 0, Workers: 1,
			Retained: autopaho.RetainedNever, Handler: one.handle,
		}
		if s.r.cfg.Store != nil {
			cfg.Group, cfg.Window = fmt.Sprintf("bench-%08x", uint32(s.r.id)), window
		}
		err = s.r.connecting(ctx, "subscribe", func(ctx context.Context) error {
			_, err := c.Subscribe(ctx, cfg)
			return err
		})
		if err != nil {
			return err
		}
		s.all = append(s.all, one)
	}
	return nil
}

func (one *subscriber) handle(_ context.Context, m *autopaho.Received) error {
	h, ok := parseHeader(m.Payload)
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.counted {
		return nil // it came too late
	}
	if !ok {
		one.foreign++
		return nil
	}
	clock := &one.s.r.clock
	now := clock.since()
	first := one.tracker.add(&h)
	if first {
		one.rec.record(now, time.Duration(clock.nanos(now)-h.due), 1)
		one.arrived.Add(1)
	}
	return nil
}

func (s *subscribers) arrived() (n int64) {
	for _, one := range s.all {
		n += one.arrived.Load()
	}
	return n
}

// await waits until as many messages have come, of all subscribers together, or the time
// is over, or the run. Zero is no such end.
func (s *subscribers) await(ctx context.Context, count int64, d time.Duration) {
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for count == 0 || s.arrived() < count {
		for _, one := range s.all {
			if err := one.client.Err(); err != nil {
				s.r.fail(err)
			}
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

// count adds what has come, after the clients were closed. With publishers of the same
// run what they sent is what should have come; else what is between the first and the
// last of each.
func (s *subscribers) count(res *Result, sent []published, from time.Duration) {
	trackers := make([]*tracker, 0, len(s.all))
	for _, one := range s.all {
		one.mu.Lock()
		one.counted = true
		one.rec.flush()
		one.mu.Unlock()
		res.Suppressed += int64(one.client.Counters().Duplicates)
		trackers = append(trackers, one.tracker)
	}
	if s.r.cfg.Store != nil { // they share messages
		for _, t := range trackers[1:] {
			trackers[0].join(t)
		}
		trackers = trackers[:1]
	}
	for _, t := range trackers {
		res.Received += t.received
		res.Duplicates += t.received - t.distinct
		if sent == nil {
			res.Lost += t.gaps()
			continue
		}
		for _, p := range sent {
			res.Lost += p.missing(t.sources[source{s.r.id, p.publisher}])
		}
	}
	res.Phases = append(res.Phases, s.series.phase("received", from))
}

// missing counts what was accepted and has not come, without what waits in the store.
func (p *published) missing(a *arrivals) (n int64) {
	for seq := range uint64(p.attempted) {
		_, failed := p.failed[seq]
		_, skipped := p.skipped[seq]
		_, waits := p.undelivered[seq]
		if !failed && !skipped && !waits && (a == nil || !a.has(seq)) {
			n++
		}
	}
	return n
}
