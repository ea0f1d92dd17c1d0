package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/load"
	"github.com/oncemq/oncemq/persist"
)

// What oncemq bench pub does unless told otherwise.
const (
	measuredBatch    = 100 // messages in an Enqueue
	measuredAhead    = 16  // such batches that wait for the broker
	measuredInFlight = 32  // calls of Publish without a store
)

// unmeasured is publishing as oncemq bench pub does it, without its measuring.
const unmeasured = "not measured"

// measured are a publisher and what oncemq bench pub makes of it: a header in each
// payload, two histograms to which each message is added, and a look at them every
// second. With a store, or with none.
func (b *bench) measured(durable bool) []contender {
	with := func(publish func(context.Context, options, persist.Store, int) (time.Duration, error)) func(context.Context, options, int) (time.Duration, error) {
		return func(ctx context.Context, o options, n int) (time.Duration, error) {
			if !durable {
				return publish(ctx, o, nil, n)
			}
			p, err := b.stores.open(ctx, "sqlite")
			if err != nil {
				return 0, err
			}
			defer p.remove()
			return publish(ctx, o, p.store, n)
		}
	}
	plain := publishPlain
	if durable {
		plain = publishBatches
	}
	return []contender{
		{unmeasured, 100_000, with(plain)},
		{"oncemq bench pub", 100_000, with(publishMeasured)},
	}
}

// publishMeasured counts what oncemq bench pub counts: from the first message until the
// last one is delivered.
func publishMeasured(ctx context.Context, o options, store persist.Store, n int) (time.Duration, error) {
	r, err := load.RunPublish(ctx, load.Config{
		Broker: autopaho.Config{Servers: []string{o.broker}}, Store: store, Topic: "bench", QoS: byte(o.qos), Size: o.size,
		Count: int64(n), Batch: measuredBatch, InFlight: measuredInFlight, Observe: func(load.Progress) {},
	})
	if err != nil {
		return 0, err
	}
	p := r.Phase("delivered")
	if p.Messages != int64(n) {
		return 0, fmt.Errorf("%d delivered of %d", p.Messages, n)
	}
	return time.Duration(p.Seconds * float64(time.Second)), nil
}

// connected is a client that has published something.
func connected(ctx context.Context, o options, store persist.Store) (*autopaho.Client, error) {
	c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{o.broker}, Store: store})
	if err != nil {
		return nil, err
	}
	warm := autopaho.Message{Topic: "bench/warm", QoS: byte(o.qos)}
	if store == nil {
		_, err = c.Publish(ctx, warm)
		return c, err
	}
	q, err := c.Enqueue(ctx, warm)
	if err == nil {
		_, err = q.Wait(ctx)
	}
	return c, err
}

// publishBatches enqueues, and has so many batches wait for the broker.
func publishBatches(ctx context.Context, o options, store persist.Store, n int) (time.Duration, error) {
	c, err := connected(ctx, o, store)
	if err != nil {
		return 0, err
	}
	defer c.Close(ctx)
	batches := make(chan *autopaho.Enqueued, measuredAhead)
	waited := make(chan error, 1)
	start := time.Now()
	go func() {
		var failed error
		for q := range batches {
			if _, err := q.Wait(ctx); err != nil {
				failed = err
			}
		}
		waited <- failed
	}()
	msgs := make([]autopaho.Message, 0, measuredBatch)
	for sent := 0; sent < n && err == nil; sent += len(msgs) {
		msgs = msgs[:0]
		arena := make([]byte, measuredBatch*o.size) // each has a payload of its own
		for range min(measuredBatch, n-sent) {
			msgs = append(msgs, autopaho.Message{Topic: "bench/0", QoS: byte(o.qos), Payload: arena[:o.size:o.size]})
			arena = arena[o.size:]
		}
		var q *autopaho.Enqueued
		if q, err = c.Enqueue(ctx, msgs...); err == nil {
			batches <- q
		}
	}
	close(batches)
	if failed := <-waited; err == nil {
		err = failed
	}
	return time.Since(start), err
}

// publishPlain publishes from several goroutines, each of which waits for the broker.
func publishPlain(ctx context.Context, o options, _ persist.Store, n int) (time.Duration, error) {
	c, err := connected(ctx, o, nil)
	if err != nil {
		return 0, err
	}
	defer c.Close(ctx)
	errs := make([]error, measuredInFlight)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range errs {
		share := n / measuredInFlight
		if i < n%measuredInFlight {
			share++
		}
		wg.Go(func() {
			body := payload(o.size)
			for range share {
				call, cancel := context.WithTimeout(ctx, 10*time.Second)
				_, err := c.Publish(call, autopaho.Message{Topic: "bench/0", QoS: byte(o.qos), Payload: body})
				cancel()
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return took, nil
}
