package redis

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// uncompletedFor is how long after its lease a key that nobody completed is
// remembered: it carries the attempts, which count across redeliveries.
const uncompletedFor = 24 * time.Hour

// maxSweepBuckets bounds how many buckets one script visits.
const maxSweepBuckets = 512

// ExpireProcessed forgets keys; see [persist.Processed]. It goes through the
// groups, in each through the keys in work and then through the buckets of the
// completed ones, and the place where it stopped is kept in the store, so that
// short-lived processes get round as well.
func (s *Store) ExpireProcessed(ctx context.Context, limit int) (int, error) {
	const op = "expire keys"
	if limit <= 0 {
		return 0, invalid(op, s.name, "limit is %d, must be positive", limit)
	}
	answer, err := s.do(ctx, op, s.name, s.run.sweepAt, []string{s.keys.totals, s.keys.groups})
	if err != nil {
		return 0, err
	}
	w := sweep{s: s, left: limit}
	for _, g := range asList(at(asList(answer), 1)) {
		w.groups = append(w.groups, asText(g))
	}
	if len(w.groups) == 0 {
		return 0, nil
	}
	slices.Sort(w.groups)
	before := asText(at(asList(answer), 0))
	w.place = readPlace(before)
	if _, found := slices.BinarySearch(w.groups, w.place.group); !found {
		w.place = place{group: w.groups[0], cursor: "0"}
	}
	// Once round: from a place within a group back to it the group is visited
	// twice, in parts.
	rounds := len(w.groups) + 1
	if w.place == (place{group: w.place.group, cursor: "0"}) {
		rounds--
	}
	for rounds > 0 && w.left > 0 {
		if err = w.step(ctx, op); err != nil {
			break
		}
		if w.place.over {
			i, _ := slices.BinarySearch(w.groups, w.place.group)
			w.place = place{group: w.groups[(i+1)%len(w.groups)], cursor: "0"}
			rounds--
		}
	}
	if after := w.place.String(); err == nil && after != before {
		_, err = s.do(ctx, op, s.name, s.run.swept, []string{s.keys.totals}, after)
	}
	return w.forgotten, err
}

// sweep is one call of ExpireProcessed.
type sweep struct {
	s         *Store
	groups    []string // ascending
	place     place
	left      int // keys that may be looked at yet
	forgotten int
}

// place is where a sweep goes on: in the keys in work at a cursor of HSCAN, or
// in a bucket.
type place struct {
	group  string
	done   bool // in the buckets
	cursor string
	bucket int
	skip   int64 // keys to pass over
	over   bool  // the group is
}

func (p place) String() string {
	if p.done {
		return fmt.Sprintf("%s done %d %d", p.group, p.bucket, p.skip)
	}
	return fmt.Sprintf("%s work %s %d", p.group, p.cursor, p.skip)
}

// readPlace reads what String made; what cannot be read is no place.
func readPlace(text string) (p place) {
	f := strings.Fields(text)
	if len(f) != 4 {
		return p
	}
	p.group, p.cursor, p.done = f[0], f[2], f[1] == "done"
	p.skip, _ = strconv.ParseInt(f[3], 10, 64)
	if p.done {
		p.bucket, _ = strconv.Atoi(f[2])
		p.cursor = ""
	}
	return p
}

// step visits some keys and moves the place.
func (w *sweep) step(ctx context.Context, op string) error {
	g := w.s.keys.group(w.place.group)
	if w.place.done {
		return w.stepDone(ctx, op, &g)
	}
	answer, err := w.s.do(ctx, op, w.s.name, w.s.run.sweepWork, []string{w.s.keys.totals, g.work},
		w.left, w.place.cursor, w.place.skip, uncompletedFor.Milliseconds())
	if err != nil {
		return err
	}
	f := asList(answer)
	w.count(f)
	w.place.cursor, w.place.skip = asText(at(f, 2)), asInt(at(f, 3))
	if asInt(at(f, 4)) == 0 {
		w.place = place{group: w.place.group, done: true}
	}
	return nil
}

func (w *sweep) stepDone(ctx context.Context, op string, g *groupKeys) error {
	answer, err := w.s.do(ctx, op, w.s.name, w.s.run.sweepUsed, []string{g.used})
	if err != nil {
		return err
	}
	names := []string{w.s.keys.totals, g.used}
	var buckets []int
	bits := asText(answer)
	for b := max(w.place.bucket, 0); b < 8*len(bits) && len(buckets) < min(maxSweepBuckets, w.left); b++ {
		if bits[b/8]&(0x80>>(b%8)) != 0 {
			buckets = append(buckets, b)
			names = append(names, g.bucket(uint32(b)))
		}
	}
	if len(buckets) == 0 {
		w.place.over = true
		return nil
	}
	if buckets[0] != w.place.bucket {
		w.place.skip = 0
	}
	answer, err = w.s.do(ctx, op, w.s.name, w.s.run.sweep, names, w.left, w.place.skip)
	if err != nil {
		return err
	}
	f := asList(answer)
	w.count(f)
	over := int(asInt(at(f, 2)))
	w.place.skip = asInt(at(f, 3))
	if over < len(buckets) {
		w.place.bucket = buckets[max(over, 0)]
	} else {
		w.place.bucket = buckets[len(buckets)-1] + 1
	}
	return nil
}

func (w *sweep) count(f []any) {
	w.left -= int(asInt(at(f, 0)))
	w.forgotten += int(asInt(at(f, 1)))
}
