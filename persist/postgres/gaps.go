package postgres

import "slices"

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
// those of transactions that are under way. A transaction that has written and
// stays open, whatever it wrote, keeps the gaps that come after it, those of
// insertions that rolled back among them.
type gaps struct {
	list []gap // ascending, apart from each other
	// final: no message can appear any more up to this position.
	final int64
	// known is a position that was taken before the present call of Next.
	known int64
	mark  mark
}

// gap is a range of positions, first and last included.
type gap struct{ first, last int64 }

// mark is a position that was taken, as all below it were, by transactions with
// numbers below xid.
type mark struct{ position, xid int64 }

// maxGaps bounds the list. Beyond, the lane hands out nothing but what fills gaps
// or becomes due, until the transaction that keeps them has ended: to forget a gap
// would lose a message. It takes that many failed insertions, or holes in a backlog
// that is read for the first time, while one transaction stays open.
const maxGaps = 1 << 16

func (g *gaps) full() bool { return len(g.list) >= maxGaps }

// wantsMark tells whether the first statement of Next is to take a number.
func (g *gaps) wantsMark() bool {
	return len(g.list) > 0 && g.mark == (mark{}) && g.known > g.final
}

// observe takes in what the first statement of Next has read: the oldest
// transaction under way, our own number (zero if none was taken) and the highest
// position taken, which may be younger than both.
func (g *gaps) observe(xmin, xid, last int64) {
	if g.mark != (mark{}) && xmin >= g.mark.xid {
		g.final = max(g.final, g.mark.position)
		g.mark = mark{}
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
	if first < before {
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
