package drill

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/qos"
)

const (
	// replicas is how many subscribers the group has.
	replicas = 2
	// quota is how many unacknowledged messages a replica gets where the broker
	// forgets: few, so that there are others that wait in the broker.
	quota = 8
	// held is how many messages the broker has to forget at least: more than there can
	// be on their way to the replicas.
	held = 2 * replicas * quota
	// keys is how many ordering keys the messages have.
	keys = 16
	// subscribeTimeout bounds how long a replica takes to subscribe.
	subscribeTimeout = 30 * time.Second
	// closeTimeout bounds how long a client takes to finish.
	closeTimeout = 5 * time.Second
)

// config is what all clients have in common.
func (r *run) config(server string) autopaho.Config {
	cfg := autopaho.Config{
		Servers: []string{server}, OnEvent: r.events.take,
		// A network that is gone is noticed soon, and one that is back as well; but a
		// busy machine is not taken for one.
		KeepAlive:      r.opts.scaled(2*time.Second, 2*time.Second).Round(time.Second),
		ConnectTimeout: r.opts.scaled(4*time.Second, 2*time.Second),
		AckTimeout:     r.opts.scaled(10*time.Second, 5*time.Second),
		PacketTimeout:  r.opts.scaled(10*time.Second, 5*time.Second),
		WriteTimeout:   r.opts.scaled(10*time.Second, 5*time.Second),
		// Long enough for the drill; what is left of a session is removed in the end.
		SessionExpiry: 10 * time.Minute,
	}
	r.opts.Broker.Login(&cfg)
	return cfg
}

// publisher is a client with an outbox, and the list of what was accepted.
type publisher struct {
	store   persist.Store
	client  *autopaho.Client
	random  *rand.Rand
	topic   string
	qos     byte
	receipt bool

	mu     sync.Mutex // guards the following
	ids    []string   // what Enqueue has accepted
	number int
}

func (r *run) newPublisher(ctx context.Context, server string) (*publisher, error) {
	s := &r.opts.Scenario
	p := &publisher{
		topic: r.topic, qos: max(1, s.QoS), receipt: s.Forgets && !r.opts.Sabotage.Receipts,
		random: rand.New(rand.NewPCG(r.opts.Seed, 1)), //nolint:gosec // the same seed is to give the same keys
	}
	var err error
	if p.store, err = r.space.open(ctx); err != nil {
		return nil, err
	}
	cfg := r.config(server)
	cfg.Store = p.store
	// Receipts are many and small.
	cfg.ReceiveMaximum = 1<<16 - 1
	cfg.Policies = qos.Policies{Default: qos.Policy{ReceiptTimeout: r.opts.scaled(2*time.Second, 2*time.Second)}}
	if p.client, err = autopaho.New(ctx, cfg); err != nil {
		return nil, errors.Join(err, p.store.Close(context.WithoutCancel(ctx)))
	}
	return p, nil
}

// publish enqueues n messages.
func (p *publisher) publish(ctx context.Context, n int) error {
	msgs := make([]autopaho.Message, n)
	for i := range msgs {
		p.number++
		msgs[i] = autopaho.Message{
			Topic: p.topic + "/" + strconv.Itoa(p.random.IntN(keys)), QoS: p.qos, Receipt: p.receipt,
			Payload: fmt.Appendf(nil, "message %d of a drill", p.number),
		}
	}
	q, err := p.client.Enqueue(ctx, msgs...)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.ids = append(p.ids, q.IDs()...)
	p.mu.Unlock()
	return nil
}

// accepted are the IDs of what Enqueue has accepted so far.
func (p *publisher) accepted() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ids[:len(p.ids):len(p.ids)]
}

// open is how many messages the outbox still has.
func (p *publisher) open(ctx context.Context) (int, error) {
	s, err := p.store.Stats(ctx)
	if err != nil {
		return 0, err
	}
	return int(s.Pending + s.Delivered), nil
}

// close ends the client and the store. What the client does not get done is still in
// the outbox.
func (p *publisher) close(timeout time.Duration) error {
	return closeClient(p.client, p.store, timeout)
}

// replica is a subscriber of the group.
type replica struct {
	store  persist.Store // nil without dedup
	client *autopaho.Client
}

func (r *run) newReplica(ctx context.Context, server string, number int) (*replica, error) {
	name := fmt.Sprintf("%s-replica-%d", r.name, number)
	s := &replica{}
	var err error
	if !r.opts.Sabotage.Dedup {
		if s.store, err = r.space.open(ctx); err != nil {
			return nil, err
		}
	}
	cfg := r.config(server)
	cfg.ClientID, cfg.Store, cfg.Relay.Off = name, s.store, true
	if r.opts.Scenario.Forgets {
		cfg.ReceiveMaximum = quota
	}
	if s.client, err = autopaho.New(ctx, cfg); err != nil {
		return nil, errors.Join(err, closeStore(s.store, closeTimeout))
	}
	subscription := autopaho.SubscribeConfig{
		Filters: []string{r.topic + "/#"}, Group: r.name, Receipts: true,
		// No process dies here: what is claimed ends by itself, and a lease that ran out on a
		// busy machine would be taken for a fault of ours.
		Lease: r.opts.scaled(10*time.Second, 10*time.Second),
		// However busy the machine is, no message shall die of it.
		Attempts: 1000,
	}
	if r.space.inTx != nil && s.store != nil {
		subscription.TxHandler = r.space.inTx(name)
	} else {
		subscription.Handler = func(ctx context.Context, m *autopaho.Received) error {
			return r.space.effects.Add(ctx, m.ID, name)
		}
	}
	// What is there may be no broker, or may not let us in and not say so.
	ctx, cancel := context.WithTimeout(ctx, subscribeTimeout)
	defer cancel()
	if _, err = s.client.Subscribe(ctx, subscription); err != nil {
		return nil, errors.Join(err, s.close(abortTimeout))
	}
	return s, nil
}

func (s *replica) close(timeout time.Duration) error { return closeClient(s.client, s.store, timeout) }

// closeClient ends a client and its store.
func closeClient(client *autopaho.Client, store persist.Store, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := client.Close(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // it was not to finish at any price
	}
	return errors.Join(err, closeStore(store, closeTimeout))
}

func closeStore(store persist.Store, timeout time.Duration) error {
	if store == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return store.Close(ctx)
}
