package postgres

import (
	"slices"
	"strings"

	"github.com/oncemq/oncemq/internal/failpoint"
)

// gaps are the positions behind a lane's cursor at which no message was seen, and
// one may still appear.
//
// Positions come from a sequence, so that nobody waits for the transaction of
// another to get one; it may be a caller's, open for minutes. They become visible
// when their transactions commit, in any order:
//
//	A: takes position 1
//	B:                     takes 2, commits
//	lane:                            reads 2
//	A:                                        commits
//
// A lane that went on after 2 would never see 1 [OUTBOX-7]. So it keeps the range
// between the positions it saw as a gap, and looks into it again later.
//
// A gap need not be kept for ever. A transaction gets its number (xid) before it
// takes its first position: every insertion begins with a statement that writes.
// Numbers are given out in ascending order. So if a position is known to be taken,
// and we take a number ourselves afterwards, then whoever took the position, or
// one below it, has a lower number than ours. (The xmax of a snapshot would not do:
// it comes after the highest number that has ended, not after the highest given
// out.) Once the xmin of a later snapshot is not lower than our number, all of them
// have committed or never will, and a statement that comes after that snapshot sees
// what they committed. What is empty then stays empty.
//
// Next applies that as follows. Its first statement reads xmin and the highest
// position taken. If there are gaps, it also takes a number: with the position that
// was known from an earlier Next that makes a mark. When a later Next finds an xmin
// that is not lower than the mark's number, everything up to the mark is final: its
// later statements see all of it, so that the gaps up to there are looked into once
// more and forgotten, and what lies there in the page leaves no gaps.
//
// With no transaction open for long that takes two calls of Next, and the gaps are
// those of transactions that are under way.
//
// A transaction that stays open would keep the gaps that come after it, whatever it
// wrote, and in which database of the server. So when the gaps become many, the
// locks tell as well. A statement that inserts locks the outbox (RowExclusiveLock)
// when it is planned, or its plan is taken from the cache, which is before it takes
// a position; the lock stays until the transaction ends, or goes back to before the
// insertion, and what it did has become visible before that. So whoever took a
// position that was known beforehand, and may still commit it, is among those that
// hold the lock when we look: a watch. Once a later look finds none of them, all
// have ended, and a statement that comes after the look sees what they committed.
// A transaction that is prepared goes on under another name, at the latest when the
// server is restarted; so a prepared one is taken for one of those.
//
// What remains are gaps after a transaction that has inserted, or settled, and
// stays open. It may have taken any of them.
type gaps struct {
	list []gap // ascending, apart from each other
	// final: no message can appear any more up to this position.
	final int64
	// known is a position that was taken before the present call of Next.
	known int64
	mark  mark
	held  *held // nil: no watch
}

// gap is a range of positions, first and last included.
type gap struct{ first, last int64 }

// mark is a position that was taken, as all below it were, by transactions with
// numbers below xid.
type mark struct{ position, xid int64 }

// held is a position that was taken, as all below it were, by transactions that
// have ended or are among holders, as pg_locks calls them.
type held struct {
	position int64
	holders  []string
}

// watchedGaps is how many gaps are few. Looking at the locks costs more than
// looking into a few gaps, and holds up the whole server a little.
const watchedGaps = 64

// preparedHolder is how the names of prepared transactions begin in pg_locks.
const preparedHolder = "-1/"

// maxGaps bounds the list. Beyond, the lane hands out nothing but what fills gaps
// or becomes due, until the transaction that keeps them has ended: to forget a gap
// would lose a message. It takes that many failed insertions, or holes in a backlog
// that is read for the first time, while one transaction that has inserted stays open.
const maxGaps = 1 << 16

func (g *gaps) full() bool { return len(g.list) >= maxGaps }

// wantsMark tells whether the first statement of Next is to take a number.
func (g *gaps) wantsMark() bool {
	return len(g.list) > 0 && g.mark == (mark{}) && g.known > g.final
}

// wantsWatch tells whether the first statement of Next is to look at the locks.
func (g *gaps) wantsWatch() bool {
	return len(g.list) > watchedGaps && (g.held != nil || g.known > g.final)
}

// watch takes in who holds the lock that inserting takes; nil if nobody looked. It
// comes before observe, which takes in positions that may be younger.
func (g *gaps) watch(holders []string) {
	if holders == nil {
		return
	}
	if g.held != nil && !slices.ContainsFunc(holders, g.held.keptBy) {
		g.final = max(g.final, g.held.position)
		g.held = nil
	}
	if g.held == nil && g.known > g.final {
		g.held = &held{g.known, holders}
	}
}

// keptBy tells whether a holder is one of the watch.
func (h *held) keptBy(holder string) bool {
	return strings.HasPrefix(holder, preparedHolder) || slices.Contains(h.holders, holder)
}

// observe takes in what the first statement of Next has read: the oldest
// transaction under way, our own number (zero if none was taken) and the highest
// position taken, which may be younger than both.
func (g *gaps) observe(xmin, xid, last int64) {
	if g.mark != (mark{}) && xmin >= g.mark.xid {
		g.final = max(g.final, g.mark.position)
		g.mark = mark{}
	}
	if g.held != nil && g.held.position <= g.final {
		g.held = nil
	}
	if xid > 0 {
		g.mark = mark{g.known, xid}
	}
	g.known = max(g.known, last)
}

// settle forgets the gaps up to the final position, after all of them were looked
// at.
func (g *gaps) settle() {
	n := 0
	for n < len(g.list) && g.list[n].last <= g.final {
		n++
	}
	g.list = slices.Delete(g.list, 0, n)
	if len(g.list) > 0 && g.list[0].first <= g.final {
		g.list[0].first = g.final + 1
	}
}

// add keeps what lies between two positions of the list's end, both excluded.
func (g *gaps) add(after, before int64) {
	first := max(after, g.final) + 1
	if first < before && !failpoint.Mutant(failpoint.PageByHighest) {
		g.list = append(g.list, gap{first, before - 1})
	}
}

// take takes a position out and tells whether it was in.
func (g *gaps) take(position int64) bool {
	i, found := slices.BinarySearchFunc(g.list, position, func(g gap, p int64) int {
		switch {
		case g.last < p:
			return -1
		case g.first > p:
			return 1
		}
		return 0
	})
	if !found {
		return false
	}
	switch old := g.list[i]; {
	case old.first == old.last:
		g.list = slices.Delete(g.list, i, i+1)
	case position == old.first:
		g.list[i].first++
	case position == old.last:
		g.list[i].last--
	default:
		g.list[i].last = position - 1
		g.list = slices.Insert(g.list, i+1, gap{position + 1, old.last})
	}
	return true
}

// clone is a copy that can change by itself.
func (g *gaps) clone() gaps {
	c := *g
	c.list = slices.Clone(g.list)
	return c
}

// bounds are the gaps as arrays.
func (g *gaps) bounds() (first, last []int64) {
	first, last = make([]int64, len(g.list)), make([]int64, len(g.list))
	for i, gap := range g.list {
		first[i], last[i] = gap.first, gap.last
	}
	return first, last
}
