package chaos

import (
	"math/rand/v2"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/history"
)

// faultKind is one kind of fault.
type faultKind struct {
	kind string
	// crash tells that a handler may have had its effect without a mark, or lost
	// its claim: in leased mode it may run once more.
	crash bool
	// group names faults of which only one is possible at a time.
	group string
	// begin does it, and tells how long it lasts and how it ends; end may be nil.
	begin func(n *nemesis) (lasts time.Duration, end func())
}

// between is a time of the range, by the random numbers of the run.
func between(random *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(random.Int64N(int64(most-least)+1))
}

// pick is one of a list.
func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

// retryCodes are reason codes of a server that would have us again later.
func retryCodes() []byte { return []byte{0x80, 0x83, 0x88, 0x89, 0x97, 0x9F} }

// commonFaults are those that need no particular store.
func commonFaults() []faultKind {
	return append(processFaults(), networkFaults()...)
}

func processFaults() []faultKind {
	kill := func(role string) func(n *nemesis) (time.Duration, func()) {
		return func(n *nemesis) (time.Duration, func()) {
			pick(n.random, n.run.of(role)).kill()
			return between(n.random, 0, 300*time.Millisecond), nil
		}
	}
	stop := func(role string) func(n *nemesis) (time.Duration, func()) {
		return func(n *nemesis) (time.Duration, func()) {
			i := pick(n.random, n.run.of(role)).now()
			i.process.Pause()
			return between(n.random, n.run.lease, 3*n.run.lease), i.process.Continue
		}
	}
	return []faultKind{
		{kind: "kill relay", begin: kill("relay")},
		{kind: "kill subscriber", crash: true, begin: kill("subscriber")},
		{kind: "kill producer", begin: kill("producer")},
		{kind: "stop relay", group: "halt", begin: stop("relay")},
		{kind: "stop subscriber", group: "halt", crash: true, begin: stop("subscriber")},
		{kind: "rolling restart", group: "halt", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
			for _, role := range []string{"relay", "subscriber"} {
				for _, m := range n.run.of(role) {
					m.restart()
				}
			}
			return 0, nil
		}},
		{kind: "stop broker", begin: func(n *nemesis) (time.Duration, func()) {
			n.run.broker.Pause()
			return between(n.random, 500*time.Millisecond, 3*time.Second), n.run.broker.Continue
		}},
		{kind: "takeover", begin: func(n *nemesis) (time.Duration, func()) {
			if clients := pick(n.random, n.run.taps).connected(); len(clients) > 0 {
				// The broker may be stopped, or the client gone.
				_ = intrude(n.run.ctx, n.run.broker.Addr(), pick(n.random, clients), 30*time.Millisecond)
			}
			return between(n.random, 0, 300*time.Millisecond), nil
		}},
	}
}

