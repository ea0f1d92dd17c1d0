package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
)

// drains work off what waits in PostgreSQL: our outbox to the broker, River's
// jobs to a worker that does nothing.
func (b *bench) drains() []contender {
	return []contender{
		{"oncemq outbox to broker", 100_000, b.drainOutbox("postgres")},
		{"river no-op jobs", 100_000, b.drainRiver},
	}
}

// drainOutbox counts from the start of the client until the outbox is empty.
func (b *bench) drainOutbox(kind string) func(context.Context, options, int) (time.Duration, error) {
	return func(ctx context.Context, o options, n int) (time.Duration, error) {
		p, err := b.stores.open(ctx, kind)
		if err != nil {
			return 0, err
		}
		defer p.remove()
		store := p.store
		if err := fillStore(ctx, store, o, n); err != nil {
			return 0, err
		}
		start := time.Now()
		c, err := autopaho.New(ctx, autopaho.Config{Servers: []string{o.broker}, Store: store})
		if err != nil {
			return 0, err
		}
		defer c.Close(ctx)
		if err := untilEmpty(ctx, store); err != nil {
			return 0, err
		}
		took := time.Since(start)
		if s := c.Counters(); s.Delivered != uint64(n) || s.Failed != 0 {
			return 0, fmt.Errorf("%d delivered of %d", s.Delivered, n)
		}
		return took, nil
	}
}

// fillStore enqueues n messages with nobody to send them.
func fillStore(ctx context.Context, store persist.Store, o options, n int) error {
	body := payload(o.size)
	for i := 0; i < n; i += 1000 {
		msgs := make([]persist.Message, min(1000, n-i))
		for j := range msgs {
			msgs[j] = persist.Message{ID: uuid.Must(uuid.NewV7()).String(), Topic: "bench/a", QoS: 1, Payload: body}
		}
		if _, err := store.Enqueue(ctx, msgs); err != nil {
			return err
		}
	}
	return nil
}

func untilEmpty(ctx context.Context, store persist.Store) error {
	for {
		st, err := store.Stats(ctx)
		if err != nil {
			return err
		}
		if st.Pending == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// job is one of River's, as large as our message.
type job struct {
	Payload []byte `json:"payload"`
}

// Kind implements river.JobArgs.
func (job) Kind() string { return "bench" }

// worker does nothing but count.
type worker struct {
	river.WorkerDefaults[job]
	left atomic.Int64
	done chan struct{}
}

// Work implements river.Worker.
func (w *worker) Work(context.Context, *river.Job[job]) error {
	if w.left.Add(-1) == 0 {
		close(w.done)
	}
	return nil
}

// drainRiver counts from the start of River's client until all jobs have run
// and are completed in the database.
func (b *bench) drainRiver(ctx context.Context, o options, n int) (time.Duration, error) {
	url, err := b.stores.postgresURL(ctx)
	if err != nil {
		return 0, err
	}
	schema := "river_" + strings.ReplaceAll(uuid.NewString()[:13], "-", "")
	if err := execSQL(ctx, url, "CREATE SCHEMA "+schema); err != nil {
		return 0, err
	}
	defer func() { _ = execSQL(context.Background(), url, "DROP SCHEMA "+schema+" CASCADE") }()
	pool, err := pgxpool.New(ctx, withQuery(url, "pool_max_conns=10"))
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	driver := riverpgxv5.New(pool)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Schema: schema})
	if err != nil {
		return 0, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return 0, err
	}
	w := &worker{done: make(chan struct{})}
	w.left.Store(int64(n))
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	client, err := river.NewClient(driver, &river.Config{
		Schema: schema, Workers: workers,
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 2000}},
	})
	if err != nil {
		return 0, err
	}
	body := payload(o.size)
	for i := 0; i < n; i += 1000 {
		params := make([]river.InsertManyParams, min(1000, n-i))
		for j := range params {
			params[j] = river.InsertManyParams{Args: job{Payload: body}}
		}
		if _, err := client.InsertManyFast(ctx, params); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	if err := client.Start(ctx); err != nil {
		return 0, err
	}
	defer func() { _ = client.Stop(context.Background()) }()
	if err := await(ctx, w.done); err != nil {
		return 0, err
	}
	for {
		left, err := riverLeft(ctx, pool, schema)
		if err != nil || left == 0 {
			return time.Since(start), err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func riverLeft(ctx context.Context, pool *pgxpool.Pool, schema string) (int, error) {
	rows, err := pool.Query(ctx, "SELECT count(*) FROM "+schema+".river_job WHERE state <> 'completed'")
	if err != nil {
		return 0, err
	}
	return pgx.CollectOneRow(rows, pgx.RowTo[int])
}
