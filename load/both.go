package load

import (
	"context"
	"fmt"
)

// RunBoth publishes and receives in one process, by one clock, and counts what was lost.
func RunBoth(ctx context.Context, cfg Config) (res Result, err error) {
	caller := ctx
	r, ctx, err := begin(ctx, &cfg, true)
	if err != nil {
		return res, err
	}
	defer r.fail(nil)
	res = r.result("e2e")
	res.Subscribers = cfg.Subscribers
	// Topics of its own: others may run on the broker as well.
	cfg.Topic = fmt.Sprintf("%s/%08x", cfg.Topic, uint32(r.id))
	s := newSubscribers(r)
	var p *publishers
	if err = s.start(ctx, cfg.Subscribers, cfg.Topic+"/#"); err == nil {
		p, err = r.publishers(ctx)
	}
	if err != nil {
		_ = r.close(false) // the error is why
		return res, err
	}
	stop := r.observe()
	from := r.clock.since()
	p.run(ctx)
	for _, one := range p.all {
		res.count(one)
	}
	r.show("received", s.series)
	s.drain(ctx, res.Sent-res.Undelivered)
	stop()
	res.Phases = p.phases(from)
	err = r.end(caller, ctx, &res)
	_ = r.close(res.waited()) // see RunSubscribe
	s.count(&res, p.all, from)
	return res, err
}

// drain waits for what was sent, for as long as something comes within the time to
// settle.
func (s *subscribers) drain(ctx context.Context, sent int64) {
	want := sent
	if s.r.cfg.Store == nil {
		want *= int64(len(s.all)) // each gets all
	}
	for have := s.arrived(); have < want; {
		wait, patience := ctx, s.r.cfg.Settle
		interrupted := ctx.Err() != nil
		if interrupted {
			wait, patience = context.WithoutCancel(ctx), min(patience, interruptedSettle)
		}
		s.await(wait, min(want, have+1), patience)
		now := s.arrived()
		if now == have && (interrupted || ctx.Err() == nil) {
			return
		}
		have = now
	}
}
