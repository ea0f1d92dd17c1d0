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
func (s *Subscription) handle(ctx context.Context, m *Received) error {
	if s.cfg.BatchHandler != nil {
		return s.cfg.BatchHandler(ctx, []*Received{m})
	}
	return s.cfg.Handler(ctx, m)
}

// work runs the handler of an item; it is called by a worker. It returns how
// long to wait before the item runs again; zero if it is through, and
// abandoned if another worker has it.
func (s *Subscription) work(it *item) (again time.Duration) {
	if it.dead != nil { // the handler is through; the dead letter is not stored
		return s.bury(it)
	}
	if s.isVoid(it) {
		s.release(it)
		return 0
	}
	if it.received.Attempt > 1 {
		if again = s.begin(it); again > 0 {
			return again
		}
	}
	ctx := s.ctx
	if it.grant.Epoch != 0 {
		var cancel context.CancelFunc
		ctx, cancel = it.grant.Context(ctx)
		defer cancel()
		if claimLost(ctx) { // while it waited for a worker
			s.claimAgain(it)
			return 0
		}
	}
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	if failpoint.Mutant(failpoint.AckBeforeMark) {
		it.del.Ack(0)
	}
	if failpoint.Mutant(failpoint.MarkBeforeEffect) {
		s.complete(it, nil)
	}
	m := s.handed(it)
	returned := s.watch(func() {
		s.pool.takeOver(it, func() time.Duration { return s.judge(ctx, it, ErrHandlerTimeout) })
	})
	run, h := s.handling(ctx, it)
	went := true
	defer func() {
		if went && returned() {
			h.end(errGoexit)
			s.pool.takeOver(it, func() time.Duration { return s.judge(ctx, it, errGoexit) })
		}
	}()
	err := call(run, func(ctx context.Context) error { return s.handle(ctx, m) })
	went = false
	h.end(err)
	failpoint.Hit(failpoint.ConsumerAfterEffect)
	if !returned() {
		return abandoned
	}
	return s.judge(ctx, it, err)
}

// judge decides what follows a handler's run, of which ctx was the context. It
// returns what work does.
func (s *Subscription) judge(ctx context.Context, it *item, err error) (again time.Duration) {
	if err == nil {
		return s.complete(it, nil)
	}
	if errors.Is(err, ErrRelease) {
		s.release(it)
		return 0
	}
	s.client.status.counters.handlerErrors.Add(1)
	it.failed(err)
	if s.ctx.Err() != nil {
		s.release(it) // the client closes: nothing is decided about the message
		return 0
	}
	if claimLost(ctx) && !final(err) {
		s.claimAgain(it) // that is no failure of the handler
		return 0
	}
	if final(err) || it.received.Attempt >= s.cfg.Attempts {
		return s.complete(it, s.letter(it, err, it.received.Attempt))
	}
	s.client.cfg.Logger.WarnContext(s.ctx, "handler failed; the message is tried again",
		"topic", it.received.Topic, "message_id", it.received.ID, "attempt", it.received.Attempt, "error", err)
	wait := max(s.cfg.Backoff.Delay(it.received.Attempt), time.Millisecond)
	it.received.Attempt++
	it.retried = true
	it.by.retried.Add(1)
	it.leaveSolo()
	return wait
}

// claimLost tells that a handler's context ended with its claim. No handler begins
// under such a claim: another replica may have the message, or have completed it, and
// a handler that heeds its context would fail until the message is a dead letter.
func claimLost(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), dedup.ErrClaimLost)
}

// soloFrom is from which attempt on a message that nobody has seen the end of is run
// beside no other such. After a crash nobody knows which of those in work has caused
// it; a message that is begun alone, and dies again, is the one.
const soloFrom = dedup.CountedClaims + 1

// mostBegun is how often a message may have been begun, by whoever, before it is
// given up without being run once more: not before it was begun alone.
func (s *Subscription) mostBegun() int { return max(s.cfg.Attempts, soloFrom) }

