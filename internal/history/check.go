package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Options tell what is promised.
type Options struct {
	// Once: effects and marks commit together, so that one effect is all that a
	// message may have. Else each crash may leave one more [I3].
	Once bool
	// EffectOrder: the effects of a key are in order, too, not only the arrivals
	// [I4]. It holds with one subscriber that never starts again.
	EffectOrder bool
	// Accounts is how many there are; zero if the balances are not checked.
	Accounts int
	// DrainLimit is I8's; zero for 60 s.
	DrainLimit time.Duration
}

// Checker takes a record in, one operation after another.
type Checker struct {
	opts     Options
	streams  map[stream]*known
	fenced   map[fencedValue]int // effects under one claim
	claims   map[Value]claims
	counts   map[Value]int // effects of a value, if more than one
	receipts []Value
	balances map[int]int64
	report   Report
	accepted int
}

// stream is a producer's key.
type stream struct{ producer, key int }

type fencedValue struct {
	value Value
	pod   string
	fence int64
}

// claims are the fences under which a key was granted and completed.
type claims struct {
	granted int64 // the highest
	marked  []int64
}

// known is what is known of a stream.
type known struct {
	attempted, ok, info, failed bitmap
	arrived, effect, dead       bitmap
	length                      int // highest number seen, plus one
	lastArrival, lastEffect     int // the highest number that has come, plus one
	late                        []lateness
}

// lateness is a value that came for the first time after a later one.
type lateness struct {
	kind       Kind
	seq, after int
}

// New makes a checker.
func New(opts Options) *Checker {
	opts.DrainLimit = cmp.Or(opts.DrainLimit, time.Minute)
	return &Checker{
		opts: opts, streams: make(map[stream]*known), fenced: make(map[fencedValue]int),
		claims: make(map[Value]claims), counts: make(map[Value]int), balances: make(map[int]int64),
		report: Report{Faults: make(map[string]int)},
	}
}

func (c *Checker) stream(v Value) *known {
	k := c.streams[stream{v.Producer, v.Key}]
	if k == nil {
		k = &known{}
		c.streams[stream{v.Producer, v.Key}] = k
	}
	k.length = max(k.length, v.Seq+1)
	return k
}

// Add takes the next operation.
func (c *Checker) Add(op Op) {
	r := &c.report
	switch op.Kind {
	case Fault:
		r.Faults[op.Text]++
	case Crash:
		r.Crashes++
	case Packet:
		c.found(&r.Wire, "I7", "%s", op.Text)
	case Outbox:
		if op.Amount != 0 {
			c.found(&r.Stuck, "I6", "%d messages are left in the outbox", op.Amount)
		}
	case Balance:
		c.balances[op.Account] = op.Amount
	case Drain:
		if took := time.Duration(op.Amount) * time.Millisecond; op.Type == Fail || took > c.opts.DrainLimit {
			c.found(&r.Stuck, "I8", "not at an end %s after the faults: %s", took, op.Text)
		}
	default:
		for _, v := range op.Values {
			c.value(&op, v)
		}
	}
}

func (c *Checker) value(op *Op, v Value) {
	k := c.stream(v)
	switch op.Kind {
	case Enqueue:
		switch op.Type {
		case Invoke:
			k.attempted.set(v.Seq)
		case OK:
			if !k.ok.set(v.Seq) {
				c.accepted++
			}
		case Fail:
			k.failed.set(v.Seq)
		case Info:
			k.info.set(v.Seq)
		}
	case Arrival:
		if k.arrived.set(v.Seq) {
			c.report.Repeated++
			return
		}
		c.report.Arrivals++
		k.lastArrival = k.order(Arrival, v.Seq, k.lastArrival)
	case Effect:
		c.effect(op, v, k)
	case Dead:
		if !k.dead.set(v.Seq) {
			c.report.Dead++
		}
	case Claim:
		held := c.claims[v]
		if op.Fence == held.granted {
			c.found(&c.report.Fences, "I5", "%s was granted twice under fence %d", v, op.Fence)
		}
		held.granted = max(held.granted, op.Fence)
		c.claims[v] = held
	case Mark:
		held := c.claims[v]
		held.marked = append(held.marked, op.Fence)
		c.claims[v] = held
	case Receipt:
		c.receipts = append(c.receipts, v)
		c.report.Acknowledged++
	default:
	}
}

// order notes a value that comes late, and returns the new end.
func (k *known) order(kind Kind, seq, end int) int {
	if seq < end {
		k.late = append(k.late, lateness{kind, seq, end - 1})
		return end
	}
	return seq + 1
}

func (c *Checker) effect(op *Op, v Value, k *known) {
	c.report.Effects++
	if op.Fence != 0 && !c.opts.Once {
		f := fencedValue{v, op.Pod, op.Fence}
		if c.fenced[f]++; c.fenced[f] == 2 {
			c.found(&c.report.Doubled, "I3", "%s had two effects under one claim, fence %d of %s", v, op.Fence, op.Pod)
		}
	}
	if !k.effect.set(v.Seq) {
		k.lastEffect = k.order(Effect, v.Seq, k.lastEffect)
		return
	}
	c.report.Extra++
	c.counts[v]++ // beyond the first
}

