package load

import (
	"sync"
	"time"

	hdrhistogram "github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept in microseconds, up to an hour, to within a percent.
const (
	mostLatency = int64(time.Hour / time.Microsecond)
	digits      = 2
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, mostLatency, digits) }

// series is the latencies of one phase over time, and all together. Workers add to it
// once a second each.
type series struct {
	clock *clock

	mu      sync.Mutex // guards the following
	all     *hdrhistogram.Histogram
	seconds map[int]*hdrhistogram.Histogram
	done    []Point       // seconds that were summed up, by their numbers
	first   time.Duration // of what was recorded; negative if nothing was
	last    time.Duration
}

func newSeries(c *clock) *series {
	return &series{clock: c, all: newHistogram(), seconds: make(map[int]*hdrhistogram.Histogram), first: -1}
}

// recorder is one worker's part of a series. It is used by one goroutine at a time.
type recorder struct {
	series *series
	own    *hdrhistogram.Histogram
	second int
	first  time.Duration // since the last flush
	last   time.Duration
}

func (s *series) recorder() *recorder { return &recorder{series: s, own: newHistogram()} }

// record notes n messages that were done at now, a time since the start, after having
// been due for that long.
func (r *recorder) record(now, latency time.Duration, n int64) {
	if second := int(now / time.Second); second != r.second {
		r.flush()
		r.second = second
	}
	if r.own.TotalCount() == 0 {
		r.first = now
	}
	r.last = now
	_ = r.own.RecordValues(min(max(int64(latency/time.Microsecond), 1), mostLatency), n) // it is in range
}

// flush adds what was recorded to the series.
func (r *recorder) flush() {
	if r.own.TotalCount() == 0 {
		return
	}
	s := r.series
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all.Merge(r.own)
	s.last = max(s.last, r.last)
	if s.first < 0 || r.first < s.first {
		s.first = r.first
	}
	h := s.seconds[r.second]
	if h == nil {
		h = newHistogram()
		s.seconds[r.second] = h
	}
	h.Merge(r.own)
	r.own.Reset()
	s.sumUp(r.second - keepSeconds)
}

// keepSeconds is for how long a second's histogram is kept for workers that are late.
const keepSeconds = 5

// sumUp turns old seconds into points; s.mu is held.
func (s *series) sumUp(before int) {
	for second, h := range s.seconds {
		if second >= before {
			continue
		}
		s.done = append(s.done, point(second, h))
		delete(s.seconds, second)
	}
}

func point(second int, h *hdrhistogram.Histogram) Point {
	return Point{
		Second: second, Messages: h.TotalCount(),
		P50: milliseconds(h.ValueAtQuantile(50)), P99: milliseconds(h.ValueAtQuantile(99)), Max: milliseconds(h.Max()),
	}
}

func milliseconds(us int64) float64 { return float64(us) / 1000 }

// progress is the last whole second that workers have told of. They tell of one when they
// have something to record in the next.
func (s *series) progress(phase string) Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock.since()
	p := Progress{Elapsed: now, Phase: phase}
	for back := 1; back <= 2; back++ {
		if h := s.seconds[int(now/time.Second)-back]; h != nil {
			p.Rate = float64(h.TotalCount())
			p.P50 = time.Duration(h.ValueAtQuantile(50)) * time.Microsecond
			p.P99 = time.Duration(h.ValueAtQuantile(99)) * time.Microsecond
			break
		}
	}
	return p
}
