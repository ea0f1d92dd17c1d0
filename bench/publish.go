package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"time"

	pahoauto "github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/autopaho/queue"
	"github.com/eclipse/paho.golang/autopaho/queue/file"
	"github.com/eclipse/paho.golang/autopaho/queue/memory"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session"
	"github.com/eclipse/paho.golang/paho/session/state"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/uuid"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

func (b *bench) publishers(o options) []contender {
	cs := []contender{
		{"oncemq sqlite", 100_000, b.publishOncemq("sqlite")},
		{"oncemq postgres", 100_000, b.publishOncemq("postgres")},
		{"oncemq redis", 100_000, b.publishOncemq("redis")},
		{"autopaho memory queue", 100_000, publishAutopaho(func(string) (queue.Queue, error) { return memory.New(), nil })},
		{"autopaho file queue", 4_000, publishAutopaho(func(dir string) (queue.Queue, error) { return file.New(dir, "q", ".msg") })},
		{"paho.mqtt.golang file store", 10_000, publishClassic},
		{asyncPeer, 100_000, publishAsync},
	}
	if o.qos == 2 {
		return append(cs[:3], cs[len(cs)-1])
	}
	return cs
}

// asyncPeer publishes without waiting and keeps everything in memory.
const asyncPeer = "paho.golang async"

func payload(size int) []byte { return make([]byte, size) }

// publishOncemq goes from the first Enqueue until the outbox is empty.
func (b *bench) publishOncemq(kind string) func(context.Context, options, int) (time.Duration, error) {
	return func(ctx context.Context, o options, n int) (time.Duration, error) {
		p, err := b.stores.open(ctx, kind)
		if err != nil {
			return 0, err
		}
		defer p.remove()
		store := p.store
		return publishThrough(ctx, store, o, n)
	}
}

func publishThrough(ctx context.Context, store persist.Store, o options, n int) (time.Duration, error) {
	return publishWith(ctx, autopaho.Config{Servers: []string{o.broker}, Store: store}, o, n)
}

func publishWith(ctx context.Context, cfg autopaho.Config, o options, n int) (time.Duration, error) {
	store := cfg.Store
	c, err := autopaho.New(ctx, cfg)
	if err != nil {
		return 0, err
	}
	defer c.Close(ctx)
	// Connected first, as the peers are.
	warm, err := c.Enqueue(ctx, autopaho.Message{Topic: "bench/warm"})
	if err != nil {
		return 0, err
	}
	if _, err := warm.Wait(ctx); err != nil {
		return 0, err
	}
	body := payload(o.size)
	start := time.Now()
	const group = 500
	batch := make([]autopaho.Message, 0, group)
	var last *autopaho.Enqueued
	for i := 0; i < n; i += len(batch) {
		batch = batch[:0]
		for range min(group, n-i) {
			batch = append(batch, autopaho.Message{Topic: "bench/a", QoS: byte(o.qos), Payload: body})
		}
		if last, err = c.Enqueue(ctx, batch...); err != nil {
			return 0, err
		}
	}
	if _, err := last.Wait(ctx); err != nil {
		return 0, err
	}
	if err := untilEmpty(ctx, store); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if s := c.Counters(); s.Delivered != uint64(n)+1 || s.Failed != 0 {
		return 0, fmt.Errorf("%d delivered of %d", s.Delivered, n+1)
	}
	return took, nil
}

// countingSession counts final acknowledgements.
type countingSession struct {
	session.SessionManager
	left atomic.Int64
	done chan struct{}
}

func newCountingSession(n int) *countingSession {
	s := &countingSession{SessionManager: state.NewInMemory(), done: make(chan struct{})}
	s.left.Store(int64(n))
	return s
}

func (s *countingSession) PacketReceived(p *packets.ControlPacket, ch chan<- *packets.Publish) error {
	err := s.SessionManager.PacketReceived(p, ch)
	if p.Type == packets.PUBACK || p.Type == packets.PUBCOMP {
		if s.left.Add(-1) == 0 {
			close(s.done)
		}
	}
	return err
}

