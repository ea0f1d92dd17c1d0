package dedup

import (
	"context"
	"log/slog"
	"sync"
)

// loop is one of the goroutines that call the store, as a bit.
type loop uint8

const (
	loopClaim loop = 1 << iota
	loopComplete
	loopRenew
	loopProcess
)

// health knows whether the store answers, and tells the user. The hooks are
// called by one goroutine, so that they come in order and never overlap.
type health struct {
	onError func(error)
	onBack  func()
	logger  *slog.Logger

	wake chan struct{} // holds one: the reporter has something to look at

	mu sync.Mutex
	// failing are the loops whose last call failed. The store is back once no
	// bit is left, not at the first success: renewals may pass while claims fail.
	failing loop
	err     error // the last error while failing is not zero
	fresh   bool  // err was not reported yet
}

func newHealth(onError func(error), onBack func(), logger *slog.Logger) *health {
	return &health{onError: onError, onBack: onBack, logger: logger, wake: make(chan struct{}, 1)}
}

func (h *health) failed(l loop, err error) {
	h.mu.Lock()
	h.failing |= l
	h.err, h.fresh = err, true
	h.mu.Unlock()
	wake(h.wake)
}

func (h *health) succeeded(l loop) {
	h.mu.Lock()
	was := h.failing
	h.failing &^= l
	back := was != 0 && h.failing == 0
	if back {
		h.err = nil
	}
	h.mu.Unlock()
	if back {
		wake(h.wake)
	}
}

// isFailing tells whether the last call of that loop failed.
func (h *health) isFailing(l loop) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failing&l != 0
}

// lastError is nil if the store answers.
func (h *health) lastError() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// report calls the hooks until ctx ends. A failure that is over before it could
// be reported is not reported.
func (h *health) report(ctx context.Context) {
	down := false
	var last error
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.wake:
		}
		h.mu.Lock()
		failing, fresh := h.failing != 0, h.fresh
		h.fresh = false
		if h.err != nil {
			last = h.err
		}
		h.mu.Unlock()

		if fresh && failing {
			if !down {
				h.logger.LogAttrs(ctx, slog.LevelWarn, "dedup store fails", slog.Any("error", last))
			}
			down = true
			if h.onError != nil {
				h.onError(last)
			}
		}
		if down && !failing {
			down = false
			h.logger.LogAttrs(ctx, slog.LevelInfo, "dedup store is back")
			if h.onBack != nil {
				h.onBack()
			}
		}
	}
}

// wake makes one receive on ch succeed. It never blocks.
func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
