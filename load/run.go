package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/oncemq/oncemq/autopaho"
)

// run is one run under way.
type run struct {
	cfg   *Config
	id    uint64
	clock clock
	fail  context.CancelCauseFunc // ends the run

	mu      sync.Mutex // guards the following
	last    error      // of connections
	clients []*autopaho.Client
	shown   *series // what Observe is told of
	phase   string
	joined  sync.WaitGroup
}

// begin checks the configuration and makes a run. Who publishes needs an outbox in which
// nothing waits: its relay would deliver that as well. The context that it returns ends with
// the caller's, or with a failure.
func begin(ctx context.Context, cfg *Config, publishes bool) (*run, context.Context, error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	cfg.setDefaults()
	if cfg.Store != nil && publishes {
		s, err := cfg.Store.Stats(ctx)
		if err != nil {
			return nil, nil, err
		}
		if s.Pending+s.Delivered > 0 {
			return nil, nil, fmt.Errorf("%w: %d messages wait there", ErrStoreInUse, s.Pending+s.Delivered)
		}
	}
	ctx, fail := context.WithCancelCause(ctx)
	return &run{cfg: cfg, id: randomRun(), clock: newClock(), fail: fail}, ctx, nil
}

// result is what is known of a run before it is over.
func (r *run) result(kind string) Result {
	return Result{
		Kind: kind, Durable: r.cfg.Store != nil, Clients: r.cfg.Clients, QoS: r.cfg.QoS, Size: r.cfg.Size,
		Rate: r.cfg.Rate, Began: r.clock.start.UTC(),
	}
}

// clientConfig is the configuration of a client without a store.
func (r *run) clientConfig(name string) autopaho.Config {
	cfg := r.cfg.Broker
	cfg.ClientID = fmt.Sprintf("%s%08x-%s", cfg.ClientID, uint32(r.id), name)
	cfg.Relay.ClientID = cfg.ClientID + "-relay"
	if cfg.SessionExpiry == 0 {
		cfg.SessionExpiry = sessionExpiry
	}
	cfg.MaxPayload = max(cfg.MaxPayload, r.cfg.Size)
	cfg.OnEvent = func(e autopaho.Event) {
		if e.Kind == autopaho.EventError {
			r.mu.Lock()
			r.last = e.Err
			r.mu.Unlock()
		}
	}
	return cfg
}

// client makes a client of this run.
func (r *run) client(ctx context.Context, name string, relays bool) (*autopaho.Client, error) {
	cfg := r.clientConfig(name)
	cfg.Store, cfg.Relay.Off = r.cfg.Store, !relays
	c, err := autopaho.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.clients = append(r.clients, c)
	r.mu.Unlock()
	return c, nil
}

// sessionExpiry is for how long the broker keeps what a run that was killed has left.
const sessionExpiry = time.Minute

// connecting bounds the wait for the first connection, and is why there is none.
func (r *run) connecting(ctx context.Context, what string, connect func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*max(r.cfg.Broker.ConnectTimeout, 5*time.Second))
	defer cancel()
	err := connect(ctx)
	if err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil {
		err = r.last
	}
	return fmt.Errorf("%s: %w", what, err)
}

// apart waits for the time between the starts of two clients.
func (r *run) apart(ctx context.Context, i int) error {
	if i == 0 || r.cfg.ConnectEvery == 0 {
		return nil
	}
	return pause(ctx, r.cfg.ConnectEvery)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// show has Observe told of a phase from now on.
func (r *run) show(phase string, s *series) {
	r.mu.Lock()
	r.phase, r.shown = phase, s
	r.mu.Unlock()
}

// observe tells Observe until the returned function is called.
func (r *run) observe() (stop func()) {
	if r.cfg.Observe == nil {
		return func() {}
	}
	end := make(chan struct{})
	r.joined.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.mu.Lock()
				phase, shown := r.phase, r.shown
				r.mu.Unlock()
				if shown != nil {
					r.cfg.Observe(shown.progress(phase))
				}
			case <-end:
				return
			}
		}
	})
	return func() {
		close(end)
		r.joined.Wait()
	}
}

// close ends all clients, at once: one that waits for a broker that does not answer takes
// no time away from the others. It waits little if there is something that was waited for
// already.
func (r *run) close(waited bool) error {
	patience := closeTime
	if waited {
		patience = interruptedSettle
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	errs := make([]error, len(r.clients))
	var wg sync.WaitGroup
	for i, c := range r.clients {
		wg.Go(func() { errs[i] = c.Close(ctx) })
	}
	wg.Wait()
	r.clients = nil
	return errors.Join(errs...)
}

// closeTime bounds the end of all clients.
const closeTime = 10 * time.Second

// interruptedSettle is for how long what is under way is waited for when a run is ended
// before its time.
const interruptedSettle = 2 * time.Second

// waited tells whether the publishers of a run have waited in vain for something, or are
// not to wait any more.
func (r *Result) waited() bool { return r.Undelivered > 0 || r.Failed > 0 || r.Interrupted }

// end completes the result. The error is the failure that ended the run; that the caller
// ended it is none.
func (r *run) end(caller, ctx context.Context, res *Result) error {
	res.Seconds = r.clock.since().Seconds()
	res.Interrupted = caller.Err() != nil
	if caller.Err() == nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
