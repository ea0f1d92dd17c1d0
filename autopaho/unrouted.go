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

// unrouted is a message that no subscription wants.
type unrouted struct {
	del *session.Delivery
	// failed is NotFound's error: it does not get the message again, but a dead letter
	// becomes of it. Nil if it has not had it.
	failed error
	again  bool // it could not be put aside, and waits for another try
}

// hold keeps a message that nobody wants for a Subscribe that may come, or for
// another try at putting it aside. Nothing but a bound of their own limits those of
// QoS 0, as in subscriptions.
func (in *consumer) hold(u unrouted) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if u.del.Message.QoS == 0 && len(in.unrouted) >= qos0Most(&in.client.cfg) {
		in.client.status.counters.droppedQoS0.Add(1)
		return
	}
	in.unrouted = append(in.unrouted, u)
	if in.giveUp != nil {
		return
	}
	wait := in.client.unrouted
	if in.notFound != nil && !u.again {
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
	in.unrouted = slices.DeleteFunc(in.unrouted, func(u unrouted) bool {
		stale := u.del.Stale()
		if stale {
			u.del.Release()
		}
		return stale
	})
}

// holdAgain keeps messages for another try, but those that a subscription wants by now.
func (in *consumer) holdAgain(dropped []unrouted) {
	in.routing.Lock()
	defer in.routing.Unlock()
	in.mu.Lock()
	subs := in.subs
	in.mu.Unlock()
	now := time.Now()
	for _, u := range dropped {
		if !route(subs, u.del, now) {
			u.again = true
			in.hold(u)
		}
	}
}

// takeUnrouted gives a router the right to messages that no subscription wants; it is
// false if another has it.
func (in *consumer) takeUnrouted() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	free := !in.taken
	in.taken = true
	return free
}

// handleUnrouted has them handled, those that wait as well.
func (in *consumer) handleUnrouted(h Handler) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.notFound = h
	if in.giveUp != nil {
		in.giveUp.Reset(0)
	}
}

// leaveUnrouted gives the right back.
func (in *consumer) leaveUnrouted() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.notFound, in.taken = nil, false
}

// notFoundBy runs the handler for messages that no subscription wants, and returns
// those that it did not take.
func (in *consumer) notFoundBy(h Handler, dropped []unrouted) (left []unrouted) {
	released := false
	for _, u := range dropped {
		del := u.del
		if released || del.Stale() { // it comes again
			del.Release()
			continue
		}
		if u.failed != nil {
			left = append(left, u)
			continue
		}
		m := &Received{Message: del.Message, Dup: del.Dup, PacketID: del.PacketID(), Attempt: 1, At: time.Now()}
		err := callApart(in.ctx, func(ctx context.Context) error { return h(ctx, m) })
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
			u.failed = err
			left = append(left, u)
		}
	}
	return left
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
		in.giveUp = time.AfterFunc(in.client.unrouted, in.dropUnrouted)
		dropped = nil
	} else {
		in.unrouted, in.giveUp = nil, nil
	}
	in.mu.Unlock()
	in.routing.Unlock()
	if len(dropped) == 0 || closed {
		return // not acknowledged: they come again
	}
	if handle != nil {
		dropped = in.notFoundBy(handle, dropped)
		if len(dropped) == 0 || in.ctx.Err() != nil {
			return
		}
	}
	if store := in.client.cfg.Store; store != nil {
		letters := make([]persist.DeadLetter, len(dropped))
		for i, u := range dropped {
			letters[i] = persist.DeadLetter{
				Side: persist.SideConsumer, State: persist.StateFailed, Message: u.del.Message, Attempts: 1,
				Reason: "no subscription of this client wants it",
			}
			if u.failed != nil {
				letters[i].Reason += ", and its handler failed: " + u.failed.Error()
			}
		}
		// As in addLetter, an unknown outcome may store them twice.
		err := in.letters.call(in.ctx, func(ctx context.Context) error { return store.AddDeadLetters(ctx, letters) })
		if err != nil {
			in.client.event(Event{Kind: EventError, ClientID: in.board.clientID, Err: err})
			in.holdAgain(dropped)
			return
		}
	}
	for _, u := range dropped {
		u.del.Ack(0)
	}
	in.client.status.counters.unrouted.Add(uint64(len(dropped)))
	in.client.cfg.Logger.WarnContext(in.ctx, "messages that no subscription wants were put aside",
		"count", len(dropped), "topic", dropped[0].del.Message.Topic)
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
