package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Scenario is a course that faults take. [Scenarios] has them all; [Play] and
// [MQTT.Play] play one.
type Scenario struct {
	// Name is one word, with hyphens.
	Name string
	// Summary says what happens, in a line.
	Summary string
	// Lasts is for how long, at scale 1; what takes as long as the broker does is
	// not in it.
	Lasts time.Duration
	// Forgets tells that the broker loses what it has acknowledged, or may: only
	// what waits for more than its acknowledgement, such as a receipt, outlives
	// that.
	Forgets bool
	// QoS is the level whose packets it strikes: 1 or 2; zero if that makes no
	// difference.
	QoS byte
	// Restarts tells that it needs [PlayOptions.Broker].
	Restarts bool

	play func(ctx context.Context, p *play) error
}

// Broker is a broker that can be killed and started again.
type Broker interface {
	// Kill ends it without giving it time to save anything.
	Kill(ctx context.Context) error
	// Start starts it again at the same address, and returns once it accepts
	// clients.
	Start(ctx context.Context) error
}

// PlayOptions tune how a scenario is played. The zero value is good.
type PlayOptions struct {
	// Seed is where random numbers start. The same seed gives the same faults; what
	// they hit is up to the machine.
	Seed uint64
	// Scale multiplies all times, above 0 up to 100: 0.1 is a tenth, for tests.
	// Zero means 1.
	Scale float64
	// Broker is needed by scenarios with Restarts.
	Broker Broker
	// Held is how many messages the broker is to keep before it forgets: those that
	// it has acknowledged to publishers, and not sent to subscribers. Where the usual
	// moment does not make them so many, subscribers are held up for longer, up to
	// 10 s whatever the scale. It is meant for subscribers that share a subscription,
	// and needs two proxies. Zero for no such care.
	Held int
	// Observe is told each step in a few words. It must not block. Nil for nobody.
	Observe func(step string)
}

// ErrScenario is wrapped by errors of a scenario that does not exist or cannot be
// played as it is asked for.
var ErrScenario = errors.New("scenario")

// play is one time that a scenario is played.
type play struct {
	proxies []*MQTT
	o       PlayOptions
	random  *rand.Rand
}

// Play is [Play] with one proxy, through which everybody connects.
func (m *MQTT) Play(ctx context.Context, s Scenario, o PlayOptions) error { return Play(ctx, s, o, m) }

// Play plays a scenario on the proxies of one broker, which are struck alike. It
// begins with the first fault and returns when the last one is over, or the context
// is. No fault is left then, and everybody may connect. What was set before is gone
// as well. One scenario plays at a time.
//
// The first proxy is that of publishers: traps are set there. With more than one, the
// others are those of subscribers, and before the broker forgets, what subscribers
// send is held up for a moment, so that there is something to forget.
//
// The error wraps ErrScenario for options that are not right; else it is the
// context's, the broker's, or of a session that could not be taken over.
func Play(ctx context.Context, s Scenario, o PlayOptions, proxies ...*MQTT) (err error) {
	switch {
	case len(proxies) == 0:
		return fmt.Errorf("%w: there is no proxy to play it on", ErrScenario)
	case s.play == nil:
		return fmt.Errorf("%w: there is none; take one of Scenarios", ErrScenario)
	case o.Scale < 0 || o.Scale > 100:
		return fmt.Errorf("%w: scale %g is out of range; use more than 0 and up to 100", ErrScenario, o.Scale)
	case s.Restarts && o.Broker == nil:
		return fmt.Errorf("%w: %s needs a broker that it can kill", ErrScenario, s.Name)
	}
	if o.Scale == 0 {
		o.Scale = 1
	}
	if o.Observe == nil {
		o.Observe = func(string) {}
	}
	defer func() {
		for _, m := range proxies {
			m.ClearTrap()
			m.Clear()
			err = errors.Join(err, m.Refuse(false))
		}
	}()
	return s.play(ctx, &play{proxies, o, rand.New(rand.NewPCG(o.Seed, 0))}) //nolint:gosec // faults that can be repeated.
}

// Find is the scenario of a name.
func Find(name string) (Scenario, error) {
	all := Scenarios()
	i := slices.IndexFunc(all, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, fmt.Errorf("%w: there is no %q", ErrScenario, name)
	}
	return all[i], nil
}

// scaled is a time of the scenario.
func (p *play) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * p.o.Scale)
}

// wait lets a time of the scenario pass.
func (p *play) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(p.scaled(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// each calls f for each proxy.
func (p *play) each(f func(m *MQTT)) {
	for _, m := range p.proxies {
		f(m)
	}
}

// both calls f for each proxy and the two directions.
func (p *play) both(f func(m *MQTT, d Direction)) {
	p.each(func(m *MQTT) {
		f(m, ToServer)
		f(m, ToClient)
	})
}

// hold has the broker get something to forget: subscribers do not acknowledge, so
// that what comes for them waits there.
func (p *play) hold(ctx context.Context) error {
	if len(p.proxies) == 1 {
		return nil
	}
	p.o.Observe("subscribers held up")
	for _, m := range p.proxies[1:] {
		m.StopReading(ToServer, true)
	}
	before := p.kept()
	if err := p.wait(ctx, time.Second); err != nil {
		return err
	}
	const most, tick = 10 * time.Second, 10 * time.Millisecond
	look := time.NewTicker(tick)
	defer look.Stop()
	for end := time.Now().Add(most); p.kept()-before < p.o.Held && time.Now().Before(end); {
		select {
		case <-look.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// kept is how many messages the broker has taken and not sent to subscribers, up to
// a constant.
func (p *play) kept() int {
	taken, _ := p.proxies[0].look.counts()
	for _, m := range p.proxies[1:] {
		_, sent := m.look.counts()
		taken -= sent
	}
	return taken
}

// letGo ends hold.
func (p *play) letGo() {
	for _, m := range p.proxies[1:] {
		m.StopReading(ToServer, false)
	}
}

// during has something done again and again for a time.
func (p *play) during(ctx context.Context, d time.Duration, do func(ctx context.Context) error) error {
	within, cancel := context.WithTimeout(ctx, p.scaled(d))
	defer cancel()
	for within.Err() == nil {
		if err := do(within); err != nil && within.Err() == nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// snap springs a trap again and again, each time after 5 to 30 packets that pass.
func (p *play) snap(ctx context.Context, t Trap) error {
	const least, most = 5, 30
	t.After = least + p.random.IntN(most-least+1)
	p.o.Observe(fmt.Sprintf("waiting for packet %d", t.After+1))
	select {
	case <-p.proxies[0].SetTrap(t):
	case <-ctx.Done():
	}
	return nil
}
