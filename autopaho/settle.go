package autopaho

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

// Take gives the engine what to send next.
func (d *drain) Take(dst []*session.Outgoing, limit int) []*session.Outgoing {
	now := time.Now()
	if !d.tenure.maySend(now) {
		return dst
	}
	d.mu.Lock()
	if d.stopped || d.receipts.deaf.Load() {
		d.mu.Unlock()
		return dst
	}
	taken := len(dst)
	breaker := d.relay.breaker
	dst = d.queue.take(dst, breaker.permit(limit))
	breaker.spend(len(dst) - taken)
	stamp(dst[taken:], now)
	d.keepStamps(dst[taken:])
	low := d.queue.len() < pageSize/2
	d.mu.Unlock()
	if low && d.mayBeMore.Load() {
		d.signal()
	}
	return dst
}

// completed takes the broker's answers. A delivered message is reported at
// once: the answer is the truth, whatever becomes of the row that says so.
func (d *drain) completed(done []session.Completion) {
	failpoint.Hit(failpoint.RelayAfterAck)
	counters := d.client.status.counters
	now := time.Now()
	d.answers.beat(now)
	defer d.answers.rest()
	if t := d.client.tracing; t != nil {
		t.relayed(done, d.lane.Number(), now) // before one of them may be sent again
	}
	var first *session.Outgoing // that was delivered
	d.mu.Lock()
	for i := range done {
		c := &done[i]
		e := d.judge(c, now)
		d.ended = append(d.ended, e)
		if e.over {
			d.out--
		}
	}
	pending := len(d.ended)
	more := d.queue.len() > 0
	d.mu.Unlock()
	for i := range done {
		c := &done[i]
		if !c.Expired {
			counters.sent.Add(1)
		}
		if stateOf(c.Class) != persist.StateDelivered || c.Expired {
			continue
		}
		if first == nil {
			first = c.Out
		}
		counters.delivered.Add(1)
		if c.Class == qos.NoSubscribers {
			counters.noSubscribers.Add(1)
		}
		m := c.Out.Message
		d.client.tracker.report(outcome{
			result: Result{ID: m.ID, State: persist.StateDelivered, ReasonCode: c.Code},
			final:  !m.Receipt,
		})
		d.client.event(Event{Kind: EventDelivered, MessageID: m.ID, Topic: m.Topic, ReasonCode: c.Code})
	}
	if m := d.client.metrics; m != nil && first != nil {
		m.answered(now, first.FirstAt(), time.UnixMilli(first.EnqueuedAt).Add(d.ahead))
	}
	d.relay.breaker.answered(done)
	if pending > 0 {
		d.signal()
	}
	if more { // a strict key was freed
		d.wakeEngine()
	}
}

// judge turns an answer into a settlement; d.mu is held.
func (d *drain) judge(c *session.Completion, now time.Time) ending {
	o := c.Out
	m := o.Message
	e := ending{over: true, settlement: persist.Settlement{Position: o.Ref.Position, ReasonCode: c.Code}}
	if len(d.begun) > 0 {
		delete(d.begun, o.Ref.Position)
	}
	s := &e.settlement
	switch {
	case c.Expired:
		s.Outcome, s.Reason = persist.OutcomeExpired, overdueReason(o, now)
	case c.Class == qos.Success || c.Class == qos.NoSubscribers:
		s.Outcome = persist.OutcomeDelivered
		if m.QoS == 2 {
			e.exchange = o
		}
		if m.Receipt {
			s.ReceiptTimeout = receiptTimeout(d.client.cfg.Policies.For(m.Topic).ReceiptTimeout, o.Attempts)
		}
	case c.Class == qos.Retry && d.states.outdated(o):
		// Sent again it would come after the newer one, and be taken for the news.
		s.Outcome, s.ReasonCode, s.Reason = persist.OutcomeSuperseded, 0, persist.ReasonSuperseded
	case c.Class == qos.Retry:
		o.Attempts++
		s.Reason = reasonText(c)
		if o.Attempts < d.attempts(m) {
			s.Outcome, e.over = persist.OutcomeRetry, false
			d.queue.retry(o, now.Add(d.client.cfg.Policies.For(m.Topic).Backoff.Delay(o.Attempts)))
			d.client.status.counters.retried.Add(1)
			d.dated = d.dated || !o.NotAfter.IsZero() || !o.ExpiresAt.IsZero()
			return e // its key, if strict, stays held
		}
		s.Outcome = persist.OutcomeFailed
		s.Reason = fmt.Sprintf("refused %d times, last: %s", o.Attempts, s.Reason)
	default:
		s.Outcome, s.Reason = persist.OutcomeFailed, reasonText(c)
	}
	if m.Receipt && s.Outcome != persist.OutcomeDelivered {
		delete(d.stamps, m.ID) // nothing is sent any more
	}
	d.queue.done(o)
	d.states.over(o)
	e.report = reportOf(m.ID, s)
	return e
}

