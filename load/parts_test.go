package load

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTracker(t *testing.T) {
	t.Parallel()
	a, b := newTracker(), newTracker()
	for _, seq := range []uint64{1, 2, 3, 200} {
		require.True(t, a.add(&header{run: 1, seq: seq}))
	}
	require.False(t, a.add(&header{run: 1, seq: 2}))
	require.True(t, a.add(&header{run: 1, publisher: 1, seq: 2}), "another publisher")
	require.False(t, a.add(&header{run: 1, seq: mostSeq}), "a number that would take gigabytes")
	for _, seq := range []uint64{2, 4, 199} {
		b.add(&header{run: 1, seq: seq})
	}
	b.add(&header{run: 2, seq: 7})
	require.EqualValues(t, 196, a.gaps())
	a.join(b)
	require.EqualValues(t, 11, a.received)
	require.EqualValues(t, 8, a.distinct) // 1 2 3 4 199 200, one of publisher 1, one of run 2
	require.EqualValues(t, 194, a.gaps())

	p := published{attempted: 6, failed: map[uint64]struct{}{0: {}}, skipped: map[uint64]struct{}{5: {}}}
	require.EqualValues(t, 0, p.missing(a.sources[source{run: 1}]))
	require.EqualValues(t, 4, p.missing(nil))
	p.undelivered = map[uint64]struct{}{1: {}, 3: {}} // whether it has come or not
	require.EqualValues(t, 2, p.missing(nil))
}

// TestRecorder: what several workers record is all there, in its second.
func TestRecorder(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSeries(&c)
	a, b := s.recorder(), s.recorder()
	for i := range 100 {
		a.record(time.Duration(i)*100*time.Millisecond, time.Duration(i+1)*time.Millisecond, 1)
	}
	b.record(500*time.Millisecond, time.Second, 3) // it comes late
	b.record(9*time.Second, 2*time.Hour, 1)        // more than can be kept
	a.flush()
	b.flush()
	p := s.phase("x", 0)
	require.EqualValues(t, 104, p.Messages)
	require.InDelta(t, 50, p.Latency.P50, 3)
	require.InDelta(t, 3_600_000, p.Latency.Max, 40_000)
	require.InDelta(t, 9.9, p.Seconds, 0.001)
	require.Zero(t, s.first)
	seconds := make(map[int]int64)
	for _, point := range p.Series {
		seconds[point.Second] += point.Messages
	}
	require.EqualValues(t, 13, seconds[0])
	require.EqualValues(t, 10, seconds[5])
	require.EqualValues(t, 11, seconds[9])
	last := p.Series[len(p.Series)-1]
	require.InDelta(t, 0.9, last.Seconds, 0.001)
	require.InDelta(t, 11/0.9, last.Rate, 0.1)
}

// TestNothingIsAllocated: for a message, recording, numbering and tracking allocate
// nothing.
func TestNothingIsAllocated(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts what others allocate
	c := newClock()
	rec := newSeries(&c).recorder()
	track := newTracker()
	body := make([]byte, 256)
	h := header{run: 1}
	h.seq = 1 << 20
	track.add(&h) // room
	h.seq = 0
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		h.seq++
		h.put(body)
		got, ok := parseHeader(body)
		if !ok || !track.add(&got) {
			t.Error("it was not new")
		}
		rec.record(time.Millisecond, time.Millisecond, 1)
	}))
}

// BenchmarkPerMessage is what a run adds to each message, on both sides.
func BenchmarkPerMessage(b *testing.B) {
	c := newClock()
	rec := newSeries(&c).recorder()
	track := newTracker()
	body := make([]byte, 256)
	h := header{run: 1}
	for b.Loop() {
		h.seq = (h.seq + 1) % (1 << 20)
		h.put(body)
		got, _ := parseHeader(body)
		track.add(&got)
		now := c.since()
		rec.record(now, now, 2)
	}
}

func sample() Result {
	points := []Point{{0, 1, 100, 100, 1, 2, 3}, {1, 1, 300, 300, 1.5, 9, 30}, {2, 0.01, 200, 20_000, 1, 2, 3}}
	phase := func(name string) Phase {
		return Phase{Name: name, Messages: 600, Seconds: 3, Rate: 200, Latency: Latency{P50: 1, P99: 9, Max: 30}, Series: points}
	}
	return Result{Kind: "e2e", Durable: true, Store: "<&\">", Clients: 2, QoS: 1, Size: 256, Phases: []Phase{phase("stored"), phase("delivered")}}
}

// TestPlot: pictures are XML, also without a point, or with one, or with odd names.
func TestPlot(t *testing.T) {
	t.Parallel()
	one := sample()
	one.Phases[0].Series = one.Phases[0].Series[:1]
	for name, r := range map[string]Result{"three": sample(), "one": one, "none": {Kind: "pub"}} {
		for _, write := range []func(io.Writer) error{r.WriteSVG, r.WriteHTML} {
			var b bytes.Buffer
			require.NoError(t, write(&b), name)
			text := b.String()
			d := xml.NewDecoder(strings.NewReader(strings.TrimPrefix(text, "<!DOCTYPE html>\n")))
			elements := 0
			for {
				token, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				require.NoError(t, err, name)
				if _, ok := token.(xml.StartElement); ok {
					elements++
				}
			}
			require.Greater(t, elements, 20, name)
			require.NotContains(t, text, "NaN")
			require.NotContains(t, text, "<script")
		}
	}
	require.Equal(t, []float64{1, 1, 2, 5, 10, 200, 500_000}, []float64{ceiling(0), ceiling(1), ceiling(1.1), ceiling(3), ceiling(7), ceiling(123), ceiling(400_000)})
}

func TestCompare(t *testing.T) {
	t.Parallel()
	before, now := sample(), sample()
	before.Clients = 4
	now.Phases[1].Rate = 300
	now.Phases[1].Latency.P99 = 4.5
	// It goes through a file.
	data, err := json.Marshal(before)
	require.NoError(t, err)
	var read Result
	require.NoError(t, json.Unmarshal(data, &read))
	ratios, differences, err := now.Compare(&read)
	require.NoError(t, err)
	require.Equal(t, []string{"clients 4, now 2"}, differences)
	require.Len(t, ratios, 8)
	require.Contains(t, ratios, Ratio{"stored rate", 200, 200, 1})
	require.Contains(t, ratios, Ratio{"delivered rate", 200, 300, 1.5})
	require.Contains(t, ratios, Ratio{"delivered p99", 9, 4.5, 0.5})
	_, _, err = now.Compare(&Result{Kind: "pub"})
	require.ErrorContains(t, err, "one of bench pub, not of bench e2e")
}
