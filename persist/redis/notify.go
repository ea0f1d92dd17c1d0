package redis

import (
	"context"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	// listenFor is how long the subscription waits before it asks whether the
	// server is still there.
	listenFor = 30 * time.Second
	// listenFirst and listenMost are how long it waits after an error.
	listenFirst = 100 * time.Millisecond
	listenMost  = 10 * time.Second
)

// notifier wakes subscribers. What this handle does wakes them at once; what
// others do comes over a channel of the server, to which it subscribes as soon as
// somebody wants to know.
type notifier struct {
	mu     sync.Mutex // guards the rest
	subs   map[chan struct{}]struct{}
	closed bool
	end    context.CancelFunc // nil while nobody listens
	pubsub *goredis.PubSub
	ended  chan struct{}
}

// Notify subscribes to changes that may have made messages due; see
// [persist.Notifier]. Those of other processes are published by the server; if
// the connection is down, or an ACL forbids the channel, they are not seen. The
// channel is never closed.
func (s *Store) Notify() (<-chan struct{}, func()) {
	n := &s.notifier
	ch := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.subs == nil {
		n.subs = make(map[chan struct{}]struct{})
	}
	n.subs[ch] = struct{}{}
	if n.end == nil && !n.closed {
		ctx, cancel := context.WithCancel(context.Background())
		n.end, n.ended = cancel, make(chan struct{})
		// Subscribe names the channel; Receive connects.
		n.pubsub = s.client.Subscribe(ctx)
		go n.listen(ctx, n.pubsub, s.keys.wake, s.handle)
	}
	return ch, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.subs, ch)
	}
}

// listen is the goroutine of the subscription. Whenever that is made anew,
// something may have been missed.
func (n *notifier) listen(ctx context.Context, pubsub *goredis.PubSub, channel, handle string) {
	defer close(n.ended)
	for wait := listenFirst; ctx.Err() == nil; wait = min(2*wait, listenMost) {
		if err := pubsub.Subscribe(ctx, channel); err == nil {
			if n.follow(ctx, pubsub, handle) {
				wait = listenFirst
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// follow passes messages on until the connection fails, and tells whether there
// was one.
func (n *notifier) follow(ctx context.Context, pubsub *goredis.PubSub, handle string) (received bool) {
	asked := false
	for {
		message, err := pubsub.ReceiveTimeout(ctx, listenFor)
		switch message := message.(type) {
		case *goredis.Message:
			if message.Payload != handle {
				n.wake()
			}
		case *goredis.Subscription:
			n.wake()
		}
		switch {
		case err == nil:
			received, asked = true, false
		case isTimeout(err) && !asked && pubsub.Ping(ctx) == nil:
			asked = true
		default:
			return received
		}
	}
}

// wake sends without waiting, so that it may do so under the lock.
func (n *notifier) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ch := range n.subs {
		select {
		case ch <- struct{}{}:
		default: // it has one already
		}
	}
}

// close ends the subscription and waits for its goroutine.
func (n *notifier) close() {
	n.mu.Lock()
	n.closed = true
	clear(n.subs)
	end, pubsub, ended := n.end, n.pubsub, n.ended
	n.mu.Unlock()
	if end == nil {
		return
	}
	end()
	_ = pubsub.Close() // it cannot be of use to anybody any more
	<-ended
}
