package drill

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/effects"
)

// Times of a drill, at scale 1.
const (
	// before and after is how long messages are published before the faults and
	// after them.
	before = time.Second
	after  = time.Second
	// restful is how long nothing must move before it is counted, hopeless how long
	// if something is missing.
	restful  = time.Second
	hopeless = 8 * time.Second
	// abortTimeout bounds how long anybody gets to finish if the drill is not carried
	// to its end.
	abortTimeout = 500 * time.Millisecond
	// tick is how often it is looked how far it is.
	tick = 50 * time.Millisecond
)

// run is one drill.
type run struct {
	opts  Options
	name  string // of the drill, in client IDs
	topic string
	began time.Time

	space     *space
	proxies   []*fault.MQTT // the publisher's, the subscribers'
	sent      *wire         // by the publisher
	received  *wire         // by subscribers
	events    *events
	publisher *publisher
	replicas  []*replica
	result    Result

	over time.Time // when the faults were
	due  []string  // what had been sent by then

	mu    sync.Mutex // guards the following
	phase Phase
	step  string
}

// Run plays a scenario and counts. The result is nil only if there is an error: of
// the options (wraps ErrOptions, or persist.ErrInvalid), the context's, or of
// something that could not be set up. That messages were lost or doubled is no
// error, nor that everything did not come to rest: see Result.
//
// When it returns nothing of the drill is left, neither in the store nor at the
// broker, but the files in the folder.
func Run(ctx context.Context, opts Options) (*Result, error) {
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	r := &run{opts: opts, name: spaceName(), began: time.Now(), events: newEvents(), phase: PhaseStart}
	r.topic = "oncemq-chaos/" + r.name
	r.result = Result{
		Scenario: opts.Scenario.Name, Seed: opts.Seed, Broker: opts.Broker.String(), Sabotage: opts.Sabotage,
		Receipts: opts.Scenario.Forgets && !opts.Sabotage.Receipts, RecoverySeconds: -1,
	}
	stop := r.observe()
	err := r.open(ctx)
	if err == nil {
		err = r.play(ctx)
	}
	stop()
	if ctx.Err() != nil {
		err = fmt.Errorf("chaos: %w", context.Cause(ctx)) // whatever it has cut short
	}
	err = errors.Join(err, r.close(err == nil))
	if err != nil {
		return nil, err
	}
	r.result.Seconds = seconds(time.Since(r.began))
	return &r.result, nil
}

// seconds is a time in seconds, to the hundredth.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*100) / 100 }

// open starts what is needed, from the inside out.
func (r *run) open(ctx context.Context) (err error) {
	if err := probe(ctx, r.opts.Broker, r.name+"-probe"); err != nil {
		return err
	}
	if r.space, err = newSpace(ctx, r.opts.Store, r.opts.Folder); err != nil {
		return err
	}
	r.sent, r.received = newWire(fault.ToServer), newWire(fault.ToClient)
	for _, w := range []*wire{r.sent, r.received} {
		p, err := fault.NewMQTT(r.opts.Broker.String())
		if err != nil {
			return err
		}
		p.UseDial(r.opts.Broker.Dial)
		p.Inspect(w)
		r.proxies = append(r.proxies, p)
	}
	for i := range replicas {
		s, err := r.newReplica(ctx, r.proxies[1].URL(), i+1)
		if err != nil {
			return err
		}
		r.replicas = append(r.replicas, s)
	}
	r.publisher, err = r.newPublisher(ctx, r.proxies[0].URL())
	return err
}

// play has messages published while the scenario is played, and returns when all has
// come to rest or nobody believes in it any more.
func (r *run) play(ctx context.Context) error {
	publishing, stop := context.WithCancel(ctx)
	var pace sync.WaitGroup
	pace.Go(func() { r.pace(publishing) })
	err := r.strike(ctx)
	stop()
	pace.Wait()
	if err != nil {
		return err
	}
	return r.rest(ctx)
}

// strike plays the scenario, with some time before and after.
func (r *run) strike(ctx context.Context) error {
	r.enter(PhaseBefore)
	if err := pause(ctx, r.opts.scaled(before, 100*time.Millisecond)); err != nil {
		return err
	}
	r.enter(PhaseFault)
	err := fault.Play(ctx, r.opts.Scenario, fault.PlayOptions{
		Seed: r.opts.Seed, Scale: r.opts.Scale, Broker: r.opts.Broker, Held: held, Observe: r.tell,
	}, r.proxies...)
	if err != nil {
		return fmt.Errorf("%s: %w", r.opts.Scenario.Name, err)
	}
	r.enter(PhaseAfter)
	r.over, r.due = time.Now(), r.publisher.accepted()
	for end := r.over.Add(r.opts.scaled(after, 100*time.Millisecond)); time.Now().Before(end); {
		if _, err := r.look(ctx); err != nil {
			return err
		}
		if err := pause(ctx, tick); err != nil {
			return err
		}
	}
	return nil
}

// look reads the effects, and notes when those of all that was due are there.
func (r *run) look(ctx context.Context) (ids []string, err error) {
	ids, err = r.space.effects.IDs(ctx)
	if err == nil && r.result.RecoverySeconds < 0 && r.judge(r.due, ids).Lost == 0 {
		r.result.RecoverySeconds = seconds(time.Since(r.over))
	}
	return ids, err
}

