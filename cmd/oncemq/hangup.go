package main

import (
	"context"
	"sync"
)

// hangups passes SIGHUP on to who listens for it.
type hangups struct {
	mu   sync.Mutex // guards the following
	each chan struct{}
}

type hangupsKey struct{}

// onHangup returns a channel that holds one while a SIGHUP came that was not heeded.
// Until stop is called SIGHUP does not end the process. A context that is not of
// untilSignal brings none.
func onHangup(ctx context.Context) (each <-chan struct{}, stop func()) {
	h, ok := ctx.Value(hangupsKey{}).(*hangups)
	if !ok {
		return nil, func() {}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.each = make(chan struct{}, 1)
	return h.each, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.each = nil
	}
}

// heard passes a SIGHUP on, and tells whether somebody listens.
func (h *hangups) heard() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.each == nil {
		return false
	}
	select {
	case h.each <- struct{}{}:
	default:
	}
	return true
}
