package autopaho_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
	"github.com/oncemq/oncemq/qos"
)

// ingest is a subscription that takes many messages at once, and what it did.
type ingest struct {
	// judge, if set, fails the call that it is called in, for a message.
	judge func(ctx context.Context, m *autopaho.Received) error
	db    *sql.DB // of transactional mode

	eff *effects

	mu    sync.Mutex
	sizes []int
}

// ingestModes are the ways to handle batches: by their store.
func ingestModes() []string { return []string{"no store", "memory", "sqlite", "transaction"} }

// start subscribes to in/# with at most 50 messages in a batch.
func (g *ingest) start(t *testing.T, ctx context.Context, b *brokertest.Broker, mode string, cfg autopaho.SubscribeConfig) *autopaho.Client {
	t.Helper()
	g.eff = newEffects()
	var store persist.Store
	switch mode {
	case "memory":
		store = memoryStore(t)
	case "sqlite":
		store = sqliteStore(t, filepath.Join(t.TempDir(), "store.db"))
	case "transaction":
		path := filepath.Join(t.TempDir(), "store.db")
		store = sqliteStore(t, path)
		g.db = effectsIn(t, path)
	}
	return g.startOn(t, ctx, b, store, cfg)
}

// effectsIn makes a table for effects beside a store.
func effectsIn(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = db.ExecContext(t.Context(), "CREATE TABLE effects (n INTEGER PRIMARY KEY, id TEXT)")
	require.NoError(t, err)
	return db
}

func (g *ingest) startOn(t *testing.T, ctx context.Context, b *brokertest.Broker, store persist.Store, cfg autopaho.SubscribeConfig) *autopaho.Client {
	t.Helper()
	cfg.Filters = []string{"in/#"}
	if store != nil {
		cfg.Group = "g"
	}
	if cfg.MaxBatch == 0 {
		cfg.MaxBatch = 50
	}
	if g.db != nil {
		cfg.TxHandler = autopaho.BatchInTx(g.inTx)
	} else {
		cfg.BatchHandler = g.handle
	}
	c := client(t, autopaho.Config{
		Servers: []string{b.URL()}, ClientID: "ingest", Store: store, Relay: autopaho.RelayConfig{Off: true}, ReceiveMaximum: 120,
	})
	_, err := c.Subscribe(ctx, cfg)
	require.NoError(t, err)
	return c
}

