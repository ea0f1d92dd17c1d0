package load

import (
	"crypto/rand"
	"encoding/binary"
	"time"
)

// HeaderSize is what a payload has at least: a magic number, the run, the publisher's
// number, the message's and the time when it was due.
const HeaderSize = 4 + 8 + 4 + 8 + 8

const magic = 0x6f6e6365 // "once"

// header is the beginning of a payload.
type header struct {
	run       uint64
	publisher uint32
	seq       uint64
	due       int64 // Unix nanoseconds
}

func (h *header) put(payload []byte) {
	binary.BigEndian.PutUint32(payload, magic)
	binary.BigEndian.PutUint64(payload[4:], h.run)
	binary.BigEndian.PutUint32(payload[12:], h.publisher)
	binary.BigEndian.PutUint64(payload[16:], h.seq)
	binary.BigEndian.PutUint64(payload[24:], uint64(h.due))
}

// parseHeader reads a payload; it is false for one that is not a run's.
func parseHeader(payload []byte) (h header, ok bool) {
	if len(payload) < HeaderSize || binary.BigEndian.Uint32(payload) != magic {
		return h, false
	}
	return header{
		run: binary.BigEndian.Uint64(payload[4:]), publisher: binary.BigEndian.Uint32(payload[12:]),
		seq: binary.BigEndian.Uint64(payload[16:]), due: int64(binary.BigEndian.Uint64(payload[24:])),
	}, true
}

func randomRun() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return binary.BigEndian.Uint64(b[:])
}

// clock is the time of day at the start, plus what has passed since by the monotonic
// clock: setting the machine's clock in between changes nothing.
type clock struct {
	start time.Time
	unix  int64
}

func newClock() clock {
	now := time.Now()
	return clock{now, now.UnixNano()}
}

// since is the time since the start.
func (c *clock) since() time.Duration { return time.Since(c.start) }

// nanos is a time since the start in Unix nanoseconds.
func (c *clock) nanos(since time.Duration) int64 { return c.unix + int64(since) }

// pace tells when messages of one publisher are due.
type pace struct {
	first time.Duration // since the start
	every float64       // nanoseconds; zero if there is no rate
	limit int64         // messages; zero if there is no count
	until time.Duration // zero if there is no end by time
}

func (c *Config) pace(i int, now time.Duration) pace {
	p := pace{first: now, limit: c.share(i)}
	if c.Duration > 0 {
		p.until = now + c.Duration
	}
	if c.Rate > 0 {
		p.every = float64(time.Second) * float64(c.Clients) / c.Rate
		p.first += time.Duration(p.every * float64(i) / float64(c.Clients)) // not all at once
	}
	return p
}

// at is when message n is due; with no rate that is now.
func (p *pace) at(n int64, now time.Duration) time.Duration {
	if p.every == 0 {
		return now
	}
	return p.first + time.Duration(p.every*float64(n))
}

// over tells whether message n is not to be sent any more.
func (p *pace) over(n int64, count bool, now time.Duration) bool {
	return count && n >= p.limit || p.until > 0 && p.at(n, now) >= p.until
}

// due is how many messages from n on are due by now, up to a batch.
func (p *pace) due(n int64, now time.Duration, cfg *Config) int {
	k := 0
	for k < cfg.Batch && p.at(n+int64(k), now) <= now && !p.over(n+int64(k), cfg.Count > 0, now) {
		k++
	}
	return k
}