// reportOf is what to tell once a settlement is durable; nil for a delivery,
// which is told before.
func reportOf(id string, s *persist.Settlement) *outcome {
	r := Result{ID: id, ReasonCode: s.ReasonCode, Reason: s.Reason}
	switch s.Outcome {
	case persist.OutcomeFailed:
		r.State = persist.StateFailed
	case persist.OutcomeExpired:
		r.State = persist.StateExpired
	case persist.OutcomeSuperseded:
		r.State = persist.StateSuperseded
	default:
		return nil
	}
	return &outcome{result: r, final: true}
}

// attempts is after how many a message fails for good.
func (d *drain) attempts(m *persist.Message) int {
	if m.MaxAttempts > 0 {
		return m.MaxAttempts
	}
	return d.client.cfg.Policies.For(m.Topic).Attempts
}

// receiptTimeoutGrowth bounds by how much the wait for a receipt grows.
const receiptTimeoutGrowth = 16

// receiptTimeout is how long to wait for a receipt of a message that was sent in
// vain so often: twice as long each time, since a consumer that is away is not
// brought back by asking.
func receiptTimeout(first time.Duration, attempts int) time.Duration {
	factor := time.Duration(receiptTimeoutGrowth)
	if attempts < bits.Len(receiptTimeoutGrowth) {
		factor = min(factor, 1<<max(attempts, 0))
	}
	if first > math.MaxInt64/factor {
		return first
	}
	return first * factor
}

// giveUp settles a message whose receipt never came.
func (d *drain) giveUp(e *persist.Entry, sent int) ending {
	s := persist.Settlement{
		Position: e.Position, Outcome: persist.OutcomeFailed,
		Reason: fmt.Sprintf("no receipt came although it was sent %d times", sent),
	}
	return ending{settlement: s, report: reportOf(e.Message.ID, &s), over: true}
}

// waiting tells whether settlements wait for company.
func (d *drain) waiting() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ended) > 0
}

// settle writes what has ended, if it is enough for a batch or all is wanted.
// On an error of the store the batch is kept and written again: settling is
// idempotent.
func (d *drain) settle(ctx context.Context, all bool) error {
	for {
		d.mu.Lock()
		n := len(d.ended)
		if n == 0 || (n < settleSize && !all) {
			d.mu.Unlock()
			return nil
		}
		batch := d.ended
		d.ended = nil
		d.mu.Unlock()

		settlements := make([]persist.Settlement, len(batch))
		for i := range batch {
			settlements[i] = batch[i].settlement
		}
		failpoint.Hit(failpoint.RelayBeforeSettle)
		start, beating := d.client.metrics.timed(), d.pulse.pause()
		err := d.patience.call(ctx, func(ctx context.Context) error { return d.lane.Settle(ctx, settlements) })
		d.pulse.resume(beating)
		d.client.metrics.called(ctx, callSettle, start, err)
		if err != nil {
			d.mu.Lock()
			d.ended = append(batch, d.ended...)
			d.mu.Unlock()
			return d.hold(ctx, "settle", err)
		}
		failpoint.Hit(failpoint.RelayAfterSettle)
		d.settled(batch)
		all = false
	}
}

// settled reports what became true by a settlement.
func (d *drain) settled(batch []ending) {
	counters := d.client.status.counters
	var over []*session.Outgoing
	for i := range batch {
		if o := batch[i].exchange; o != nil {
			over = append(over, o)
		}
	}
	if len(over) > 0 {
		d.engine().Settled(over)
	}
	for i := range batch {
		r := batch[i].report
		if r == nil {
			continue
		}
		kind := EventFailed
		switch r.result.State {
		case persist.StateExpired:
			counters.expired.Add(1)
		case persist.StateSuperseded:
			counters.superseded.Add(1)
			kind = EventSuperseded
		default:
			counters.failed.Add(1)
		}
		d.client.tracker.report(*r)
		d.client.event(Event{Kind: kind, MessageID: r.result.ID, Err: r.result.Err()})
	}
}

// retryDue moves retries that are due back into the queue, and tells how long
// it is until the next one is.
func (d *drain) retryDue(now time.Time) (time.Duration, bool) {
	d.mu.Lock()
	moved, next, ok := d.queue.due(now)
	d.mu.Unlock()
	if moved {
		d.wakeEngine()
	}
	return next, ok
}

// takeovers bounds how often a session is taken back from another client.
type takeovers struct{ at []time.Time }

const (
	takeoverLimit  = 2
	takeoverPeriod = time.Minute
)

func newTakeovers() *takeovers { return &takeovers{} }

// again counts a takeover and tells whether to connect once more.
func (t *takeovers) again() bool {
	now := time.Now()
	for len(t.at) > 0 && now.Sub(t.at[0]) > takeoverPeriod {
		t.at = t.at[1:]
	}
	t.at = append(t.at, now)
	return len(t.at) <= takeoverLimit
}
