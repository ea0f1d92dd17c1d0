package demo

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/oncemq/oncemq/internal/loopback"
)

// broker is an MQTT broker that can be killed and started again on its port. A
// new life knows nothing of the one before: neither sessions nor subscriptions
// nor messages.
//
// start, kill and close are called by one goroutine.
type broker struct {
	addr    string
	quota   int // how many unacknowledged messages a replica gets
	replies gate
	wire    wire
	life    *life // nil while the broker is down
}

// life is the broker from one start to the next kill.
type life struct {
	server   *mqtt.Server
	listener *listener
	hook     *hook
}

// newBroker starts a broker on a free port. Each replica gets at most quota
// messages that it has not acknowledged; the others wait in the broker.
func newBroker(ctx context.Context, quota int) (*broker, error) {
	ln, err := loopback.Listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	b := &broker{addr: ln.Addr().String(), quota: quota}
	b.wire.sent = make(map[string]int)
	return b, b.serve(ln)
}

// start begins the next life, with nothing of the one before.
func (b *broker) start(ctx context.Context) error {
	ln, err := loopback.ListenOn(ctx, b.addr)
	if err != nil {
		return fmt.Errorf("restart broker: %w", err)
	}
	return b.serve(ln)
}

func (b *broker) serve(ln net.Listener) error {
	limits := mqtt.NewDefaultServerCapabilities()
	limits.Compatibilities.NoInheritedPropertiesOnAck = true
	limits.MaximumMessageExpiryInterval = 0 // else it adds one to every message
	limits.MaximumInflight = 1<<16 - 1
	l := &life{listener: newListener(ln)}
	l.server = mqtt.New(&mqtt.Options{
		Capabilities: limits, InlineClient: true, Logger: slog.New(slog.DiscardHandler),
	})
	l.hook = newHook(b, l.server)
	if err := l.server.AddHook(l.hook, nil); err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	if err := l.server.AddListener(l.listener); err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	if err := l.server.Serve(); err != nil {
		return fmt.Errorf("start broker: %w", err)
	}
	b.life = l
	return nil
}

// kill ends the broker as if by kill -9: the port and all connections close
// without a word, and everything that it held is gone.
func (b *broker) kill() error {
	l := b.life
	if l == nil {
		return nil
	}
	b.life = nil
	if err := l.listener.kill(); err != nil {
		return fmt.Errorf("kill broker: %w", err)
	}
	// Nobody is connected any more: what is left are the server's own timers.
	return l.server.Close()
}

// held are the IDs of the messages that wait in the broker and were sent to no
// replica, in this life or another.
func (b *broker) held() []string {
	if b.life == nil {
		return nil
	}
	return b.wire.unsent(b.life.hook.held())
}

// subscribed is how many replicas are subscribed.
func (b *broker) subscribed() int {
	if b.life == nil {
		return 0
	}
	return b.life.hook.subscribed()
}

// outstanding are the IDs of the messages that a replica was sent in this life
// and has not acknowledged.
func (b *broker) outstanding(replica string) []string {
	if b.life == nil {
		return nil
	}
	return b.life.hook.outstanding(replica)
}

// idle tells whether nothing waits for a replica.
func (b *broker) idle() bool {
	return b.life != nil && len(b.life.hook.held()) == 0 && len(b.outstanding("")) == 0
}

// wire counts PUBLISH packets over all lives of the broker. It belongs to the
// demo and not to the broker, which forgets.
type wire struct {
	mu     sync.Mutex     // guards the following
	sent   map[string]int // to the replicas, by message ID
	copies int            // the sum of sent
}

func (w *wire) count(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent[id]++
	w.copies++
}

// redelivered is how many copies were sent beyond the first of each message.
func (w *wire) redelivered() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.copies - len(w.sent)
}

// unsent are those of the messages that were never sent.
func (w *wire) unsent(ids []string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(ids, func(id string) bool { return w.sent[id] > 0 })
}