// verdict is what effects say of messages.
type verdict struct {
	effects.Tally        // without what failed
	failed        int    // without an effect, and given up by the publisher
	reason        string // why one of these was
}

// judge compares the accepted messages with the effects.
func (r *run) judge(accepted, ids []string) verdict {
	v := verdict{Tally: effects.Judge(accepted, ids)}
	undone := r.events.givenUp()
	if v.Lost == 0 || len(undone) == 0 {
		return v
	}
	for _, id := range ids {
		delete(undone, id)
	}
	for _, id := range accepted {
		err, given := undone[id]
		if !given {
			continue
		}
		v.failed++
		var why *autopaho.DeliveryError
		if errors.As(err, &why) {
			v.reason = why.Reason
		}
	}
	v.Lost -= v.failed
	return v
}

// pace publishes at the rate until its context ends.
func (r *run) pace(ctx context.Context) {
	t := time.NewTicker(time.Second / 50)
	defer t.Stop()
	began, published := time.Now(), 0
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		n := int(time.Since(began).Seconds()*float64(r.opts.Rate)) - published
		// What a machine that stalls has missed is not made up for at once.
		n = min(n, max(1, r.opts.Rate/5))
		if n <= 0 {
			continue
		}
		published += n
		// It is not cut short: what was accepted is to be known.
		if err := r.publisher.publish(context.WithoutCancel(ctx), n); err != nil {
			r.events.enqueueFailed(err)
		}
	}
}

// rest waits until the outbox is empty and everything has its effect, and nothing
// moves for a while; or until the limit has passed.
func (r *run) rest(ctx context.Context) error {
	r.enter(PhaseRecover)
	end := time.Now().Add(r.opts.Limit)
	accepted := r.publisher.accepted()
	moved, last := time.Now(), [3]int{}
	for {
		open, err := r.publisher.open(ctx)
		if err != nil {
			return err
		}
		ids, err := r.look(ctx)
		if err != nil {
			return err
		}
		now := [3]int{open, len(ids), r.received.total()}
		if now != last {
			moved, last = time.Now(), now
		}
		t := r.judge(accepted, ids)
		still, patience := time.Since(moved), r.opts.scaled(restful, 500*time.Millisecond)
		if t.Lost > 0 {
			patience = r.opts.scaled(hopeless, 4*time.Second)
		}
		if open == 0 && r.events.allConnected() && still >= patience || time.Now().After(end) {
			r.result.Open = open
			return nil
		}
		if err := pause(ctx, tick); err != nil {
			return err
		}
	}
}

// count fills in the result.
func (r *run) count(ctx context.Context) error {
	ids, err := r.space.effects.IDs(ctx)
	if err != nil {
		return err
	}
	res := &r.result
	accepted := r.publisher.accepted()
	t := r.judge(accepted, ids)
	res.Sent, res.Delivered = len(accepted), len(accepted)-t.Lost-t.failed
	res.Lost, res.Doubled, res.Unknown = t.Lost, t.Doubled, t.Unknown
	res.Failed, res.Reason = t.failed, t.reason
	res.WireDuplicates, res.Resent = r.received.again(), r.sent.again()
	for _, s := range r.replicas {
		res.Suppressed += int(s.client.Counters().Duplicates)
	}
	res.Reconnects, res.SessionsLost, _, res.Errors = r.events.counts()
	switch {
	case !r.events.allConnected():
		res.State = StateDisconnected
	case res.Open > 0:
		res.State = StateOpen
	case res.Failed > 0:
		res.State = StateFailed
	case res.Sent == 0:
		res.State = StateIdle
	default:
		res.State = StateSettled
	}
	res.OK = !res.Damage() && res.State == StateSettled
	return nil
}

// close ends everything, from the outside in; it counts first if the drill was
// carried to its end.
func (r *run) close(finish bool) error {
	var errs []error
	timeout := abortTimeout
	if finish {
		timeout = closeTimeout
		errs = append(errs, r.count(context.Background()))
	}
	for _, s := range r.replicas {
		errs = append(errs, s.close(timeout))
	}
	if r.publisher != nil {
		errs = append(errs, r.publisher.close(timeout))
	}
	for _, p := range r.proxies {
		// The broker is not to keep what nobody comes back for. One that does not
		// answer now has been told of by then.
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		_ = p.ForgetSessions(ctx)
		cancel()
		p.Close()
	}
	if r.space != nil {
		errs = append(errs, r.space.effects.Close(), r.space.remove(context.Background()))
	}
	return errors.Join(errs...)
}

// enter begins a phase.
func (r *run) enter(p Phase) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase, r.step = p, ""
}

// tell is what the scenario does.
func (r *run) tell(step string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.step = step
}

// observe reports how far it is until the returned function is called.
func (r *run) observe() (stop func()) {
	if r.opts.Observe == nil {
		return func() {}
	}
	const interval = 100 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
				r.opts.Observe(r.progress(ctx))
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

func (r *run) progress(ctx context.Context) Progress {
	r.mu.Lock()
	p := Progress{Scenario: r.opts.Scenario.Name, Phase: r.phase, Step: r.step, Elapsed: time.Since(r.began)}
	r.mu.Unlock()
	if p.Phase != PhaseStart {
		p.Sent = len(r.publisher.accepted())
		p.Effects, _ = r.space.effects.Count(ctx) // zero while it cannot be read: it is for show
	}
	return p
}

func pause(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
