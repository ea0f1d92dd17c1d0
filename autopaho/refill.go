package autopaho

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

const (
	// pageSize is how many messages are read from a lane at once, pageBytes
	// how many bytes of payload at most. Reading begins again when half a page
	// is left.
	pageSize  = 256
	pageBytes = 4 << 20
)

// refill reads the next page once the queue is half empty.
func (d *drain) refill(ctx context.Context) error {
	for d.mayBeMore.Load() {
		d.mu.Lock()
		// What has ended is to be settled before more is read that ends at once.
		full := d.queue.len() >= pageSize/2 || d.out >= d.client.cfg.Relay.Window+2*pageSize || len(d.ended) >= settleSize
		d.mu.Unlock()
		if full {
			return nil
		}
		// Cleared before reading: a message that is committed meanwhile sets
		// it again.
		d.mayBeMore.Store(false)
		start, beating := d.client.metrics.timed(), d.pulse.pause()
		entries, err := d.next(ctx)
		d.pulse.resume(beating)
		d.client.metrics.called(ctx, callRead, start, err)
		if err != nil {
			d.mayBeMore.Store(true)
			if errors.Is(err, persist.ErrUnknownOutcome) {
				// The lane may take messages for handed out that we never saw;
				// a new lease hands out everything again [OUTBOX-6].
				return fmt.Errorf("read lane: %w", err)
			}
			return d.hold(ctx, "read lane", err)
		}
		if len(entries) == 0 {
			return nil
		}
		d.mayBeMore.Store(true)
		failpoint.Hit(failpoint.RelayAfterRead)
		d.put(entries)
	}
	return nil
}

// put queues a page.
func (d *drain) put(entries []persist.Entry) {
	now, sentUntil := time.Now(), d.lane.SentUntil()
	page := make([]session.Outgoing, len(entries)) // one allocation for all
	wantReceipts, dated, over, superseding := false, false, false, false
	var given []ending // up
	for i := range entries {
		e, o := &entries[i], &page[i]
		o.Message, o.Ref, o.Attempts, o.EnqueuedAt = &e.Message, e.Ref, e.Attempts, e.EnqueuedAt.UnixMilli()
		if e.Message.Expiry != 0 {
			o.ExpiresAt = now.Add(e.Message.Expiry)
			dated, over = true, over || e.Message.Expiry < 0
		}
		if e.AgeLeft != 0 {
			o.NotAfter = now.Add(e.AgeLeft)
			dated, over = true, over || e.AgeLeft < 0
		}
		superseding = superseding || e.Message.Supersede
		o.NeverSent = neverSent(e, sentUntil)
		if e.Message.Receipt {
			if limit := d.attempts(&e.Message); e.Attempts >= limit {
				d.forgetStamp(e.Message.ID)
				given = append(given, d.giveUp(e, limit))
				o.Message = nil
				continue
			}
			if !o.NeverSent {
				o.FirstSent = d.keptStamp(e.Message.ID)
			}
			o.ReceiptTopic = d.receipts.topic
			wantReceipts = true
		}
		if e.State == persist.StateDelivered {
			d.client.status.counters.resent.Add(1)
		}
	}
	if len(given) > 0 {
		gone := make([]int64, len(given))
		for i := range given {
			gone[i] = given[i].settlement.Position
		}
		d.engine().Gone(gone...)
	}
	if wantReceipts {
		d.receipts.want() // before one of them can be taken
	}
	d.mu.Lock()
	for i := range page {
		if page[i].Message != nil {
			d.queue.push(&page[i])
			d.states.add(&page[i])
		}
	}
	d.out += len(page) - len(given)
	if failpoint.Mutant(failpoint.DeleteBeforeAck) {
		for i := range entries {
			given = append(given, ending{settlement: persist.Settlement{Position: entries[i].Position}})
		}
	}
	d.ended = append(d.ended, given...)
	d.dated = d.dated || dated
	if superseding {
		d.supersede()
	}
	d.mu.Unlock()
	if over {
		d.endOverdue(now)
	}
	d.wakeEngine()
}

// endOverdue ends the messages of the queue whose time has passed. Those that are on
// their way to the broker are left alone, also if an earlier holder sent them.
func (d *drain) endOverdue(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dated || d.stopped {
		return
	}
	d.dated = false
	for _, o := range d.queue.remove(func(o *session.Outgoing) bool {
		if d.begun[o.Ref.Position] {
			return false
		}
		over := o.TooOld(now) || !o.ExpiresAt.IsZero() && !now.Before(o.ExpiresAt)
		d.dated = d.dated || !over && (!o.NotAfter.IsZero() || !o.ExpiresAt.IsZero())
		return over
	}) {
		d.end(o, persist.Settlement{Outcome: persist.OutcomeExpired, Reason: overdueReason(o, now)})
	}
}

// end ends a message that was taken out of the queue; d.mu is held.
func (d *drain) end(o *session.Outgoing, s persist.Settlement) {
	s.Position = o.Ref.Position
	d.out--
	d.states.over(o)
	delete(d.stamps, o.Message.ID)
	d.ended = append(d.ended, ending{settlement: s, report: reportOf(o.Message.ID, &s), over: true})
	d.signal()
}
