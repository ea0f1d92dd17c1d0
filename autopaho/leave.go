package autopaho

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// abandon removes a subscription, and has the broker told if it may have it. One that it
// was never asked for may be that of an earlier process, for which somebody comes again.
func (in *consumer) abandon(s *Subscription) {
	in.remove(s)
	in.mu.Lock()
	if s.asked {
		in.unwanted = append(in.unwanted, s.wireFilters...)
	}
	in.mu.Unlock()
	in.signal()
}

// leave is abandon for a subscription that takes in what comes meanwhile.
func (in *consumer) leave(ctx context.Context, s *Subscription) {
	stop := in.client.closing
	if in.outlives(s) {
		stop = nil
	}
	in.linger(ctx, s, stop)
	in.remove(s)
}

// outlives tells whether the broker would keep messages for a subscription to whose
// session nobody comes back, so that also a client that closes has it linger.
func (in *consumer) outlives(s *Subscription) bool {
	return in.client.cfg.nameless && s.shared()
}

// leaveClosing has a subscription linger whose client closes, if that is called for.
func (in *consumer) leaveClosing(ctx context.Context, s *Subscription) {
	if in.outlives(s) {
		in.linger(ctx, s, nil)
	}
}

// finish is closeWork for a subscription that the client has no more, and that no other
// ends. Once ctx has ended it returns, and goes on alone: what handlers have done
// meanwhile is settled, which close waits for.
func (in *consumer) finish(ctx context.Context, s *Subscription) error {
	in.mu.Lock()
	if in.closed {
		in.mu.Unlock()
		return s.closeWork(ctx, ctx)
	}
	in.finishing = append(in.finishing, s)
	in.mu.Unlock()
	result := make(chan error, 1)
	go func() { // joined by close, by s.closed
		patience, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(in.ctx, cancel)()
		result <- s.closeWork(in.ctx, patience)
		in.mu.Lock()
		defer in.mu.Unlock()
		if i := slices.Index(in.finishing, s); i >= 0 {
			in.finishing = slices.Delete(in.finishing, i, i+1)
		}
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("subscription closed with handlers still running: %w", ctx.Err())
	}
}

// leaveGroups has the subscriptions of groups linger, for a client that closes.
func (in *consumer) leaveGroups(ctx context.Context) {
	in.mu.Lock()
	subs := slices.Clone(in.subs)
	in.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range subs {
		wg.Go(func() { in.leaveClosing(ctx, s) })
	}
	wg.Wait()
}

// lingerMost bounds how long a subscription that ends takes in what the broker has for
// it.
const lingerMost = 10 * time.Second

// linger has the broker told that a subscription ends, and waits until it has answered:
// what it sends before, nobody else gets. Of a group that is true of what it had queued
// for it as well, which comes as it is acknowledged. So it is told again once all is, and
// nothing is left when nothing has come by the answer. Without a connection it does not
// wait, but for one that is lost meanwhile, and stop ends the wait. Who comes second
// waits for the first.
func (in *consumer) linger(ctx context.Context, s *Subscription, stop <-chan struct{}) {
	in.mu.Lock()
	left := s.left
	if left == nil {
		s.left = make(chan struct{})
		defer close(s.left)
	}
	in.mu.Unlock()
	if left != nil {
		select {
		case <-left:
		case <-ctx.Done():
		case <-stop:
		}
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lingerMost)
	defer cancel()
	if !in.tell(ctx, s, stop) || !s.shared() {
		return
	}
	for {
		if !s.awaitIdle(ctx, stop) || in.link.Engine().WaitFlushed(ctx) != nil {
			return
		}
		taken := s.taken()
		if !in.tell(ctx, s, stop) || s.taken() == taken {
			return
		}
	}
}

// tell has the broker told that a subscription ends, and tells whether it was: so that
// there is nothing on its way any more that was sent before.
func (in *consumer) tell(ctx context.Context, s *Subscription, stop <-chan struct{}) bool {
	connected := in.link.Engine().Snapshot().Connected // it may be lost as the broker is told
	in.mu.Lock()
	told, waits := make(chan struct{}), !in.closed
	s.told, s.gone = told, false
	in.unwanted = append(in.unwanted, s.wireFilters...)
	in.mu.Unlock()
	in.signal()
	if !waits || !connected {
		return false
	}
	select {
	case <-told:
		return true
	case <-ctx.Done():
	case <-stop:
	case <-in.joined:
	}
	return false
}

// unsubscribeMost is how many filters one UNSUBSCRIBE has, lest it is too large for the
// broker.
const unsubscribeMost = 100

// unsubscribe tells the broker which filters are not wanted any more, as far as no
// subscription that stays wants them. Without a connection the next one does it.
func (in *consumer) unsubscribe(filters []string, subs []*Subscription) (told bool) {
	for _, s := range subs {
		filters = slices.DeleteFunc(filters, func(f string) bool { return slices.Contains(s.wireFilters, f) })
	}
	for len(filters) > 0 {
		n := min(len(filters), unsubscribeMost)
		var refused *SubscribeError
		if err := in.link.Unsubscribe(in.ctx, filters[:n]); err != nil && !errors.As(err, &refused) {
			in.mu.Lock()
			in.unwanted = append(in.unwanted, filters...)
			in.mu.Unlock()
			if isTimeout(err) {
				in.signal() // the connection may well stay
			}
			return false
		}
		filters = filters[n:]
	}
	return true
}

// haveTold ends the wait of those that the broker was told of. If it was not, since the
// connection was lost, a member of a group waits for the next one, which brings what the
// broker had dealt to it.
func (in *consumer) haveTold(leaving []*Subscription, told bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, s := range leaving {
		if told || !s.shared() {
			close(s.told)
		} else {
			s.gone = false
		}
	}
}
