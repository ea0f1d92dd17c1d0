package load

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Result is what a run has measured, and what oncemq bench --json prints.
type Result struct {
	Kind    string `json:"kind"` // pub, sub, e2e, store
	Durable bool   `json:"durable"`
	Store   string `json:"store,omitempty"`
	Clients int    `json:"clients"`
	// Subscribers is how many received beside the publishers of an e2e run.
	Subscribers int  `json:"subscribers,omitempty"`
	QoS         byte `json:"qos"`
	Size        int  `json:"size"`
	// Rate is that which was asked for; zero if it was as many as go.
	Rate    float64   `json:"rate,omitempty"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`

	// Sent counts messages that were accepted: stored, or acknowledged by the
	// broker; Failed those that were not, or that the broker refused later.
	Sent   int64 `json:"sent"`
	Failed int64 `json:"failed"`
	// Undelivered counts stored messages that the broker had not acknowledged when
	// the time to wait for that was over.
	Undelivered int64 `json:"undelivered"`
	// Received counts messages that arrived, copies included; Duplicates the
	// copies; Lost what did not arrive: of what was sent, if publishers are in this
	// run, else of the numbers between the first and the last that arrived.
	Received   int64 `json:"received"`
	Duplicates int64 `json:"duplicates"`
	Lost       int64 `json:"lost"`
	// Suppressed counts copies that the group's memory of keys kept from the
	// subscribers.
	Suppressed int64 `json:"suppressed,omitempty"`

	// Phases are what was measured, in order: stored, delivered, received, or
	// enqueue, drain and claim of a store.
	Phases []Phase `json:"phases"`
	// Interrupted: the run was ended before its time.
	Interrupted bool `json:"interrupted,omitempty"`
}

// Phase is one thing that was measured.
type Phase struct {
	Name     string  `json:"name"`
	Messages int64   `json:"messages"`
	Seconds  float64 `json:"seconds"`
	// Rate is messages a second.
	Rate float64 `json:"rate"`
	// Latency is in milliseconds, from when a message was due.
	Latency Latency `json:"latency_ms"`
	// Series is by the second.
	Series []Point `json:"series"`
}

// Latency are percentiles, in milliseconds.
type Latency struct {
	Min  float64 `json:"min"`
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// Point is one second of a phase, of which the first and the last may be shorter;
// latencies are in milliseconds.
type Point struct {
	Second   int     `json:"second"`
	Seconds  float64 `json:"seconds"` // how much of it the phase lasted
	Messages int64   `json:"messages"`
	Rate     float64 `json:"rate"`
	P50      float64 `json:"p50"`
	P99      float64 `json:"p99"`
	Max      float64 `json:"max"`
}

// Phase returns the phase of a name; nil if there is none.
func (r *Result) Phase(name string) *Phase {
	for i := range r.Phases {
		if r.Phases[i].Name == name {
			return &r.Phases[i]
		}
	}
	return nil
}

// fromFirst as the begin of a phase is when its first message was done.
const fromFirst = time.Duration(-1)

// phase sums a series up; from is when it began, since the start of the run.
func (s *series) phase(name string, from time.Duration) Phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sumUp(math.MaxInt)
	if from == fromFirst {
		from = max(s.first, 0)
	}
	h := s.all
	took := max(s.last-from, 0).Seconds()
	p := Phase{
		Name: name, Messages: h.TotalCount(), Seconds: took,
		Latency: Latency{
			Mean: math.Round(h.Mean()) / 1000, Max: milliseconds(h.Max()), Min: milliseconds(h.Min()),
			P50: milliseconds(h.ValueAtQuantile(50)), P90: milliseconds(h.ValueAtQuantile(90)),
			P99: milliseconds(h.ValueAtQuantile(99)), P999: milliseconds(h.ValueAtQuantile(99.9)),
		},
		Series: slices.Clone(s.done),
	}
	if took > 0 {
		p.Rate = float64(p.Messages) / took
	}
	for i := range p.Series {
		point := &p.Series[i]
		begin := max(float64(point.Second), from.Seconds())
		point.Seconds = max(min(float64(point.Second+1), s.last.Seconds())-begin, 0)
		if point.Seconds > 0 {
			point.Rate = float64(point.Messages) / point.Seconds
		}
	}
	slices.SortFunc(p.Series, func(a, b Point) int { return cmp.Compare(a.Second, b.Second) })
	return p
}
