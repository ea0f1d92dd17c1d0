package demo

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/sqlite"
	"github.com/oncemq/oncemq/qos"
)

// publisher is the demo's publisher: a client with an outbox on SQLite, and the
// list of what was accepted.
type publisher struct {
	store   persist.Store
	client  *autopaho.Client
	receipt bool

	mu           sync.Mutex // guards the following
	ids          []string   // what Enqueue has accepted
	delivered    map[string]struct{}
	acknowledged map[string]struct{}
}

func newPublisher(ctx context.Context, server string, o *Options) (*publisher, error) {
	p := &publisher{
		receipt:   !o.Sabotage.Receipts,
		delivered: make(map[string]struct{}, o.Messages), acknowledged: make(map[string]struct{}, o.Messages),
	}
	store, err := sqlite.Open(ctx, outboxFile(o.Folder), sqlite.Options{})
	if err != nil {
		return nil, err
	}
	p.store = store
	p.client, err = autopaho.New(ctx, autopaho.Config{
		Servers: []string{server}, Store: store, OnEvent: p.event,
		// Receipts are many and small; mochi loses count of what it may send
		// where packet identifiers of both directions meet.
		ReceiveMaximum: 1<<16 - 1,
		Policies:       qos.Policies{Default: qos.Policy{ReceiptTimeout: o.ReceiptTimeout}},
	})
	if err != nil {
		return nil, errors.Join(err, store.Close(context.WithoutCancel(ctx)))
	}
	return p, nil
}

// event takes down what the broker and the consumers have acknowledged.
func (p *publisher) event(e autopaho.Event) {
	switch e.Kind {
	case autopaho.EventDelivered:
		p.mu.Lock()
		p.delivered[e.MessageID] = struct{}{}
		p.mu.Unlock()
	case autopaho.EventAcknowledged:
		p.mu.Lock()
		p.acknowledged[e.MessageID] = struct{}{}
		p.mu.Unlock()
	default:
	}
}

// keys is how many ordering keys the messages have.
const keys = 16

// enqueue stores the next n messages.
func (p *publisher) enqueue(ctx context.Context, n int) error {
	first := p.accepted()
	msgs := make([]autopaho.Message, n)
	for i := range msgs {
		number := first + i
		msgs[i] = autopaho.Message{
			Topic:   topicPrefix + strconv.Itoa(number%keys),
			Payload: []byte("order " + strconv.Itoa(number)),
			Receipt: p.receipt,
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

// accepted is how many messages Enqueue has accepted.
func (p *publisher) accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ids)
}

// counts are how many messages were delivered and acknowledged.
func (p *publisher) counts() (delivered, acknowledged int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.delivered), len(p.acknowledged)
}

// countDelivered is how many of the messages the broker has acknowledged.
func (p *publisher) countDelivered(ids []string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, id := range ids {
		if _, ok := p.delivered[id]; ok {
			n++
		}
	}
	return n
}

// open is how many messages the outbox still has.
func (p *publisher) open(ctx context.Context) (int, error) {
	s, err := p.store.Stats(ctx)
	if err != nil {
		return 0, err
	}
	return int(s.Pending + s.Delivered), nil
}

// close ends the client and the store. What the client does not get done is
// still in the outbox, and no error.
func (p *publisher) close(ctx context.Context) error {
	err := p.client.Close(ctx)
	return errors.Join(err, p.store.Close(context.WithoutCancel(ctx)))
}