func autopahoConnect(ctx context.Context, o options, s session.SessionManager, q queue.Queue) (*pahoauto.ConnectionManager, error) {
	u, err := url.Parse(o.broker)
	if err != nil {
		return nil, err
	}
	cm, err := pahoauto.NewConnection(ctx, pahoauto.ClientConfig{
		ServerUrls: []*url.URL{u}, KeepAlive: 30, SessionExpiryInterval: 60, Queue: q,
		ClientConfig: paho.ClientConfig{ClientID: "bench-" + uuid.NewString(), Session: s},
	})
	if err != nil {
		return nil, err
	}
	return cm, cm.AwaitConnection(ctx)
}

func pahoMessage(o options, body []byte) *paho.Publish {
	p := &paho.Publish{Topic: "bench/a", QoS: byte(o.qos), Payload: body, Properties: &paho.PublishProperties{}}
	p.Properties.User.Add("message-id", uuid.Must(uuid.NewV7()).String()) // as oncemq makes them
	return p
}

func publishAutopaho(newQueue func(dir string) (queue.Queue, error)) func(context.Context, options, int) (time.Duration, error) {
	return func(ctx context.Context, o options, n int) (time.Duration, error) {
		dir, err := os.MkdirTemp("", "oncemq-bench")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		q, err := newQueue(dir)
		if err != nil {
			return 0, err
		}
		s := newCountingSession(n)
		cm, err := autopahoConnect(ctx, o, s, q)
		if err != nil {
			return 0, err
		}
		defer cm.Disconnect(ctx)
		body := payload(o.size)
		start := time.Now()
		for range n {
			if err := cm.PublishViaQueue(ctx, &pahoauto.QueuePublish{Publish: pahoMessage(o, body)}); err != nil {
				return 0, err
			}
		}
		if err := await(ctx, s.done); err != nil {
			return 0, err
		}
		return time.Since(start), nil
	}
}

// publishAsync is paho.golang with nothing stored.
func publishAsync(ctx context.Context, o options, n int) (time.Duration, error) {
	u, err := url.Parse(o.broker)
	if err != nil {
		return 0, err
	}
	conn, err := (&netDialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return 0, err
	}
	s := newCountingSession(n)
	c := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), Session: s, PacketTimeout: time.Minute})
	expiry := uint32(60)
	if _, err := c.Connect(ctx, &paho.Connect{
		ClientID: "bench-" + uuid.NewString(), CleanStart: true, KeepAlive: 30,
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry},
	}); err != nil {
		return 0, err
	}
	defer func() { _ = c.Disconnect(&paho.Disconnect{}) }()
	body := payload(o.size)
	start := time.Now()
	for range n {
		if _, err := c.PublishWithOptions(ctx, pahoMessage(o, body), paho.PublishOptions{Method: paho.PublishMethod_AsyncSend}); err != nil {
			return 0, err
		}
	}
	if err := await(ctx, s.done); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

// publishClassic is paho.mqtt.golang, MQTT 3.1.1, with its file store.
func publishClassic(ctx context.Context, o options, n int) (time.Duration, error) {
	dir, err := os.MkdirTemp("", "oncemq-bench")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	u, err := url.Parse(o.broker)
	if err != nil {
		return 0, err
	}
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + u.Host).SetClientID("bench-" + uuid.NewString()[:8]).
		SetStore(mqtt.NewFileStore(dir)).SetCleanSession(false))
	if t := c.Connect(); t.Wait() && t.Error() != nil {
		return 0, t.Error()
	}
	defer c.Disconnect(100)
	body := payload(o.size)
	start := time.Now()
	tokens := make([]mqtt.Token, 0, n)
	for range n {
		tokens = append(tokens, c.Publish("bench/a", byte(o.qos), false, body))
	}
	for _, t := range tokens {
		if !t.WaitTimeout(time.Minute) {
			return 0, errors.New("no acknowledgement within a minute")
		}
		if t.Error() != nil {
			return 0, t.Error()
		}
	}
	return time.Since(start), nil
}

func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(3 * time.Minute):
		return errors.New("not finished within three minutes")
	}
}
