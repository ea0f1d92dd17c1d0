package mochi

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"

	"github.com/oncemq/oncemq/internal/loopback"
)

// Options tune a broker. The zero value is good for a broker that nobody looks
// into.
type Options struct {
	// Quota is the most unacknowledged messages that a member of a shared
	// subscription gets; its own Receive Maximum bounds it too. Others wait in the
	// broker. Zero is no bound of the broker's own.
	Quota int
	// MessageID finds what identifies a message, in its user properties; nil for
	// none. Held, Outstanding and Redelivered need it.
	MessageID func(property func(key string) string) string
	// Gated tells whose packets CloseGate holds up; nil for nobody's.
	Gated func(clientID string) bool
}

// Broker is an MQTT broker that can be killed and started again on its port. A
// new life knows nothing of the one before: neither sessions nor subscriptions
// nor messages.
//
// Start and Kill are called by one goroutine at a time, and so is what asks the
// broker for something.
type Broker struct {
	options Options
	addr    string
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

// closeTimeout bounds how long the connections of a killed broker take to end.
const closeTimeout = 5 * time.Second

// New starts a broker on a free loopback port. Kill ends it.
func New(ctx context.Context, options Options) (*Broker, error) {
	ln, err := loopback.Listen(ctx)
	if err != nil {
		return nil, fmt.Errorf("start broker: %w", err)
	}
	b := &Broker{addr: ln.Addr().String(), options: options}
	b.wire.sent = make(map[string]int)
	return b, b.serve(ln)
}

// Addr is the host and port, URL the same with the scheme mqtt.
func (b *Broker) Addr() string { return b.addr }

// URL is the address with the scheme mqtt.
func (b *Broker) URL() string { return "mqtt://" + b.addr }

// Start begins the next life after Kill, with nothing of the one before.
func (b *Broker) Start(ctx context.Context) error {
	ln, err := loopback.ListenOn(ctx, b.addr)
	if err != nil {
		return fmt.Errorf("restart broker: %w", err)
	}
	return b.serve(ln)
}

func (b *Broker) serve(ln net.Listener) error {
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

// Kill ends the broker as if by kill -9: the port and all connections close
// without a word, and everything that it held is gone. One that is down stays so.
func (b *Broker) Kill() error {
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

// CloseGate holds up what Gated clients send from now on, OpenGate lets it go on:
// a network that is silent in one direction for a moment.
func (b *Broker) CloseGate() { b.replies.close() }

// OpenGate ends CloseGate.
func (b *Broker) OpenGate() { b.replies.open() }

// Cut closes the connections of clients, as they close when their machine is
// gone: what they sent and was held up at the gate never arrives.
func (b *Broker) Cut(clientIDs ...string) {
	if b.life != nil {
		b.life.cut(clientIDs)
	}
}

// Held are the IDs of the messages that wait in the broker and were sent to no
// member, in this life or another.
func (b *Broker) Held() []string {
	if b.life == nil {
		return nil
	}
	return b.wire.unsent(b.life.hook.held())
}

// Subscribed is how many members of shared subscriptions are connected.
func (b *Broker) Subscribed() int {
	if b.life == nil {
		return 0
	}
	return b.life.hook.subscribed()
}

// Outstanding are the IDs of the messages that a member was sent in this life
// and has not acknowledged; those of all members for the empty name.
func (b *Broker) Outstanding(clientID string) []string {
	if b.life == nil {
		return nil
	}
	return b.life.hook.outstanding(clientID)
}

// Idle tells whether the broker is up and nothing waits for a member.
func (b *Broker) Idle() bool {
	return b.life != nil && len(b.life.hook.held()) == 0 && len(b.Outstanding("")) == 0
}

// Redelivered is how many copies members were sent beyond the first of each
// message, in all lives.
func (b *Broker) Redelivered() int { return b.wire.redelivered() }