func (g *ingest) noted(ctx context.Context, msgs []*autopaho.Received) error {
	g.mu.Lock()
	g.sizes = append(g.sizes, len(msgs))
	g.mu.Unlock()
	if g.judge == nil {
		return nil
	}
	for _, m := range msgs {
		if err := g.judge(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func (g *ingest) handle(ctx context.Context, msgs []*autopaho.Received) error {
	if err := g.noted(ctx, msgs); err != nil {
		return err
	}
	for _, m := range msgs {
		if err := g.eff.handle(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// inTx writes before it judges, so that there is something to undo.
func (g *ingest) inTx(ctx context.Context, tx *sql.Tx, msgs []*autopaho.Received) error {
	for _, m := range msgs {
		if err := insertEffect(ctx, tx, m); err != nil {
			return err
		}
	}
	return g.noted(ctx, msgs)
}

// all waits for n different effects and returns their IDs in order, of which
// none may be there twice.
func (g *ingest) all(t *testing.T, ctx context.Context, n int) []string {
	t.Helper()
	if g.db == nil {
		g.eff.waitFor(t, ctx, n)
		g.eff.requireOnce(t)
		g.eff.mu.Lock()
		defer g.eff.mu.Unlock()
		return append([]string(nil), g.eff.order...)
	}
	var ids []string
	require.Eventually(t, func() bool {
		ids = nil
		rows, err := g.db.QueryContext(ctx, "SELECT id FROM effects ORDER BY n")
		require.NoError(t, err)
		defer func() { require.NoError(t, rows.Close()) }()
		for rows.Next() {
			var id string
			require.NoError(t, rows.Scan(&id))
			ids = append(ids, id)
		}
		require.NoError(t, rows.Err())
		return len(ids) >= n
	}, 20*time.Second, 5*time.Millisecond)
	require.Len(t, ids, n)
	return ids
}

// send enqueues n messages, whose IDs and payloads are their numbers.
func send(t *testing.T, ctx context.Context, b *brokertest.Broker, from, n int) {
	t.Helper()
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t)})
	msgs := make([]autopaho.Message, n)
	for i := range msgs {
		id := strconv.Itoa(from + i)
		msgs[i] = autopaho.Message{ID: id, Topic: "in/x", Payload: []byte(id)}
	}
	q, err := pub.Enqueue(ctx, msgs...)
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
}

// Batches are full under load, and in the order of arrival; each message is in
// one of them, over connections that are lost.
func TestBatchOrder(t *testing.T) {
	t.Parallel()
	for _, mode := range ingestModes() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			options := brokertest.Options{}
			if mode != "no store" { // without one, what is sent again runs again
				options = brokertest.Options{Seed: 7, DropEvery: brokertest.Range{Min: 300, Max: 600}, DropLimit: 5}
			}
			b := startBroker(t, options)
			ctx := within(t, 60*time.Second)
			g := new(ingest)
			g.start(t, ctx, b, mode, autopaho.SubscribeConfig{})
			const n = 3000
			send(t, ctx, b, 0, n)
			ids := g.all(t, ctx, n)
			if options.DropLimit == 0 {
				for i, id := range ids {
					require.Equal(t, strconv.Itoa(i), id)
				}
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			largest := 0
			for _, size := range g.sizes {
				largest = max(largest, size)
			}
			require.LessOrEqual(t, largest, 50)
			require.Greater(t, largest, 10)
		})
	}
}

// Messages that make a batch fail are found, tried again by the policy and become
// dead letters; the others are processed, each once.
func TestBatchPoison(t *testing.T) {
	t.Parallel()
	for _, mode := range ingestModes() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			ctx := within(t, 60*time.Second)
			var mu sync.Mutex
			alone := map[string][]int{} // the attempts of those that fail, as the handler was told
			g := new(ingest)
			g.judge = func(_ context.Context, m *autopaho.Received) error {
				mu.Lock()
				defer mu.Unlock()
				fails := map[string]error{
					"33": errors.New("cannot"), "66": autopaho.Permanent(errors.New("never")), "70": errors.New("panic"),
				}[m.ID]
				if fails == nil {
					return nil
				}
				alone[m.ID] = append(alone[m.ID], m.Attempt)
				if m.ID == "70" {
					panic("boom")
				}
				return fails
			}
			c := g.start(t, ctx, b, mode, autopaho.SubscribeConfig{
				Attempts: 3, Backoff: qos.Backoff{Initial: time.Millisecond, Max: time.Millisecond},
			})
			send(t, ctx, b, 0, 100)
			ids := g.all(t, ctx, 97)
			require.NotContains(t, ids, "33")
			require.NotContains(t, ids, "66")
			require.NotContains(t, ids, "70")
			require.Eventually(t, func() bool {
				s := c.Counters()
				return s.Dead == 3 && s.Processed == 97 && c.Status(ctx).Connections[0].Unacked == 0
			}, 10*time.Second, 5*time.Millisecond)
			mu.Lock()
			last := map[string]int{}
			for id, attempts := range alone {
				last[id] = attempts[len(attempts)-1]
			}
			mu.Unlock()
			require.Equal(t, map[string]int{"33": 3, "66": 1, "70": 3}, last, "attempts")
			// What comes afterwards is not held up.
			send(t, ctx, b, 100, 100)
			g.all(t, ctx, 197)
		})
	}
}