func networkFaults() []faultKind {
	// each strikes one of the two proxies, the relays' or the subscribers'.
	each := func(f func(n *nemesis, p *fault.MQTT) (time.Duration, func())) func(n *nemesis) (time.Duration, func()) {
		return func(n *nemesis) (time.Duration, func()) { return f(n, pick(n.random, n.run.proxies)) }
	}
	traps := func(kind string, codes []byte) faultKind {
		return faultKind{kind: kind, begin: func(n *nemesis) (time.Duration, func()) {
			at := n.random.IntN(2)
			after, code := n.random.IntN(30), byte(0)
			switch kind {
			case sayDisconnect, sayConnack:
				code, after = pick(n.random, codes), 0
			default:
				at = 0 // what relays send
			}
			n.run.proxies[at].SetTrap(trap(kind, after, code))
			if kind == sayConnack {
				n.run.proxies[at].CutNewest(fault.RST)
			}
			return between(n.random, 300*time.Millisecond, 800*time.Millisecond), n.run.proxies[at].ClearTrap
		}}
	}
	how := func(n *nemesis) fault.How { return fault.How(n.random.IntN(2)) }
	side := func(n *nemesis) fault.Direction { return fault.Direction(n.random.IntN(2)) }
	return []faultKind{
		{kind: "cut", begin: each(func(n *nemesis, p *fault.MQTT) (time.Duration, func()) {
			p.CutAll(how(n))
			return between(n.random, 0, 300*time.Millisecond), nil
		})},
		{kind: "cut in a packet", begin: each(func(n *nemesis, p *fault.MQTT) (time.Duration, func()) {
			p.CutAfter(side(n), 1+n.random.Int64N(4000), how(n))
			return between(n.random, 0, 300*time.Millisecond), nil
		})},
		{kind: "refuse", begin: each(func(n *nemesis, p *fault.MQTT) (time.Duration, func()) {
			require.NoError(n.run.t, p.Refuse(true))
			p.CutAll(fault.RST)
			return between(n.random, 200*time.Millisecond, 2*time.Second), func() { require.NoError(n.run.t, p.Refuse(false)) }
		})},
		{kind: "black hole", begin: each(func(n *nemesis, p *fault.MQTT) (time.Duration, func()) {
			p.BlackHole(true)
			return between(n.random, time.Second, 3*time.Second), func() { p.BlackHole(false) }
		})},
		{kind: "no reading", begin: each(func(n *nemesis, p *fault.MQTT) (time.Duration, func()) {
			d := side(n)
			p.StopReading(d, true)
			return between(n.random, time.Second, 3*time.Second), func() { p.StopReading(d, false) }
		})},
		{kind: "slow", begin: each(func(n *nemesis, p *fault.MQTT) (time.Duration, func()) {
			d := side(n)
			p.Latency(d, between(n.random, 20*time.Millisecond, 400*time.Millisecond))
			p.Bandwidth(d, 20_000+n.random.IntN(100_000))
			return between(n.random, 500*time.Millisecond, 2*time.Second), func() { p.Latency(d, 0); p.Bandwidth(d, 0) }
		})},
		{kind: "byte by byte", begin: each(func(n *nemesis, p *fault.MQTT) (time.Duration, func()) {
			d := side(n)
			p.Slice(d, 1)
			return between(n.random, 300*time.Millisecond, time.Second), func() { p.Slice(d, 0) }
		})},
		{kind: "short lives", begin: each(func(n *nemesis, p *fault.MQTT) (time.Duration, func()) {
			p.Lifetime(500*time.Millisecond, 1500*time.Millisecond, n.random.Uint64())
			p.CutAll(fault.RST)
			return between(n.random, 2*time.Second, 4*time.Second), func() { p.Lifetime(0, 0, 0) }
		})},
		traps(losePuback, nil), traps(cutPubrec, nil), traps(cutPubrel, nil),
		traps(sayDisconnect, retryCodes()), traps(sayConnack, retryCodes()),
	}
}

// server is what store servers have in common.
type server interface {
	Kill()
	Stop()
	Start()
	Pause()
	Continue()
}

// serverFaults are those of a store that is a server.
func serverFaults(s server) []faultKind {
	return []faultKind{
		{kind: "kill store", group: "store", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
			s.Kill()
			return between(n.random, 0, time.Second), s.Start
		}},
		{kind: "restart store", group: "store", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
			s.Stop()
			return between(n.random, 0, time.Second), s.Start
		}},
		{kind: "stop store", group: "store", crash: true, begin: func(n *nemesis) (time.Duration, func()) {
			s.Pause()
			return between(n.random, 200*time.Millisecond, 2*n.run.lease), s.Continue
		}},
	}
}

// step is one or two faults at once.
type step []faultKind

// plan is so many faults: every kind by itself, several in a row, and then pairs.
func plan(random *rand.Rand, kinds []faultKind, count int) []step {
	var steps []step
	singles := max(1, (count+1)/2/len(kinds))
	planned := 0
	for _, at := range random.Perm(len(kinds)) {
		for range singles {
			if planned < count {
				steps = append(steps, step{kinds[at]})
				planned++
			}
		}
	}
	for planned < count {
		a, b := random.IntN(len(kinds)), random.IntN(len(kinds))
		same := kinds[a].group != "" && kinds[a].group == kinds[b].group
		if a == b || same || planned+1 == count {
			steps = append(steps, step{kinds[a]})
			planned++
			continue
		}
		steps = append(steps, step{kinds[a], kinds[b]})
		planned += 2
	}
	return steps
}

// singles is every kind once, by itself.
func singles(random *rand.Rand, kinds []faultKind) []step {
	var steps []step
	for _, at := range random.Perm(len(kinds)) {
		steps = append(steps, step{kinds[at]})
	}
	return steps
}

// nemesis does what is planned.
type nemesis struct {
	run    *run
	random *rand.Rand
}

// strike does one step, and returns when it is over.
func (n *nemesis) strike(s step) {
	n.run.t.Helper()
	var ends []func()
	longest := time.Duration(0)
	kinds := make([]string, 0, len(s))
	for _, f := range s {
		kinds = append(kinds, f.kind)
		n.run.record(history.Op{Type: history.Info, Kind: history.Fault, Text: f.kind})
		if f.crash {
			n.run.record(history.Op{Type: history.Info, Kind: history.Crash, Text: f.kind})
		}
		lasts, end := f.begin(n)
		longest = max(longest, lasts)
		if end != nil {
			ends = append(ends, end)
		}
	}
	n.run.pause(longest)
	for _, end := range ends {
		end()
	}
	n.run.watcher.faultOver(strings.Join(kinds, " and "), n.run.accepted())
}
