package autopaho

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/persist"
)

const (
	// storeTimeout is how long the relay and its drains wait for a call of the store,
	// whatever the lease, and others for a look-up or for a dead letter without a claim.
	// A connection whose other side has vanished without a word never answers, and what
	// comes after the call has to wait: so it bounds, with the pause after a failure, how
	// long after the store's return work resumes.
	storeTimeout = 1500 * time.Millisecond
	// storeTimeoutMost is what the wait for a slow store grows to.
	storeTimeoutMost = 30 * time.Second
	// impatientCalls is how many calls in a row may time out before the wait grows. As
	// many open the store's breaker.
	impatientCalls = storeFailures
)

// patience is how long a relay, a drain, or who makes calls of one kind, waits for the
// store. A store that does answer, but slowly, must not be asked for the same in vain
// for ever: after some time-outs in a row the wait doubles each time, until a call is
// quick. It does not while the breaker says that nothing answers: then the store is
// away, and a long wait would outlast its return.
type patience struct {
	client   *Client
	timeouts atomic.Int32 // in a row, while the breaker was closed
}

// limit is how long the next call may take, and away tells that the breaker is not
// closed.
func (p *patience) limit() (limit time.Duration, away bool) {
	if p.client.store.permit() != nil {
		return storeTimeout, true
	}
	limit = storeTimeout
	for n := p.timeouts.Load(); n >= impatientCalls && limit < storeTimeoutMost; n-- {
		limit *= 2
	}
	return min(limit, storeTimeoutMost), false
}

// call makes one call of the store, and tells the breaker if it fails. The error is
// the call's; a call that took too long fails as the store has it do when its context
// ends.
func (p *patience) call(ctx context.Context, f func(context.Context) error) error {
	limit, away := p.limit()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	err := f(limited)
	switch {
	case err == nil:
		if time.Since(began) < storeTimeout {
			p.timeouts.Store(0)
		}
	case ctx.Err() != nil: // it is the caller that ends, not the store
	default:
		if limited.Err() != nil && !away {
			p.timeouts.Add(1)
		}
		p.client.store.note(err)
	}
	return err
}

// next is [persist.Lane.Next], for a page.
func (d *drain) next(ctx context.Context) (entries []persist.Entry, err error) {
	err = d.patience.call(ctx, func(ctx context.Context) (err error) {
		entries, err = d.lane.Next(ctx, pageSize, pageBytes)
		return err
	})
	return entries, err
}

// infos asks the store for its lanes.
func (r *relay) infos() (infos []persist.LaneInfo, err error) {
	err = r.patience.call(r.looking, func(ctx context.Context) (err error) {
		infos, err = r.store.Lanes(ctx)
		return err
	})
	return infos, err
}
