package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	pahoauto "github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"
	"github.com/google/uuid"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// plainConsumer is autopaho with a handler that does nothing, and no dedup.
const plainConsumer = "autopaho plain"

var netDialer = net.Dialer{Timeout: 5 * time.Second}

func (b *bench) consumers() []contender {
	return []contender{
		{plainConsumer, 50_000, consumeAutopaho},
		{"oncemq sqlite dedup", 50_000, b.consumeOncemq("sqlite")},
		{"oncemq postgres dedup", 50_000, b.consumeOncemq("postgres")},
		{"oncemq redis dedup", 50_000, b.consumeOncemq("redis")},
	}
}

// receiveMaximum is the consumer's window.
func (o options) receiveMaximum() int {
	if o.window == 0 {
		return 1000
	}
	return o.window
}

// prepare leaves n messages in the broker for a session.
func prepare(ctx context.Context, o options, clientID, topic string, n int) error {
	u, err := url.Parse(o.broker)
	if err != nil {
		return err
	}
	conn, err := netDialer.DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return err
	}
	c := paho.NewClient(paho.ClientConfig{Conn: conn})
	expiry := uint32(600)
	if _, err := c.Connect(ctx, &paho.Connect{
		ClientID: clientID, CleanStart: true, KeepAlive: 30,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry},
	}); err != nil {
		return err
	}
	if _, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}}); err != nil {
		return err
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		return err
	}
	s := newCountingSession(n)
	cm, err := autopahoConnect(ctx, o, s, nil)
	if err != nil {
		return err
	}
	defer cm.Disconnect(ctx)
	body := payload(o.size)
	for range n {
		p := pahoMessage(o, body)
		p.Topic, p.QoS = topic, 1
		if err := cm.PublishViaQueue(ctx, &pahoauto.QueuePublish{Publish: p}); err != nil {
			return err
		}
	}
	return await(ctx, s.done)
}

// consumeOncemq counts from the connection until the last handler has run and
// its mark is durable.
func (b *bench) consumeOncemq(kind string) func(context.Context, options, int) (time.Duration, error) {
	return func(ctx context.Context, o options, n int) (time.Duration, error) {
		p, err := b.stores.open(ctx, kind)
		if err != nil {
			return 0, err
		}
		defer p.remove()
		store := p.store
		return consumeWith(ctx, store, o, n, func(cfg *autopaho.SubscribeConfig) {
			cfg.OrderBy = func(m *autopaho.Message) string { return m.ID }
			cfg.Handler = func(context.Context, *autopaho.Received) error { return nil }
		})
	}
}

// consumeWith has the broker hold n messages for a subscription, which it then
// makes.
func consumeWith(ctx context.Context, store persist.Store, o options, n int, set func(*autopaho.SubscribeConfig)) (time.Duration, error) {
	id := "bench-" + uuid.NewString()
	topic := "bench/" + id
	if err := prepare(ctx, o, id, topic, n); err != nil {
		return 0, err
	}
	c, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{o.broker}, ClientID: id, Store: store, ReceiveMaximum: o.receiveMaximum(), Logger: slog.Default(),
		Relay: autopaho.RelayConfig{Off: true},
	})
	if err != nil {
		return 0, err
	}
	defer c.Close(ctx)
	start := time.Now()
	cfg := autopaho.SubscribeConfig{Filters: []string{topic}, Group: "bench", Unshared: true}
	set(&cfg)
	if _, err := c.Subscribe(ctx, cfg); err != nil {
		return 0, err
	}
	for {
		s := c.Counters()
		if s.Processed >= uint64(n) {
			if s.Duplicates > 0 {
				return 0, fmt.Errorf("%d duplicates", s.Duplicates)
			}
			return time.Since(start), nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func consumeAutopaho(ctx context.Context, o options, n int) (time.Duration, error) {
	id := "bench-" + uuid.NewString()
	topic := "bench/" + id
	if err := prepare(ctx, o, id, topic, n); err != nil {
		return 0, err
	}
	u, err := url.Parse(o.broker)
	if err != nil {
		return 0, err
	}
	var got atomic.Int64
	done := make(chan struct{})
	rm := uint16(o.receiveMaximum())
	start := time.Now()
	cm, err := pahoauto.NewConnection(ctx, pahoauto.ClientConfig{
		ServerUrls: []*url.URL{u}, KeepAlive: 30, SessionExpiryInterval: 600,
		ConnectPacketBuilder: func(p *paho.Connect, _ *url.URL) (*paho.Connect, error) {
			p.Properties.ReceiveMaximum = &rm
			return p, nil
		},
		ClientConfig: paho.ClientConfig{
			ClientID: id, Session: state.NewInMemory(),
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){
				func(paho.PublishReceived) (bool, error) {
					if got.Add(1) == int64(n) {
						close(done)
					}
					return true, nil
				},
			},
		},
	})
	if err != nil {
		return 0, err
	}
	defer cm.Disconnect(ctx)
	if err := await(ctx, done); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}
