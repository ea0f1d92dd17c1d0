package autopaho

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/oncemq/oncemq/persist"
)

const (
	// storeFailures in a row open the store's breaker.
	storeFailures = 3
	// probeTimeout bounds a probe, probePause is the time between two: together
	// they see to it that work resumes within two seconds of the store's return.
	probeTimeout = time.Second
	probePause   = 500 * time.Millisecond
)

// storeBreaker is the breaker around the store. What opens it are failures of
// anything that uses the store; what it keeps away is Enqueue, for whose callers
// a time-out each would pile up. The relay and the consumers go on trying in their
// own time, since what they hold does not grow meanwhile.
//
// Nobody needs to come for the breaker to close: it tries the store itself, at
// once after it has opened and then again and again. So the callers of a store
// that is well after all are turned away for the time of one call. It does so with
// little patience, to see the return of a store that was away, and with much beside
// that, since a store that is slow, and answers, is not away.
type storeBreaker struct {
	breaker

	ctx    context.Context //nolint:containedctx // the probes' life: it ends with the client
	cancel context.CancelFunc
	probes sync.WaitGroup

	// probing tells of each kind of probe whether it runs, and will see what state the
	// breaker has; guarded by mu.
	probing [patient + 1]bool
	asking  bool // a look at the store for Client.Ready is under way; guarded by mu
}

// The kinds of probes.
const (
	quick = iota
	patient
)

func newStoreBreaker(c *Client) *storeBreaker {
	s := &storeBreaker{}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.init(c, BreakerStore, storeFailures, probePause)
	s.moved = func(was, _ BreakerState) {
		if was == BreakerClosed {
			s.begin()
		}
	}
	return s
}

// permit is nil while the store is worth asking.
func (s *storeBreaker) permit() error {
	if s.calm.Load() {
		return nil
	}
	if st := s.snapshot(); st.State != BreakerClosed {
		return &BreakerError{Since: st.Since, Err: st.Err}
	}
	return nil
}

// note counts the outcome of a call. Of the failures those count that say that
// the store does not answer, or not in time.
func (s *storeBreaker) note(err error) {
	switch {
	case !isOutage(err):
		if err == nil || !errors.Is(err, context.Canceled) {
			s.succeeded() // it answers, if not what one would wish
		}
	default:
		s.failed(err)
	}
}

func isOutage(err error) bool {
	return errors.Is(err, persist.ErrUnavailable) || errors.Is(err, persist.ErrUnknownOutcome) ||
		errors.Is(err, context.DeadlineExceeded)
}

// begin has the store probed until it answers.
func (s *storeBreaker) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for kind := range s.probing {
		if !s.closed && !s.probing[kind] {
			s.probing[kind] = true
			s.probes.Go(func() { s.probe(kind) })
		}
	}
}

// done tells a probe whether to end.
func (s *storeBreaker) done(kind int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status.State == BreakerClosed {
		s.probing[kind] = false
	}
	return !s.probing[kind]
}

func (s *storeBreaker) probe(kind int) {
	limit := probeTimeout
	if kind == patient {
		limit = storeTimeoutMost
	}
	for !s.done(kind) { // perhaps by somebody else's success
		if kind == quick {
			s.change(func() {
				if s.status.State == BreakerOpen {
					s.inner.HalfOpen()
				}
			})
		}
		ctx, cancel := context.WithTimeout(s.ctx, limit)
		// It writes, as Enqueue does, and has next to nothing to do.
		_, err := s.client.cfg.Store.ExpireProcessed(ctx, 1)
		cancel()
		if s.ctx.Err() != nil {
			return
		}
		if kind == quick || !isOutage(err) { // an old question that failed says nothing of now
			s.note(err)
		}
		if s.done(kind) {
			return
		}
		t := time.NewTimer(probePause)
		select {
		case <-t.C:
		case <-s.ctx.Done():
			t.Stop()
			return
		}
	}
}

// close joins the probes.
func (s *storeBreaker) close() {
	s.breaker.close()
	s.cancel()
	s.probes.Wait()
}
