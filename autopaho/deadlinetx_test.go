package autopaho_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// stuckInTx is a subscription in transactional mode, whose transactions are a T, with
// a message that it does not return from.
type stuckInTx[T any] struct {
	exec  func(ctx context.Context, tx T, statement, id string) error
	leave chan struct{}
	late  chan error   // what a stuck handler got when it went on
	began atomic.Int64 // stuck handlers
}

// handle writes an effect before it sticks, and would write another afterwards. It
// heeds no context.
func (s *stuckInTx[T]) handle(_ context.Context, tx T, m *autopaho.Received) error {
	ctx := context.Background()
	if err := s.exec(ctx, tx, "INSERT INTO effects (id) VALUES ($1)", m.ID); err != nil {
		return err
	}
	if string(m.Payload) != "stuck" {
		return nil
	}
	s.began.Add(1)
	<-s.leave
	s.late <- s.exec(ctx, tx, "INSERT INTO effects (id) VALUES ($1)", m.ID+" late")
	return nil
}

func (s *stuckInTx[T]) handleAll(ctx context.Context, tx T, msgs []*autopaho.Received) error {
	for _, m := range msgs {
		if err := s.handle(ctx, tx, m); err != nil {
			return err
		}
	}
	return nil
}

// check has one message among many stick. effects are the IDs in the table.
func (s *stuckInTx[T]) check(t *testing.T, store persist.Store, batch bool, effects func() []string) {
	t.Helper()
	const n, attempts = 30, 2
	ctx := within(t, 60*time.Second)
	s.leave, s.late = make(chan struct{}), make(chan error, 2*attempts)
	b := startBroker(t, brokertest.Options{})
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, ReceiveMaximum: 8, Relay: autopaho.RelayConfig{Off: true}})
	cfg := autopaho.SubscribeConfig{
		Filters: []string{"a"}, Group: "g", HandlerTimeout: 50 * time.Millisecond, Attempts: attempts,
		TxHandler: autopaho.InTx(s.handle),
	}
	if batch {
		cfg.TxHandler = autopaho.BatchInTx(s.handleAll)
	}
	_, err := c.Subscribe(ctx, cfg)
	require.NoError(t, err)
	for i := range n + 1 {
		m := autopaho.Message{ID: strconv.Itoa(i), Topic: "a", QoS: 1, Payload: []byte("x")}
		if i == 1 {
			m.Payload = []byte("stuck")
		}
		_, err := c.Publish(ctx, m)
		require.NoError(t, err)
	}
	eventually(t, func() bool { return c.Counters().Processed == n && c.Counters().Dead == 1 }, 40*time.Second, 5*time.Millisecond, "all others are processed")
	letters := func() []persist.DeadLetter {
		letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
		require.NoError(t, err)
		return letters
	}
	require.Len(t, letters(), 1)
	require.Equal(t, "handler did not return in time", letters()[0].Reason)
	require.Equal(t, "1", letters()[0].Message.ID)
	require.Equal(t, attempts, letters()[0].Attempts)
	stuck := s.began.Load()
	require.GreaterOrEqual(t, stuck, int64(attempts))
	require.Equal(t, stuck, c.Counters().Stuck)

	// They go on, all of them, while another transaction may be under way.
	close(s.leave)
	_, err = c.Publish(ctx, autopaho.Message{ID: "last", Topic: "a", QoS: 1, Payload: []byte("x")})
	require.NoError(t, err)
	for range stuck {
		require.Error(t, <-s.late, "the transaction is still there")
	}
	eventually(t, func() bool { return c.Counters().Stuck == 0 && c.Counters().Processed == n+1 }, 20*time.Second, time.Millisecond, "they return")
	require.EqualValues(t, 1, c.Counters().Dead)
	require.Len(t, letters(), 1)
	want := map[string]int{"last": 1}
	for i := range n + 1 {
		if i != 1 {
			want[strconv.Itoa(i)] = 1
		}
	}
	got := map[string]int{}
	for _, id := range effects() {
		got[id]++
	}
	require.Equal(t, want, got, "each once, and nothing of the stuck one")
}

// A handler that never returned held up everything in transactional mode, with SQLite
// every writer of the store.
func TestStuckHandlerInTransaction(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]bool{"one": false, "batch": true} {
		t.Run("sqlite "+name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "store.db")
			store := sqliteStore(t, path)
			db := effectsIn(t, path)
			s := &stuckInTx[*sql.Tx]{exec: func(ctx context.Context, tx *sql.Tx, statement, id string) error {
				_, err := tx.ExecContext(ctx, statement, id)
				return err
			}}
			s.check(t, store, batch, func() []string {
				rows, err := db.QueryContext(t.Context(), "SELECT id FROM effects")
				require.NoError(t, err)
				defer func() { require.NoError(t, rows.Close()) }()
				var ids []string
				for rows.Next() {
					var id string
					require.NoError(t, rows.Scan(&id))
					ids = append(ids, id)
				}
				require.NoError(t, rows.Err())
				return ids
			})
		})
		t.Run("postgres "+name, func(t *testing.T) {
			t.Parallel()
			url := testenv.SharedPostgres(t).URL()
			conn, err := pgx.Connect(t.Context(), url)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
			_, err = conn.Exec(t.Context(), "CREATE TABLE effects (id TEXT)")
			require.NoError(t, err)
			s := &stuckInTx[pgx.Tx]{exec: func(ctx context.Context, tx pgx.Tx, statement, id string) error {
				_, err := tx.Exec(ctx, statement, id)
				return err
			}}
			s.check(t, opened(t, url+"&max_conns=3"), batch, func() []string {
				rows, err := conn.Query(t.Context(), "SELECT id FROM effects")
				require.NoError(t, err)
				ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
				require.NoError(t, err)
				return ids
			})
		})
	}
}

// What keeps a handler from returning is a statement that heeds no context: PostgreSQL
// is asked to cancel it, so that the locks of its transaction go.
func TestStuckStatementInTransaction(t *testing.T) {
	t.Parallel()
	ctx := within(t, 60*time.Second)
	b := startBroker(t, brokertest.Options{})
	url := testenv.SharedPostgres(t).URL()
	conn, err := pgx.Connect(ctx, url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	_, err = conn.Exec(ctx, "CREATE TABLE one (n INT); INSERT INTO one VALUES (0)")
	require.NoError(t, err)
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: opened(t, url+"&max_conns=3"), Relay: autopaho.RelayConfig{Off: true}})
	_, err = c.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"a"}, Group: "g", HandlerTimeout: 50 * time.Millisecond, Attempts: 1,
		TxHandler: autopaho.InTx(func(ctx context.Context, tx pgx.Tx, m *autopaho.Received) error {
			_, err := tx.Exec(ctx, "UPDATE one SET n = n + 1")
			if string(m.Payload) == "stuck" {
				_, sleep := tx.Exec(context.Background(), "SELECT pg_sleep(3600)")
				err = errors.Join(err, sleep)
			}
			return err
		}),
	})
	require.NoError(t, err)
	for _, payload := range []string{"stuck", "x"} {
		_, err := c.Publish(ctx, autopaho.Message{ID: payload, Topic: "a", QoS: 1, Payload: []byte(payload)})
		require.NoError(t, err)
	}
	eventually(t, func() bool {
		return c.Counters().Processed == 1 && c.Counters().Dead == 1 && c.Counters().Stuck == 0
	}, 30*time.Second, 5*time.Millisecond, "the other is processed")
	var n int
	require.NoError(t, conn.QueryRow(ctx, "SELECT n FROM one").Scan(&n))
	require.Equal(t, 1, n)
}