// One message twice in a batch is one message.
func TestBatchDuplicates(t *testing.T) {
	t.Parallel()
	for _, mode := range ingestModes()[1:] {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			ctx := within(t, 30*time.Second)
			g := new(ingest)
			c := g.start(t, ctx, b, mode, autopaho.SubscribeConfig{MaxBatch: 40, MaxWait: 10 * time.Second})
			pub := client(t, autopaho.Config{Servers: []string{b.URL()}})
			for i := range 60 {
				_, err := pub.Publish(ctx, autopaho.Message{ID: strconv.Itoa(i % 20), Topic: "in/x", Payload: []byte(strconv.Itoa(i % 20)), QoS: 1})
				require.NoError(t, err)
			}
			require.Eventually(t, func() bool { return c.Counters().Received == 60 }, 10*time.Second, time.Millisecond)
			require.NoError(t, c.Close(ctx)) // ends the waiting for a full batch
			g.all(t, ctx, 20)
			s := c.Counters()
			require.EqualValues(t, 20, s.Processed)
			require.EqualValues(t, 40, s.Duplicates)
		})
	}
}

// A batch that is not full is handed over after MaxWait, and at once when the
// client closes.
func TestBatchWait(t *testing.T) {
	t.Parallel()
	for _, mode := range ingestModes() {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			ctx := within(t, 30*time.Second)
			g := new(ingest)
			g.start(t, ctx, b, mode, autopaho.SubscribeConfig{})
			send(t, ctx, b, 0, 3)
			g.all(t, ctx, 3)

			b2 := startBroker(t, brokertest.Options{})
			g2 := new(ingest)
			c := g2.start(t, ctx, b2, mode, autopaho.SubscribeConfig{MaxWait: time.Minute})
			send(t, ctx, b2, 0, 7)
			require.Eventually(t, func() bool { return c.Unsettled() == 7 }, 10*time.Second, time.Millisecond)
			require.Zero(t, c.Counters().Processed)
			require.NoError(t, c.Close(ctx))
			g2.all(t, ctx, 7)
			require.EqualValues(t, 7, c.Counters().Processed)
		})
	}
}

// A handler that is not done in time fails; one that gives its batch back has all
// of it again, on the next connection.
func TestBatchTimeoutAndRelease(t *testing.T) {
	t.Parallel()
	for _, mode := range ingestModes() {
		for _, way := range []string{"timeout", "release"} {
			t.Run(mode+"/"+way, func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, brokertest.Options{})
				ctx := within(t, 30*time.Second)
				var once sync.Once
				g := new(ingest)
				g.judge = func(ctx context.Context, _ *autopaho.Received) (err error) {
					once.Do(func() {
						if way == "release" {
							err = autopaho.ErrRelease
							return
						}
						<-ctx.Done()
						err = ctx.Err()
					})
					return err
				}
				cfg := autopaho.SubscribeConfig{MaxWait: 50 * time.Millisecond}
				if way == "timeout" {
					cfg.HandlerTimeout = 100 * time.Millisecond
				}
				c := g.start(t, ctx, b, mode, cfg)
				send(t, ctx, b, 0, 30)
				g.all(t, ctx, 30)
				require.Eventually(t, func() bool { return c.Unsettled() == 0 }, 10*time.Second, time.Millisecond)
				if way == "release" {
					require.Positive(t, c.Counters().Received-30, "nothing came again")
				}
			})
		}
	}
}

