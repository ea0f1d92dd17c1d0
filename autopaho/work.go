package autopaho

import (
	"context"
	"errors"
	"time"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/persist"
)

func final(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

// bounded has a handler's context end after the HandlerTimeout.
func (s *Subscription) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if d := s.cfg.HandlerTimeout; d > 0 {
		return context.WithTimeout(ctx, d)
	}
	return ctx, func() {}
}

// isVoid tells that an item's handler must not run any more: the subscription
// closes, and nothing is decided about the message; or the connection that
// brought it is gone, so that it comes again, and without a mark it would be
// processed twice.
func (s *Subscription) isVoid(it *item) bool {
	return s.ctx.Err() != nil || (it.retried && s.isClosing()) || (it.del.Stale() && it.grant.Epoch == 0)
}

// handle runs the handler for one message.
func (s *Subscription) handle(ctx context.Context, it *item) error {
	if s.cfg.BatchHandler != nil {
		return s.cfg.BatchHandler(ctx, []*Received{&it.received})
	}
	return s.cfg.Handler(ctx, &it.received)
}

// work runs the handler of an item; it is called by a worker. It returns how
// long to wait before the item runs again; zero if it is through.
func (s *Subscription) work(it *item) (again time.Duration) {
	if it.dead != nil { // the handler is through; the dead letter is not stored
		return s.bury(it)
	}
	if s.isVoid(it) {
		s.release(it)
		return 0
	}
	ctx := s.ctx
	if it.grant.Epoch != 0 {
		var cancel context.CancelFunc
		ctx, cancel = it.grant.Context(ctx)
		defer cancel()
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if failpoint.Mutant(failpoint.AckBeforeMark) {
		it.del.Ack(0)
	}
	if failpoint.Mutant(failpoint.MarkBeforeEffect) {
		s.complete(it, nil)
	}
	err := call(ctx, func(ctx context.Context) error { return s.handle(ctx, it) })
	failpoint.Hit(failpoint.ConsumerAfterEffect)
	if err == nil {
		return s.complete(it, nil)
	}
	if errors.Is(err, ErrRelease) {
		s.release(it)
		return 0
	}
	s.client.status.counters.handlerErrors.Add(1)
	if s.ctx.Err() != nil {
		s.release(it) // the client closes: nothing is decided about the message
		return 0
	}
	if claimLost(ctx) && !final(err) {
		s.release(it) // that is no failure of the handler
		return 0
	}
	if final(err) || it.received.Attempt >= s.cfg.Attempts {
		return s.complete(it, s.letter(it, err, it.received.Attempt))
	}
	s.client.cfg.Logger.WarnContext(ctx, "handler failed; the message is tried again",
		"topic", it.received.Topic, "message_id", it.received.ID, "attempt", it.received.Attempt, "error", err)
	wait := max(s.cfg.Backoff.Delay(it.received.Attempt), time.Millisecond)
	it.received.Attempt++
	it.retried = true
	return wait
}

// claimLost tells that a handler's context ended with its claim. Such a message is
// given back: it would fail, without having been worked on, until it is a dead letter.
func claimLost(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), dedup.ErrClaimLost)
}

// letter is the dead letter of an item.
func (s *Subscription) letter(it *item, err error, attempts int) *persist.DeadLetter {
	s.client.cfg.Logger.ErrorContext(s.ctx, "message became a dead letter",
		"topic", it.received.Topic, "message_id", it.received.ID, "attempts", attempts, "error", err)
	return &persist.DeadLetter{
		Side: persist.SideConsumer, State: persist.StateFailed, Group: s.cfg.Group,
		Message: it.received.Message, Reason: err.Error(), Attempts: attempts,
	}
}

// complete ends a message whose handler is through. Like work it returns how
// long to wait if it is to be tried again.
func (s *Subscription) complete(it *item, dead *persist.DeadLetter) (again time.Duration) {
	switch {
	case s.leased != nil:
		it.dead = dead
		s.leased.Complete(it, dead)
	case dead == nil:
		s.settled(it, dedup.OutcomeProcessed)
	default:
		it.dead = dead
		return s.bury(it)
	}
	return 0
}

// buryWait is how long to wait before a dead letter is stored again.
const buryWait = time.Second

// bury stores a dead letter of a subscription without a group. Without a store
// it is logged, and that is all there is of it. An error of the store has it
// tried again: acknowledgements of later messages wait meanwhile.
func (s *Subscription) bury(it *item) (again time.Duration) {
	if store := s.client.cfg.Store; store != nil {
		err := store.AddDeadLetters(s.ctx, []persist.DeadLetter{*it.dead})
		switch {
		case err != nil && s.ctx.Err() != nil:
			s.settled(it, dedup.OutcomeReleased)
			return 0
		case err != nil:
			s.client.event(Event{Kind: EventError, MessageID: it.received.ID, Err: err})
			return buryWait
		}
	}
	s.settled(it, dedup.OutcomeDead)
	return 0
}

func (s *Subscription) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

func (s *Subscription) release(it *item) {
	if s.leased != nil {
		s.leased.Release(it)
		return
	}
	s.settled(it, dedup.OutcomeReleased)
}
