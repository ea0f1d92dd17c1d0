package comparison

import (
	"context"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/oncemq/oncemq/qos"
)

// tally follows the messages of one level over one link.
type tally struct {
	level qos.Level

	mu      sync.Mutex // guards the following
	notes   []note
	sent    int // accepted
	done    int // the client is through with them
	seen    int // the subscriber has them
	last    time.Time
	changed chan struct{} // closed and replaced
}

// note is what is known of a message.
type note struct {
	sent, answered, seen time.Time
	failed               bool
	copies               int
}

func newTally(level qos.Level, messages int) *tally {
	return &tally{level: level, notes: make([]note, messages), changed: make(chan struct{}), last: time.Now()}
}

func (t *tally) change(n int, set func(*note)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n < 0 || n >= len(t.notes) {
		return
	}
	set(&t.notes[n])
	t.last = time.Now()
	close(t.changed)
	t.changed = make(chan struct{})
}

// sending notes a message before it is handed over: its answer may be faster than
// the call.
func (t *tally) sending(n int) {
	t.change(n, func(m *note) {
		m.sent = time.Now()
		t.sent++
	})
}

// answered notes that the client is through with a message.
func (t *tally) answered(n int, ok bool) {
	t.change(n, func(m *note) {
		if m.answered.IsZero() {
			m.answered, m.failed = time.Now(), !ok
			t.done++
		}
	})
}

// arrived notes that the subscriber has a message.
func (t *tally) arrived(n int, at time.Time) {
	t.change(n, func(m *note) {
		if m.copies == 0 {
			m.seen = at
			t.seen++
		}
		m.copies++
	})
}

func (t *tally) progress() (sent, seen int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sent, t.seen
}

// settle waits until every message that was sent is through and was seen, or until
// all are through and nothing has happened for so long, or until the context ends.
func (t *tally) settle(ctx context.Context, quiet time.Duration) {
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	for {
		t.mu.Lock()
		through, all, changed := t.done >= t.sent, t.seen >= t.sent, t.changed
		left := quiet - time.Since(t.last)
		t.mu.Unlock()
		if through && (all || left <= 0) {
			return
		}
		timer.Reset(max(left, time.Millisecond))
		var due <-chan time.Time
		if through {
			due = timer.C
		}
		select {
		case <-changed:
		case <-due:
		case <-ctx.Done():
			return
		}
	}
}

// longest is the longest latency that is told apart, a minute in microseconds.
const longest = 60_000_000

// result counts.
func (t *tally) result() (total Counts, byKind [3]Counts, latency, answer *Latency) {
	t.mu.Lock()
	defer t.mu.Unlock()
	arrivals, answers := hdrhistogram.New(1, longest, 3), hdrhistogram.New(1, longest, 3)
	record := func(h *hdrhistogram.Histogram, d time.Duration) {
		_ = h.RecordValue(min(max(d.Microseconds(), 1), longest)) // within its range
	}
	for n := range t.notes {
		m := &t.notes[n]
		if m.sent.IsZero() {
			continue
		}
		of := &byKind[kindOf(n)]
		of.Sent++
		of.Duplicates += max(0, m.copies-1)
		through := !m.answered.IsZero()
		switch {
		case m.copies > 0 && !m.failed && (through || t.level == qos.AtMostOnce):
			of.Confirmed++
			record(arrivals, m.seen.Sub(m.sent))
			if t.level != qos.AtMostOnce {
				record(answers, m.answered.Sub(m.sent))
			}
		case !through:
			of.Pending++
		default:
			of.Lost++
		}
	}
	for i := range byKind {
		total.add(&byKind[i])
	}
	return total, byKind, newLatency(arrivals), newLatency(answers)
}
