package autopaho

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// A receipt is a message to the Response Topic of the one that it answers, with
// the same Correlation Data, which is the message ID. These user properties
// tell what the consumer did; with Config.ReceiptKeys another one proves who says
// so.
const (
	propertyReceipt = "receipt"
	propertyReason  = "reason"

	receiptProcessed = "processed"
	receiptDead      = "dead"
)

// receiptInbox is the publisher's side of receipts, for one lane: it listens to
// the lane's receipt topic once a message has asked for one, and has the lane
// record what comes.
type receiptInbox struct {
	drain *drain
	topic string

	wake chan struct{} // holds one: a connection came up, or listening is wanted
	deaf atomic.Bool   // listening is wanted and was not tried yet

	mu      sync.Mutex // guards the following
	wanted  bool
	tried   bool // on a connection
	arrived []*session.Delivery
}

func newReceiptInbox(d *drain) *receiptInbox {
	return &receiptInbox{
		drain: d,
		topic: fmt.Sprintf("%s/%s/%s", d.client.cfg.Relay.ReceiptTopic,
			d.client.cfg.Store.Identity()[:12], strconv.Itoa(d.lane.Number())),
		wake: make(chan struct{}, 1),
	}
}

// signal has listen look at what is due.
func (in *receiptInbox) signal() { signal(in.wake) }

// want has the lane listen to its receipt topic. Until that was tried on a connection
// nothing is sent: nobody may answer before we listen.
func (in *receiptInbox) want() {
	in.mu.Lock()
	news := !in.wanted
	in.wanted = true
	in.deaf.Store(!in.tried)
	in.mu.Unlock()
	if news {
		in.signal()
	}
}

// heard is told that listening was tried.
func (in *receiptInbox) heard() {
	in.mu.Lock()
	in.tried = true
	in.deaf.Store(false)
	in.mu.Unlock()
}

// listen subscribes on every connection before it opens the engine's gate.
func (in *receiptInbox) listen(ctx context.Context, link *session.Link) {
	var made uint64 // the connection on which it is subscribed
	for {
		select {
		case <-ctx.Done():
			return
		case <-link.Done():
			return
		case <-in.wake:
		}
		in.mu.Lock()
		wanted := in.wanted
		in.mu.Unlock()
		now := link.Engine().Snapshot()
		if !now.Connected {
			continue // the next connection signals
		}
		generation := now.Generation
		if wanted && generation != made {
			_, err := link.Subscribe(ctx, []session.Subscription{{Filter: in.topic, QoS: 1}}, 0)
			var refused *session.SubscribeError
			switch {
			case errors.As(err, &refused):
				// Messages that ask for receipts will be sent again and again,
				// and fail with that reason in the end.
				in.drain.relay.trouble("subscribe to receipts", err)
			case errors.Is(err, ErrConnectionLost):
				continue // the next connection signals again
			case err != nil:
				in.drain.relay.trouble("subscribe to receipts", err)
				if in.drain.sleep(ctx, time.Second) {
					in.signal()
				}
				continue
			}
			made = generation
			in.heard()
		}
		link.Engine().Open(generation)
	}
}

// received takes receipts in, by the link's reader.
func (in *receiptInbox) received(batch []*session.Delivery) {
	in.mu.Lock()
	in.arrived = append(in.arrived, batch...)
	in.mu.Unlock()
	in.drain.signal()
}

// genuine reads receipts, and acknowledges and leaves out those that were not
// made with one of the keys.
func (in *receiptInbox) genuine(arrived []*session.Delivery) (batch []*session.Delivery, receipts []persist.Receipt) {
	client := in.drain.client
	for _, del := range arrived {
		p := &del.Message.Properties
		status, _ := p.Get(propertyReceipt)
		reason, _ := p.Get(propertyReason)
		mac, _ := p.Get(propertyMAC)
		id := string(p.CorrelationData)
		if !isGenuine(client.cfg.ReceiptKeys, id, status, reason, mac) {
			client.status.counters.forgedReceipts.Add(1)
			del.Ack(0)
			continue
		}
		batch = append(batch, del)
		receipts = append(receipts, persist.Receipt{ID: id, Failed: status == receiptDead, Reason: reason})
	}
	return batch, receipts
}

// record has the lane record the receipts that have come, and acknowledges them
// to the broker once that is durable.
func (in *receiptInbox) record(ctx context.Context) error {
	in.mu.Lock()
	arrived := in.arrived
	in.arrived = nil
	in.mu.Unlock()
	batch, receipts := in.genuine(arrived)
	if len(batch) == 0 {
		return nil
	}
	beating := in.drain.pulse.pause()
	var known []bool
	err := in.drain.patience.call(ctx, func(ctx context.Context) (err error) {
		known, err = in.drain.lane.Acknowledge(ctx, receipts)
		return err
	})
	in.drain.pulse.resume(beating)
	if err != nil {
		in.mu.Lock()
		in.arrived = append(batch, in.arrived...)
		in.mu.Unlock()
		return in.drain.hold(ctx, "record receipts", err)
	}
	client := in.drain.client
	for i, del := range batch {
		del.Ack(0)
		in.drain.forgetStamp(receipts[i].ID)
		r := Result{ID: receipts[i].ID, State: persist.StateAcknowledged}
		kind, count := EventAcknowledged, &client.status.counters.acknowledged
		if receipts[i].Failed {
			r.State, r.Reason = persist.StateFailed, "a consumer gave it up: "+receipts[i].Reason
			kind, count = EventFailed, &client.status.counters.failed
		}
		// A message that is not there and that somebody here waits for was
		// acknowledged by a call whose answer was lost.
		waited := client.tracker.report(outcome{result: r, final: true})
		if !known[i] && !waited {
			client.status.counters.unknownReceipts.Add(1)
			continue
		}
		count.Add(1)
		client.event(Event{Kind: kind, MessageID: r.ID, Err: r.Err()})
	}
	return nil
}
