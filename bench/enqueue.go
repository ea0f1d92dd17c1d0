package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemq/oncemq/autopaho"
)

func (b *bench) enqueuers() []contender {
	var cs []contender
	for _, kind := range []string{"sqlite", "postgres", "redis"} {
		cs = append(cs,
			contender{kind + ": 64 goroutines, one each", 100_000, b.enqueue(kind, 64, 1)},
			contender{kind + ": 1 goroutine, one each", 3_000, b.enqueue(kind, 1, 1)},
			contender{kind + ": 1 goroutine, 500 each", 100_000, b.enqueue(kind, 1, 500)})
	}
	return cs
}

// enqueue measures Enqueue alone: the relay is off.
func (b *bench) enqueue(kind string, goroutines, batch int) func(context.Context, options, int) (time.Duration, error) {
	return func(ctx context.Context, o options, n int) (time.Duration, error) {
		p, err := b.stores.open(ctx, kind)
		if err != nil {
			return 0, err
		}
		defer p.remove()
		store := p.store
		c, err := autopaho.New(ctx, autopaho.Config{
			Servers: []string{o.broker}, Store: store, Relay: autopaho.RelayConfig{Off: true},
		})
		if err != nil {
			return 0, err
		}
		defer c.Close(ctx)
		body := payload(o.size)
		var left atomic.Int64
		left.Store(int64(n))
		var failed atomic.Pointer[error]
		var wg sync.WaitGroup
		start := time.Now()
		for range goroutines {
			wg.Go(func() {
				msgs := make([]autopaho.Message, batch)
				for i := range msgs {
					msgs[i] = autopaho.Message{Topic: "bench/a", Payload: body}
				}
				for left.Add(-int64(batch)) >= 0 {
					if _, err := c.Enqueue(ctx, msgs...); err != nil {
						failed.Store(&err)
						return
					}
				}
			})
		}
		wg.Wait()
		if err := failed.Load(); err != nil {
			return 0, *err
		}
		return time.Since(start), nil
	}
}
