package autopaho

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/oncemq/oncemq/internal/session"
	"github.com/oncemq/oncemq/persist"
)

// unroutedWait is how long a message waits for a Subscribe that wants it.
const unroutedWait = 10 * time.Second

// hold keeps a message that nobody wants for a Subscribe that may come, or for
// another try at putting it aside.
func (in *consumer) hold(del *session.Delivery, again bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.unrouted = append(in.unrouted, del)
	if in.giveUp != nil {
		return
	}
	wait := unroutedWait
	if in.notFound != nil && !again {
		wait = 0
	}
	in.giveUp = time.AfterFunc(wait, in.dropUnrouted)
}

// forgetStale drops what came by a connection that has ended: it comes again.
func (in *consumer) forgetStale() {
	in.routing.Lock()
	defer in.routing.Unlock()
	in.mu.Lock()
	defer in.mu.Unlock()
	in.unrouted = slices.DeleteFunc(in.unrouted, func(del *session.Delivery) bool {
		stale := del.Stale()
		if stale {
			del.Release()
		}
		return stale
	})
}

// holdAgain keeps messages for another try, but those that a subscription wants by now.
func (in *consumer) holdAgain(dropped []*session.Delivery) {
	in.routing.Lock()
	defer in.routing.Unlock()
	in.mu.Lock()
	subs := in.subs
	in.mu.Unlock()
	now := time.Now()
	for _, del := range dropped {
		if !route(subs, del, now) {
			in.hold(del, true)
		}
	}
}

// handleUnrouted has messages that no subscription wants handled, those that wait
// as well; nil ends it.
func (c *Client) handleUnrouted(h Handler) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.calls.Done()
	in, err := c.ensureConsumer()
	if err != nil {
		return err
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.notFound = h
	if h != nil && in.giveUp != nil {
		in.giveUp.Reset(0)
	}
	return nil
}

// gather keeps what the broker sends until n subscriptions more are made; see
// consumer.gather.
func (c *Client) gather(n int) (*consumer, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	defer c.calls.Done()
	in, err := c.ensureConsumer()
	if err != nil {
		return nil, err
	}
	in.gather(n)
	return in, nil
}

// notFoundBy runs the handler for messages that no subscription wants, and returns
// those that it did not take, with its errors.
func (in *consumer) notFoundBy(h Handler, dropped []*session.Delivery) (left []*session.Delivery, errs []error) {
	released := false
	for _, del := range dropped {
		if released || del.Stale() { // it comes again
			del.Release()
			continue
		}
		m := &Received{Message: del.Message, Dup: del.Dup, PacketID: del.PacketID(), Attempt: 1, At: time.Now()}
		err := call(in.ctx, func(ctx context.Context) error { return h(ctx, m) })
		switch {
		case err == nil:
			del.Ack(0)
			in.client.status.counters.processed.Add(1)
		case errors.Is(err, ErrRelease):
			// Those behind it could not be acknowledged before it [MQTT-4.6.0-2].
			del.Release()
			released = true
			in.reconnect()
		default:
			left, errs = append(left, del), append(errs, err)
		}
	}
	return left, errs
}

// dropUnrouted acknowledges what nobody came for: a subscription that an
// earlier process made in this session, and this one does not have, would fill
// the Receive Maximum and stop everything. With a store they become dead letters
// first, so that nothing is lost without a trace.
func (in *consumer) dropUnrouted() {
	in.dropping.Lock()
	defer in.dropping.Unlock()
	in.routing.Lock()
	gathering := in.gathering > 0
	in.mu.Lock()
	dropped, handle := in.unrouted, in.notFound
	closed := in.closed
	if gathering && !closed { // they are not looked at yet
		in.giveUp = time.AfterFunc(unroutedWait, in.dropUnrouted)
		dropped = nil
	} else {
		in.unrouted, in.giveUp = nil, nil
	}
	in.mu.Unlock()
	in.routing.Unlock()
	if len(dropped) == 0 || closed {
		return // not acknowledged: they come again
	}
	var errs []error // of the handler, for each of the dropped
	if handle != nil {
		dropped, errs = in.notFoundBy(handle, dropped)
		if len(dropped) == 0 || in.ctx.Err() != nil {
			return
		}
	}
	if store := in.client.cfg.Store; store != nil {
		letters := make([]persist.DeadLetter, len(dropped))
		for i, del := range dropped {
			letters[i] = persist.DeadLetter{
				Side: persist.SideConsumer, State: persist.StateFailed, Message: del.Message, Attempts: 1,
				Reason: "no subscription of this client wants it",
			}
			if errs != nil {
				letters[i].Reason += ", and its handler failed: " + errs[i].Error()
			}
		}
		if err := store.AddDeadLetters(in.ctx, letters); err != nil {
			in.client.event(Event{Kind: EventError, ClientID: in.board.clientID, Err: err})
			in.holdAgain(dropped)
			return
		}
	}
	for _, del := range dropped {
		del.Ack(0)
	}
	in.client.status.counters.unrouted.Add(uint64(len(dropped)))
	in.client.cfg.Logger.WarnContext(in.ctx, "messages that no subscription wants were put aside",
		"count", len(dropped), "topic", dropped[0].Message.Topic)
}

// waitDropped waits until nothing unrouted is in work any more.
func (in *consumer) waitDropped(ctx context.Context) {
	idle := make(chan struct{})
	go func() {
		defer close(idle)
		in.dropping.Lock()
		defer in.dropping.Unlock()
	}()
	select {
	case <-idle:
	case <-ctx.Done(): // a handler sees it in its own context
	}
}
