package autopaho

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"

	"github.com/oncemq/oncemq/dedup"
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
	received Received
	order    string
	grant    dedup.Grant
	dead     *persist.DeadLetter
	retried  bool // the handler has failed before

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
	it.grant = g
	it.received.Attempt, it.received.Epoch = g.Attempts, g.Epoch
	it.sub.pool.put(it)
}

// Settled is dedup's word that the outcome is durable.
func (it *item) Settled(o dedup.Outcome) { it.sub.settled(it, o) }

// txItem is an item in transactional mode.
type txItem item

// Process runs the handler in the transaction.
func (t *txItem) Process(ctx context.Context, tx *sql.Tx, g dedup.Grant) error {
	t.received.Attempt, t.received.Epoch = g.Attempts, g.Epoch
	if d := t.sub.cfg.HandlerTimeout; d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	return t.sub.cfg.TxHandler(ctx, tx, &t.received)
}

// Failed decides what a handler's error leads to.
func (t *txItem) Failed(err error, attempts int) dedup.Verdict {
	s := t.sub
	if errors.Is(err, ErrRelease) {
		return dedup.Verdict{Release: true}
	}
	s.client.status.counters.handlerErrors.Add(1)
	t.received.Attempt = attempts
	if s.ctx.Err() != nil {
		return dedup.Verdict{Release: true}
	}
	if final(err) || attempts >= s.cfg.Attempts {
		t.dead = s.letter((*item)(t), err, attempts)
		return dedup.Verdict{Dead: t.dead}
	}
	return dedup.Verdict{After: s.cfg.Backoff.Delay(attempts)}
}

// Settled is dedup's word that the outcome is durable.
func (t *txItem) Settled(o dedup.Outcome) { t.sub.settled((*item)(t), o) }