// soloWait is how long such a message waits for another.
const soloWait = 20 * time.Millisecond

// beginWait is how long to wait if the store cannot be told that a message begins.
const beginWait = time.Second

// begin makes it known that a message is begun once more, before it is. If again is
// not zero it is not to be run yet.
func (s *Subscription) begin(it *item) (again time.Duration) {
	if s.leased == nil || it.grant.Epoch == 0 {
		return 0
	}
	if it.grant.Attempts < soloFrom && it.received.Attempt == it.grant.Attempts {
		return 0
	}
	if it.grant.Attempts >= soloFrom {
		select {
		case s.solo <- struct{}{}:
			it.solo = true
		default:
			it.retried = true // if it closes meanwhile, it is given back
			return soloWait
		}
	}
	err := s.leased.Begin(s.ctx, it, it.received.Attempt)
	if err == nil || errors.Is(err, dedup.ErrClaimLost) { // of which the context tells the handler
		return 0
	}
	it.leaveSolo()
	it.retried = true
	if s.ctx.Err() == nil {
		s.client.event(Event{Kind: EventError, MessageID: it.received.ID, Err: err})
	}
	return beginWait
}

// letter is the dead letter of an item.
func (s *Subscription) letter(it *item, err error, attempts int) *persist.DeadLetter {
	s.client.cfg.Logger.ErrorContext(s.ctx, "message became a dead letter",
		"topic", it.received.Topic, "message_id", it.received.ID, "attempts", attempts, "error", err)
	return &persist.DeadLetter{
		Side: persist.SideConsumer, State: persist.StateFailed, Group: s.cfg.Group,
		Message: it.received.Message, Reason: err.Error(), Attempts: attempts,
		First: it.first, Last: it.last,
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

// giveUp ends a message that no handler is to have, since it is spoilt.
func (s *Subscription) giveUp(it *item) {
	it.failed(it.spoilt)
	dead := s.letter(it, it.spoilt, it.received.Attempt)
	if s.leased != nil {
		s.complete(it, dead)
		return
	}
	it.dead = dead
	s.pool.put(it) // the store is a worker's to wait for
}

// buryWait is how long to wait before a dead letter is stored again.
const buryWait = time.Second

// addLetter stores a dead letter whose times are this process's. There is no claim to
// hang it on, so that an unknown outcome may store it twice.
func addLetter(ctx context.Context, store persist.Store, dead persist.DeadLetter) error {
	now, err := store.Time(ctx)
	if err != nil {
		return err
	}
	for _, f := range []*persist.Failure{&dead.First, &dead.Last} {
		if !f.At.IsZero() {
			f.At = now.Add(-time.Since(f.At)).Truncate(time.Millisecond)
		}
	}
	return store.AddDeadLetters(ctx, []persist.DeadLetter{dead})
}

// bury stores a dead letter of a subscription without a group. Without a store
// it is logged, and that is all there is of it. An error of the store has it
// tried again: acknowledgements of later messages wait meanwhile. If the subscription
// closes the message is given back instead.
func (s *Subscription) bury(it *item) (again time.Duration) {
	if store := s.client.cfg.Store; store != nil {
		err := s.letters.call(s.ctx, func(ctx context.Context) error { return addLetter(ctx, store, *it.dead) })
		switch {
		case err != nil && s.isClosing():
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

// claimAgain asks once more for a claim that was lost: the message is worked on if
// nobody else has it, waited for if somebody has, and a duplicate if it is completed.
func (s *Subscription) claimAgain(it *item) {
	it.reclaim = true
	s.release(it)
}

func (s *Subscription) release(it *item) {
	if s.leased != nil {
		s.leased.ReleaseUnbegun(it, it.received.Attempt-1)
		return
	}
	s.settled(it, dedup.OutcomeReleased)
}
