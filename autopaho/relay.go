package autopaho

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/oncemq/oncemq/persist"
)

// relay looks after the lanes of a store: it takes its share of them, see lanes.go,
// and runs a drain for each.
//
// One goroutine (run) owns the drains; each drain owns its own goroutines. They
// end when the relay is closed or the broker refuses for good.
type relay struct {
	client *Client
	store  persist.Store
	owner  string
	lanes  int

	ctx    context.Context //nolint:containedctx // the relay's own life: it ends when nothing may wait any more
	cancel context.CancelFunc
	stop   chan struct{} // closed when Close begins
	done   chan struct{} // closed when everything has ended

	breaker *brokerBreaker

	looking     context.Context //nolint:containedctx // ends with stop: what only looks does not hold Close up
	stopLooking context.CancelFunc
	withdrawn   chan struct{} // closed once the other relays may take the lanes
	shares      shares
	absence     absence
	pulse       pulse
	patience    patience    // of run
	looked      atomic.Bool // for lanes, once at least

	mu      sync.Mutex // guards the following
	err     error
	drains  map[int]*drain
	taken   map[int]*takeovers // of each lane's session
	rest    map[int]time.Time  // lanes that are left alone until then
	stopped bool
}

func newRelay(ctx context.Context, c *Client) (*relay, error) {
	lanes, err := c.cfg.Store.Lanes(ctx)
	if err != nil {
		return nil, err
	}
	r := &relay{
		client: c, patience: patience{client: c}, store: c.cfg.Store, owner: "relay-" + uuid.NewString(), lanes: len(lanes),
		stop: make(chan struct{}), done: make(chan struct{}), drains: make(map[int]*drain),
		taken: make(map[int]*takeovers), rest: make(map[int]time.Time),
		withdrawn: make(chan struct{}), shares: shares{target: len(lanes), free: make(map[int]time.Time), unknown: make(map[int]bool)},
	}
	r.ctx, r.cancel = context.WithCancel(context.Background()) // ended by close
	r.looking, r.stopLooking = context.WithCancel(r.ctx)
	r.breaker = newBrokerBreaker(r)
	go r.run()
	return r, nil
}

// run takes and gives back lanes, and joins their drains.
func (r *relay) run() {
	defer close(r.done)
	defer r.cancel()
	var wake <-chan struct{}
	if n, ok := r.store.(persist.Notifier); ok {
		ch, stop := n.Notify()
		defer stop()
		wake = ch
	}
	var wg sync.WaitGroup
	ended := make(chan *drain, r.lanes)
	poll := time.NewTicker(r.client.cfg.Relay.Poll)
	defer poll.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	var looked time.Time
	for !r.closing() {
		r.pulse.beat(time.Now())
		select {
		case <-poll.C:
			r.wakeAll()
		case <-wake:
			r.wakeAll()
			if !r.holdsAll() {
				next.Reset(max(0, lookPause-time.Since(looked)))
			}
		case d := <-ended:
			r.drop(d)
			next.Reset(0)
		case <-next.C:
			looked = time.Now()
			r.pulse.rest() // it asks the store
			next.Reset(r.look(&wg, ended))
			r.looked.Store(true)
		case <-r.stop:
		}
	}
	r.pulse.rest()
	// The drains see r.stop and end by themselves.
	r.withdraw()
	wg.Wait()
}

// drained handles a drain that ended before the relay did. A lane whose
// session another client took is left alone for a moment: if that client is the
// next holder of its lease there is nothing to do, and if it is not, the session
// is ours to take back, but not in a race without an end.
func (r *relay) drained(d *drain, err error) {
	n := d.lane.Number()
	final := errors.Is(err, ErrRefused)
	r.mu.Lock()
	if errors.Is(err, ErrDuplicateClientID) {
		if r.taken[n] == nil {
			r.taken[n] = newTakeovers()
		}
		final = !r.taken[n].again()
		r.rest[n] = time.Now().Add(takeoverRest)
	}
	if final {
		if r.err == nil {
			r.err = err
		}
		r.end()
	}
	r.mu.Unlock()
	r.trouble(fmt.Sprintf("lane %d ended", n), err)
}

// end has everything end; r.mu is held.
func (r *relay) end() {
	if !r.stopped {
		r.stopped = true
		close(r.stop)
		r.stopLooking()
	}
}

// takeoverRest is how long a lane rests after its session was taken.
const takeoverRest = time.Second

func (r *relay) resting(lane int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Now().Before(r.rest[lane])
}

func (r *relay) drop(d *drain) {
	r.mu.Lock()
	delete(r.drains, d.lane.Number())
	r.mu.Unlock()
}

// trouble logs and reports what did not work and is tried again.
func (r *relay) trouble(what string, err error) {
	if r.closing() && errors.Is(err, context.Canceled) {
		return
	}
	r.client.cfg.Logger.WarnContext(r.ctx, "relay", "operation", what, "error", err)
	r.client.event(Event{Kind: EventError, Err: fmt.Errorf("%s: %w", what, err)})
}

func (r *relay) closing() bool {
	select {
	case <-r.stop:
		return true
	default:
		return false
	}
}

// Err tells why the relay ended or is ending; nil while it works.
func (r *relay) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *relay) holds(lane int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drains[lane] != nil
}

// holdsLanesOf tells whether all messages of a handle are in lanes that are
// drained here.
func (r *relay) holdsLanesOf(refs []persist.Enqueued) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.drains) == r.lanes {
		return true
	}
	return !slices.ContainsFunc(refs, func(e persist.Enqueued) bool { return r.drains[e.Lane] == nil })
}

func (r *relay) holdsAll() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.drains) == r.lanes
}

func (r *relay) held() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	lanes := make([]int, 0, len(r.drains))
	for n := range r.drains {
		lanes = append(lanes, n)
	}
	slices.Sort(lanes)
	return lanes
}

// wakeAll has every drain look at its lane.
func (r *relay) wakeAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.drains {
		d.look()
	}
}

// wakeEngines has every drain's engine ask for messages.
func (r *relay) wakeEngines() {
	r.mu.Lock()
	drains := make([]*drain, 0, len(r.drains))
	for _, d := range r.drains {
		drains = append(drains, d)
	}
	r.mu.Unlock()
	for _, d := range drains {
		d.wakeEngine()
	}
}

// close ends the relay: see drain.finish for the order.
func (r *relay) close(ctx context.Context) error {
	r.mu.Lock()
	r.end()
	r.mu.Unlock()
	cut := context.AfterFunc(ctx, r.cancel)
	defer cut()
	<-r.done
	r.breaker.close()
	return nil
}
