package autopaho

import (
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/dedup"
)

// A handler that does not end would keep its worker, and its message would hold up
// every acknowledgement after it [MQTT-4.6.0-2], until the Receive Maximum is reached
// and nothing comes any more. So some time after its context has ended the message is
// taken from it: that attempt has failed, and what follows is what follows any
// failure. Another worker takes the place of the one that is stuck; when the handler
// does return, nobody listens, and its goroutine ends. In transactional mode dedup
// does the same, and has the store end the transaction.

// ErrHandlerTimeout is the error of a handler that had not returned handlerGrace after
// its SubscribeConfig.HandlerTimeout. The handler may still be running.
var ErrHandlerTimeout = dedup.ErrHandlerTimeout

// handlerGrace is how long a handler has to return once its context has ended.
const handlerGrace = dedup.HandlerGrace

// abandoned is what work returns for an item that was taken from its worker.
const abandoned time.Duration = -1

// watch has overrun called unless the returned function is called in time, which
// tells whether it was. Without a HandlerTimeout it costs nothing.
func (s *Subscription) watch(overrun func()) (returned func() (inTime bool)) {
	if s.cfg.HandlerTimeout == 0 {
		return func() bool { return true }
	}
	var decided atomic.Bool
	stuck := &s.client.status.counters.stuck
	t := time.AfterFunc(s.cfg.HandlerTimeout+handlerGrace, func() {
		if decided.CompareAndSwap(false, true) {
			stuck.Add(1)
			overrun()
		}
	})
	return func() bool {
		t.Stop()
		if decided.CompareAndSwap(false, true) {
			return true
		}
		stuck.Add(-1)
		return false
	}
}

// handed is the message as a handler gets it: one that may outlive its time has a
// copy, since the item goes on without it.
func (s *Subscription) handed(it *item) *Received {
	if s.cfg.HandlerTimeout == 0 {
		return &it.received
	}
	copied := it.received
	return &copied
}