// Whatever call of the store fails, each message of a batch has one effect.
func TestBatchWithFailingStore(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"memory", "transaction"} {
		ops := []persisttest.Op{persisttest.OpTime, persisttest.OpClaim, persisttest.OpComplete}
		if mode == "transaction" {
			ops = []persisttest.Op{persisttest.OpTime, persisttest.OpProcessTx, persisttest.OpProcessBegin, persisttest.OpProcessStep}
		}
		for _, op := range ops {
			for _, failure := range modes() {
				for n := 1; n <= 3; n++ {
					t.Run(fmt.Sprintf("%s/%s/%s/%d", mode, op, failure, n), func(t *testing.T) {
						t.Parallel()
						b := startBroker(t, brokertest.Options{})
						ctx := within(t, 30*time.Second)
						g := &ingest{eff: newEffects()}
						inner := memoryStore(t)
						if mode == "transaction" {
							path := filepath.Join(t.TempDir(), "store.db")
							inner = sqliteStore(t, path)
							g.db = effectsIn(t, path)
						}
						store, _ := persisttest.NewFaulty(inner, persisttest.Fault{Op: op, N: n, Times: 2, Mode: failure})
						c := g.startOn(t, ctx, b, store, autopaho.SubscribeConfig{Lease: time.Second, MaxBatch: 10})
						send(t, ctx, b, 0, 60)
						g.all(t, ctx, 60)
						require.Eventually(t, func() bool { return c.Unsettled() == 0 }, 20*time.Second, 5*time.Millisecond)
						g.all(t, ctx, 60)
					})
				}
			}
		}
	}
}

func TestBatchConfig(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 10*time.Second)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: sqliteStore(t, filepath.Join(t.TempDir(), "store.db"))})
	one := func(context.Context, *autopaho.Received) error { return nil }
	many := func(context.Context, []*autopaho.Received) error { return nil }
	inTx := autopaho.InTx(func(context.Context, *sql.Tx, *autopaho.Received) error { return nil })
	for field, cfg := range map[string]autopaho.SubscribeConfig{
		"Handler: give one":    {Handler: one, BatchHandler: many},
		"Handler: give one of": {},
		"MaxBatch: means":      {Handler: one, MaxBatch: 10},
		"MaxBatch: 10001":      {BatchHandler: many, MaxBatch: 10_001},
		"MaxWait: means":       {Group: "g", TxHandler: inTx, MaxWait: 10},
		"MaxWait: 2m":          {BatchHandler: many, MaxWait: 2 * time.Minute},
		"Workers: 2":           {BatchHandler: many, Workers: 2},
		"TxHandler: needs a Group": {
			TxHandler: inTx,
		},
		"TxHandler: is made of a nil function": {
			Group: "g", TxHandler: autopaho.BatchInTx[*sql.Tx](nil),
		},
		"TxHandler: wants a transaction of type *sql.Conn, and the store has none": {
			Group: "g", TxHandler: autopaho.InTx(func(context.Context, *sql.Conn, *autopaho.Received) error { return nil }),
		},
	} {
		cfg.Filters = []string{"a"}
		_, err := c.Subscribe(ctx, cfg)
		require.ErrorIs(t, err, autopaho.ErrConfig, field)
		require.ErrorContains(t, err, field)
	}
	plain := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: memoryStore(t)})
	_, err := plain.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Group: "g", TxHandler: inTx})
	require.ErrorContains(t, err, "TxHandler: wants a transaction of type *sql.Tx")
}

// The outbox of another store is refused, and so is none.
func TestEnqueueTxOfAnotherStore(t *testing.T) {
	t.Parallel()
	ctx := within(t, 10*time.Second)
	dir := t.TempDir()
	ours, theirs := sqliteStore(t, filepath.Join(dir, "ours.db")), sqliteStore(t, filepath.Join(dir, "theirs.db"))
	c := client(t, autopaho.Config{Servers: []string{"mqtt://127.0.0.1:1"}, Store: ours, Relay: autopaho.RelayConfig{Off: true}})
	_, err := c.EnqueueTx(ctx, theirs.WithTx(nil), autopaho.Message{Topic: "a"})
	require.ErrorIs(t, err, autopaho.ErrConfig)
	require.ErrorContains(t, err, theirs.Identity())
	_, err = c.EnqueueTx(ctx, nil, autopaho.Message{Topic: "a"})
	require.ErrorIs(t, err, autopaho.ErrConfig)
	bare := client(t, autopaho.Config{Servers: []string{"mqtt://127.0.0.1:1"}})
	_, err = bare.EnqueueTx(ctx, ours.WithTx(nil), autopaho.Message{Topic: "a"})
	require.ErrorIs(t, err, autopaho.ErrNoStore)
}
