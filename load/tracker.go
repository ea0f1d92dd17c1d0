package load

import "math/bits"

// source is one publisher of one run.
type source struct {
	run       uint64
	publisher uint32
}

// tracker remembers which messages have arrived. It is used by one goroutine at a time.
type tracker struct {
	sources map[source]*arrivals
	last    source // the one that was looked up last
	found   *arrivals
	// received counts all, distinct those that came for the first time.
	received, distinct int64
}

// arrivals are the numbers that have come of one source.
type arrivals struct {
	set       []uint64
	low, high uint64 // the lowest and the highest
}

func newTracker() *tracker { return &tracker{sources: make(map[source]*arrivals)} }

// mostSeq bounds the memory that a made-up number could ask for: two billion messages
// of one publisher.
const mostSeq = 1 << 31

// add notes a message, and tells whether it came for the first time.
func (t *tracker) add(h *header) (first bool) {
	s := source{h.run, h.publisher}
	if t.found == nil || s != t.last {
		t.last, t.found = s, t.sources[s]
		if t.found == nil {
			t.found = &arrivals{low: h.seq, high: h.seq}
			t.sources[s] = t.found
		}
	}
	t.received++
	if t.found.add(h.seq) {
		t.distinct++
		return true
	}
	return false
}

func (a *arrivals) add(seq uint64) bool {
	if seq >= mostSeq {
		return false
	}
	word, bit := int(seq/64), uint64(1)<<(seq%64)
	for len(a.set) <= word {
		a.set = append(a.set, 0)
	}
	if a.set[word]&bit != 0 {
		return false
	}
	a.set[word] |= bit
	a.low, a.high = min(a.low, seq), max(a.high, seq)
	return true
}

func (a *arrivals) has(seq uint64) bool {
	word := int(seq / 64)
	return word < len(a.set) && a.set[word]&(1<<(seq%64)) != 0
}

func (a *arrivals) count() (n int64) {
	for _, word := range a.set {
		n += int64(bits.OnesCount64(word))
	}
	return n
}

// join adds what another one has: subscribers that share messages know them together.
func (t *tracker) join(o *tracker) {
	t.received += o.received
	t.distinct = 0
	for s, theirs := range o.sources {
		ours := t.sources[s]
		if ours == nil {
			t.sources[s] = theirs
			continue
		}
		for len(ours.set) < len(theirs.set) {
			ours.set = append(ours.set, 0)
		}
		for i, word := range theirs.set {
			ours.set[i] |= word
		}
		ours.low, ours.high = min(ours.low, theirs.low), max(ours.high, theirs.high)
	}
	for _, a := range t.sources {
		t.distinct += a.count()
	}
	t.found = nil
}

// gaps counts the numbers between the first and the last of each source that have not
// come.
func (t *tracker) gaps() (n int64) {
	for _, a := range t.sources {
		n += int64(a.high-a.low) + 1 - a.count()
	}
	return n
}
