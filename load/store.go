package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/oncemq/oncemq/persist"
)

// RunStore measures a store alone, without a broker: messages are enqueued, by Clients
// at once and Batch in a call; then they are drained as a relay does it; then as many
// keys are claimed and completed as a group of subscribers does it. Count is of each;
// Duration bounds the first and the last.
func RunStore(ctx context.Context, cfg Config) (res Result, err error) {
	if cfg.Store == nil {
		return res, fmt.Errorf("%w: Store: is missing", ErrConfig)
	}
	cfg.QoS = max(cfg.QoS, 1)
	caller := ctx
	r, ctx, err := begin(ctx, &cfg, true)
	if err != nil {
		return res, err
	}
	defer r.fail(nil)
	res = r.result("store")
	r.clock = newClock()
	stop := r.observe()
	defer stop()
	for _, phase := range []struct {
		name string
		run  func(ctx context.Context, s *series) error
	}{
		{"enqueue", func(ctx context.Context, s *series) error { return r.each(ctx, s, r.store) }},
		{"drain", r.drainStore},
		{"claim", func(ctx context.Context, s *series) error { return r.each(ctx, s, r.claim) }},
	} {
		from := r.clock.since()
		s := newSeries(&r.clock)
		r.show(phase.name, s)
		// What was enqueued is drained also when the run has been ended.
		phaseCtx := ctx
		if phase.name == "drain" {
			var cancel context.CancelFunc
			phaseCtx, cancel = context.WithTimeout(context.WithoutCancel(ctx), max(cfg.Settle, 10*time.Minute))
			defer cancel()
		} else if ctx.Err() != nil {
			continue
		}
		err := phase.run(phaseCtx, s)
		p := s.phase(phase.name, from)
		res.Phases = append(res.Phases, p)
		if phase.name == "enqueue" {
			res.Sent = p.Messages
		}
		if err != nil && ctx.Err() == nil {
			r.fail(err)
		}
	}
	return res, r.end(caller, ctx, &res)
}

// each runs something for every client at once, and returns the first error.
func (r *run) each(ctx context.Context, s *series, do func(ctx context.Context, i int, rec *recorder) error) error {
	var wg sync.WaitGroup
	errs := make([]error, r.cfg.Clients)
	for i := range r.cfg.Clients {
		wg.Go(func() {
			rec := s.recorder()
			defer rec.flush()
			errs[i] = do(ctx, i, rec)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// steps calls do with the numbers of the first message and how many are due, until the
// run's end, and records them.
func (r *run) steps(ctx context.Context, i int, rec *recorder, do func(n int) error) error {
	cfg, clock := r.cfg, &r.clock
	pace := cfg.pace(i, clock.since())
	due := make([]time.Duration, 0, cfg.Batch)
	for n := int64(0); ctx.Err() == nil; {
		now := clock.since()
		if pace.over(n, cfg.Count > 0, now) {
			return nil
		}
		if wait := pace.at(n, now) - now; wait > 0 {
			_ = pause(ctx, wait) // the loop ends with the context
			continue
		}
		due = due[:0]
		for range pace.due(n, now, cfg) {
			due = append(due, pace.at(n, now))
			n++
		}
		if err := do(len(due)); err != nil {
			return err
		}
		now = clock.since()
		for _, at := range due {
			rec.record(now, now-at, 1)
		}
	}
	return nil
}

// store enqueues.
func (r *run) store(ctx context.Context, i int, rec *recorder) error {
	body := make([]byte, r.cfg.Size)
	topic := fmt.Sprintf("%s/%d", r.cfg.Topic, i)
	msgs := make([]persist.Message, 0, r.cfg.Batch)
	return r.steps(ctx, i, rec, func(n int) error {
		msgs = msgs[:0]
		for range n {
			msgs = append(msgs, persist.Message{ID: newID(), Topic: topic, QoS: r.cfg.QoS, Payload: body})
		}
		_, err := r.cfg.Store.Enqueue(ctx, msgs)
		return err
	})
}

// newID is a message ID as the client makes them.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// What a relay reads at once, and holds a lane for.
const (
	pageMessages = 256
	pageBytes    = 8 << 20
	laneTTL      = time.Minute
)

// drainStore reads and settles what was enqueued, each lane by a goroutine.
func (r *run) drainStore(ctx context.Context, s *series) error {
	lanes, err := r.cfg.Store.Lanes(ctx)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make([]error, len(lanes))
	for i := range lanes {
		wg.Go(func() { errs[i] = r.drainLane(ctx, lanes[i].Lane, s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (r *run) drainLane(ctx context.Context, number int, s *series) (err error) {
	rec := s.recorder()
	defer rec.flush()
	lane, err := r.cfg.Store.AcquireLane(ctx, number, fmt.Sprintf("bench-%08x", uint32(r.id)), laneTTL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lane.Release(context.WithoutCancel(ctx))) }()
	renewed := r.clock.since()
	settlements := make([]persist.Settlement, 0, pageMessages)
	for {
		began := r.clock.since()
		if began-renewed > laneTTL/3 {
			if err := lane.Renew(ctx, laneTTL, true); err != nil {
				return err
			}
			renewed = began
		}
		page, err := lane.Next(ctx, pageMessages, pageBytes)
		if err != nil || len(page) == 0 {
			return err
		}
		settlements = settlements[:0]
		for i := range page {
			settlements = append(settlements, persist.Settlement{Position: page[i].Position, Outcome: persist.OutcomeDelivered})
		}
		if err := lane.Settle(ctx, settlements); err != nil {
			return err
		}
		now := r.clock.since()
		rec.record(now, now-began, int64(len(page)))
	}
}

// claim claims and completes keys.
func (r *run) claim(ctx context.Context, i int, rec *recorder) error {
	group := fmt.Sprintf("bench-%08x", uint32(r.id))
	store := r.cfg.Store
	keys := make([]string, 0, r.cfg.Batch)
	completions := make([]persist.Completion, 0, r.cfg.Batch)
	return r.steps(ctx, i, rec, func(n int) error {
		keys, completions = keys[:0], completions[:0]
		for range n {
			keys = append(keys, newID())
		}
		claims, err := store.Claim(ctx, persist.ClaimRequest{Group: group, Owner: group, TTL: laneTTL, Keys: keys})
		if err != nil {
			return err
		}
		for _, c := range claims {
			completions = append(completions, persist.Completion{Claim: c})
		}
		_, err = store.Complete(ctx, group, completions, window)
		return err
	})
}
