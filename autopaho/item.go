package autopaho

import (
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// share lets several subscriptions end one delivery: it is acknowledged when
// the last of them is through.
type share struct {
	del  *session.Delivery
	left atomic.Int32
}

// newShare is nil for one subscription, which needs no counting.
func newShare(del *session.Delivery, n int) *share {
	if n == 1 {
		return nil
	}
	sh := &share{del: del}
	sh.left.Store(int32(n))
	return sh
}

// item is a message in the work of one subscription.
type item struct {
	dedup.Node
	sub      *Subscription
	del      *session.Delivery
	share    *share
	by       *filterCounters // of the filter by which it came
	span     trace.Span      // of its delivery; nil if there is none
	received Received
	order    string
	grant    dedup.Grant
	dead     *persist.DeadLetter
	tooOld   *dedup.TooOldError // why it is dead, if that is why
	spoilt   error              // a function of the user's that was asked about it panicked
	first    persist.Failure    // of the handler here, by this process's clock
	last     persist.Failure
	solo     bool // it keeps others that may kill from beginning
	reclaim  bool // its claim was lost, and is asked for again
	retried  bool // the handler has failed before
	given    bool // back, with its batch, by a handler in transactional mode

	prev, next *item // in Subscription.items
}

// itemList is the items in work, in no order that matters.
type itemList struct {
	head *item
	len  int
}

func (l *itemList) add(it *item) {
	it.next = l.head
	if l.head != nil {
		l.head.prev = it
	}
	l.head = it
	l.len++
}

func (l *itemList) remove(it *item) {
	if it.prev != nil {
		it.prev.next = it.next
	} else {
		l.head = it.next
	}
	if it.next != nil {
		it.next.prev = it.prev
	}
	it.prev, it.next = nil, nil
	l.len--
}

// Granted is dedup's word that the handler may run.
func (it *item) Granted(g dedup.Grant) {
	failpoint.Hit(failpoint.ConsumerAfterClaim)
	it.grant = g
	it.begun(g)
	if it.spoilt != nil {
		it.sub.giveUp(it)
		return
	}
	if g.TooOld != nil {
		it.tooOld = g.TooOld
		it.sub.complete(it, it.sub.letter(it, g.TooOld, g.Attempts))
		return
	}
	if g.Attempts > it.sub.mostBegun() {
		it.sub.complete(it, it.sub.letter(it, &dedup.AbandonedError{Attempts: g.Attempts - 1}, g.Attempts-1))
		return
	}
	it.sub.pool.put(it)
}

// ask has a function of the user's look at the message. Its panic is the message's fault,
// since the function had no trouble with others, and must not end every process that gets
// it: no handler has the message then, and it becomes a dead letter.
func (it *item) ask(name string, f func(*Message)) {
	defer func() {
		if v := recover(); v != nil {
			it.spoilt = fmt.Errorf("%s panicked: %v", name, v)
		}
	}()
	f(&it.received.Message)
}

// leaveSolo lets the next message begin that may kill: not before it is durable how
// this one ended, or the next one's crash would count against it.
func (it *item) leaveSolo() {
	if it.solo {
		it.solo = false
		<-it.sub.solo
	}
}

// failed keeps an error of the handler.
func (it *item) failed(err error) {
	it.last = persist.Failure{Error: err.Error(), At: time.Now()}
	if it.first.At.IsZero() {
		it.first = it.last
	}
}

// begun tells the handler what the claim says.
func (it *item) begun(g dedup.Grant) {
	it.received.Attempt, it.received.Epoch = g.Attempts, g.Epoch
}

// Settled is dedup's word that the outcome is durable.
func (it *item) Settled(o dedup.Outcome) {
	failpoint.Hit(failpoint.ConsumerAfterMark)
	it.leaveSolo()
	again := it.reclaim && o == dedup.OutcomeReleased
	it.reclaim = false
	if again && it.sub.claimedAgain(it) {
		return
	}
	it.sub.settled(it, o)
}