// found counts a violation, and describes the first few of an invariant.
func (c *Checker) found(count *int, invariant, format string, args ...any) {
	*count++
	const most = 10
	if *count <= most {
		c.report.Words = append(c.report.Words, invariant+": "+fmt.Sprintf(format, args...))
	}
}

// Report is what the record shows, once all of it was added.
func (c *Checker) Report() *Report {
	keys := slices.SortedFunc(maps.Keys(c.streams), func(a, b stream) int {
		return cmp.Or(cmp.Compare(a.producer, b.producer), cmp.Compare(a.key, b.key))
	})
	expected := make(map[int]int64)
	for _, s := range keys {
		k := c.streams[s]
		for seq := range k.length {
			c.ending(Value{s.producer, s.key, seq}, k, expected)
		}
		c.lateness(s, k)
	}
	c.excess()
	c.fences()
	for _, v := range c.receipts {
		if k := c.stream(v); !k.effect.has(v.Seq) && !k.dead.has(v.Seq) {
			c.found(&c.report.Receipts, "I6", "%s has a receipt and neither effect nor dead letter", v)
		}
	}
	c.balance(expected)
	return &c.report
}

// Accepted is how many values have been stored for certain so far.
func (c *Checker) Accepted() int { return c.accepted }

// Arrived is how many values have reached the broker so far.
func (c *Checker) Arrived() int { return c.report.Arrivals }

// Settled is how many values have had an effect so far.
func (c *Checker) Settled() int { return c.report.Effects - c.report.Extra }

// Missing is how many values have been stored for certain and have neither effect
// nor dead letter so far, and one of them; has tells of effects that the checker
// was not told of, and may be nil.
func (c *Checker) Missing(has func(Value) bool) (missing int, example Value) {
	for s, k := range c.streams {
		for seq := range k.length {
			v := Value{s.producer, s.key, seq}
			if k.ok.has(seq) && !k.effect.has(seq) && !k.dead.has(seq) && (has == nil || !has(v)) {
				missing++
				example = v
			}
		}
	}
	return missing, example
}

// ending judges one value, and adds what it should have done to the accounts.
func (c *Checker) ending(v Value, k *known, expected map[int]int64) {
	r := &c.report
	ok, possible := k.ok.has(v.Seq), k.ok.has(v.Seq) || k.info.has(v.Seq)
	switch {
	case ok:
		r.Messages++
	case k.info.has(v.Seq):
		r.Unknown++
	case k.failed.has(v.Seq):
		r.Failed++
	case k.attempted.has(v.Seq): // the observer saw no answer
		r.Unknown++
		possible = true
	}
	effect := k.effect.has(v.Seq)
	switch {
	case ok && !effect && !k.dead.has(v.Seq):
		c.found(&r.Lost, "I1", "%s was accepted and has neither effect nor dead letter (arrived at the broker: %t)", v, k.arrived.has(v.Seq))
	case !possible && (effect || k.arrived.has(v.Seq) || k.dead.has(v.Seq)):
		what := "was never enqueued"
		if k.failed.has(v.Seq) {
			what = "was not enqueued: it failed or was rolled back"
		}
		c.found(&r.Ghosts, "I2", "%s %s, and is there", v, what)
	}
	if c.opts.Accounts > 0 && (effect || ok && !k.dead.has(v.Seq)) {
		from, to, amount := v.Transfer(c.opts.Accounts)
		expected[from] -= amount
		expected[to] += amount
	}
}

// lateness judges the order [I4]. What became a dead letter has no place in it,
// and neither has an enqueue of which nobody knows when it happened.
func (c *Checker) lateness(s stream, k *known) {
	for _, l := range k.late {
		if l.kind == Effect && !c.opts.EffectOrder || k.dead.has(l.seq) || !k.ok.has(l.seq) {
			continue
		}
		c.found(&c.report.Reordered, "I4", "first %s of %s after that of number %d", l.kind, Value{s.producer, s.key, l.seq}, l.after)
	}
}

// excess judges the number of effects [I3].
func (c *Checker) excess() {
	for v, extra := range c.counts {
		if c.opts.Once || extra > c.report.Crashes {
			c.found(&c.report.Doubled, "I3", "%s had %d effects, with %d crashes", v, extra+1, c.report.Crashes)
		}
	}
}

// fences judges completions: only the holder of the latest claim completes, after
// which there is no claim any more [I5]. A claim may be missing in the record, if
// its holder died before it could tell.
func (c *Checker) fences() {
	for v, held := range c.claims {
		for _, fence := range held.marked {
			if fence < held.granted {
				c.found(&c.report.Fences, "I5", "%s was completed under fence %d, and claimed under fence %d", v, fence, held.granted)
			}
		}
	}
}

func (c *Checker) balance(expected map[int]int64) {
	if c.opts.Accounts == 0 {
		return
	}
	sum := int64(0)
	for account := range c.opts.Accounts {
		sum += c.balances[account]
		if got := c.balances[account]; got != expected[account] {
			c.found(&c.report.Unbalanced, "balance", "account %d has %d instead of %d", account, got, expected[account])
		}
	}
	if sum != 0 {
		c.found(&c.report.Unbalanced, "balance", "all accounts together have %d instead of 0", sum)
	}
}
