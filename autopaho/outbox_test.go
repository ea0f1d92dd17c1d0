package autopaho_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/sqlite"
	"github.com/oncemq/oncemq/qos"
)

func sqliteStore(t *testing.T, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(within(t, 10*time.Second), path, sqlite.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

// EnqueueTx: the message exists if and only if the caller's transaction commits.
func TestEnqueueTxFollowsTheTransaction(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	ctx := within(t, 20*time.Second)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "app.db")+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	_, err = db.ExecContext(ctx, "CREATE TABLE orders (id TEXT)")
	require.NoError(t, err)
	store, err := sqlite.New(ctx, db, sqlite.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store})

	order := func(id string, commit bool) *autopaho.Enqueued {
		tx, err := db.BeginTx(ctx, nil)
		require.NoError(t, err)
		_, err = tx.ExecContext(ctx, "INSERT INTO orders VALUES (?)", id)
		require.NoError(t, err)
		q, err := c.EnqueueTx(ctx, store.WithTx(tx), autopaho.Message{ID: id, Topic: "orders", Payload: []byte(id)})
		require.NoError(t, err)
		if commit {
			require.NoError(t, tx.Commit())
		} else {
			require.NoError(t, tx.Rollback())
		}
		return q
	}
	for i := range 20 {
		order("ghost-"+strconv.Itoa(i), false)
		q := order("real-"+strconv.Itoa(i), true)
		c.Wake()
		_, err := q.Wait(ctx)
		require.NoError(t, err)
	}
	arrivals := b.FirstArrivals("orders")
	require.Len(t, arrivals, 20)
	for i, a := range arrivals {
		require.Equal(t, "real-"+strconv.Itoa(i), string(a.Packet.Payload))
	}
}

// Two processes on one file: who holds the lane delivers for both, and the
// other learns it from the store. When the holder closes, the other takes over.
func TestTwoClientsShareAStore(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{TellNoSubscribers: true})
	ctx := within(t, 30*time.Second)
	path := filepath.Join(t.TempDir(), "outbox.db")
	first := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: sqliteStore(t, path)})
	q, err := first.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	results, err := q.Wait(ctx)
	require.NoError(t, err)
	require.True(t, results[0].NoSubscribers())

	second := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: sqliteStore(t, path)})
	q, err = second.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	results, err = q.Wait(ctx)
	require.NoError(t, err)
	require.NoError(t, results[0].Err())
	require.Empty(t, second.Status(ctx).Lanes)

	require.NoError(t, first.Close(ctx))
	handedOver := time.Now()
	q, err = second.Enqueue(ctx, autopaho.Message{Topic: "a"})
	require.NoError(t, err)
	_, err = q.Wait(ctx)
	require.NoError(t, err)
	require.Less(t, time.Since(handedOver), 2*time.Second)
	require.Equal(t, []int{0}, second.Status(ctx).Lanes)
	require.NoError(t, err)
	require.Len(t, b.FirstArrivals("a"), 3)
}

// A message whose time passed while the broker was away is not sent, and says
// so; what is left of the time is sent with the others.
func TestExpiryCountsWhileStored(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := memoryStore(t)
	ctx := within(t, 20*time.Second)
	offline, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true},
	})
	require.NoError(t, err)
	_, err = offline.Enqueue(ctx,
		autopaho.Message{Topic: "short", Expiry: time.Millisecond},
		autopaho.Message{Topic: "long", Expiry: time.Hour})
	require.NoError(t, err)
	require.NoError(t, offline.Close(ctx))
	<-time.After(5 * time.Millisecond) // the store's clock is the wall's

	c := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store})
	require.NoError(t, b.WaitFirstArrivals(ctx, 1))
	require.Eventually(t, func() bool {
		st, err := store.Stats(ctx)
		return err == nil && st.Expired == 1 && st.Pending == 0
	}, 10*time.Second, time.Millisecond)
	require.Empty(t, b.FirstArrivals("short"))
	long := b.FirstArrivals("long")
	require.Len(t, long, 1)
	require.EqualValues(t, 1, c.Counters().Expired)
}

// A message that comes from elsewhere keeps its identity, and is accepted once.
func TestEnqueueIsIdempotentByID(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := memoryStore(t)
	ctx := within(t, 20*time.Second)
	c, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true},
	})
	require.NoError(t, err)
	m := autopaho.Message{Topic: "a"}
	m.Properties.User = []autopaho.UserProperty{{Name: autopaho.PropertyMessageID, Value: "order-1"}, {Name: "k", Value: "v"}}
	for i := range 3 {
		q, err := c.Enqueue(ctx, m)
		require.NoError(t, err)
		require.Equal(t, "order-1", q.ID())
		require.Equal(t, i > 0, q.Refs()[0].Duplicate)
	}
	require.NoError(t, c.Close(ctx))
	st, err := store.Stats(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 1, st.Pending)
	_, err = c.Enqueue(ctx, m)
	require.ErrorIs(t, err, autopaho.ErrClosed)
}

func TestEnqueueRefusesBadMessages(t *testing.T) {
	t.Parallel()
	c := client(t, autopaho.Config{
		Servers: []string{"mqtt://127.0.0.1:1"}, Store: memoryStore(t), MaxPayload: 10,
		Relay: autopaho.RelayConfig{Off: true},
	})
	for name, bad := range map[string]struct {
		m    autopaho.Message
		says string
	}{
		"empty topic":     {autopaho.Message{}, "topic"},
		"wildcard":        {autopaho.Message{Topic: "a/#"}, "topic"},
		"invalid UTF-8":   {autopaho.Message{Topic: "a\xff"}, "topic"},
		"NUL":             {autopaho.Message{Topic: "a\x00"}, "topic"},
		"long topic":      {autopaho.Message{Topic: string(make([]byte, 65536))}, "topic"},
		"QoS 3":           {autopaho.Message{Topic: "a", QoS: 3}, "QoS"},
		"payload":         {autopaho.Message{Topic: "a", Payload: make([]byte, 11)}, "payload"},
		"negative expiry": {autopaho.Message{Topic: "a", Expiry: -1}, "expiry"},
		"negative delay":  {autopaho.Message{Topic: "a", Delay: -1}, "delay"},
		"message ID":      {autopaho.Message{Topic: "a", ID: string(make([]byte, 129))}, "message ID"},
		"property": {autopaho.Message{Topic: "a", Properties: persist.Properties{
			User: []autopaho.UserProperty{{Name: "n", Value: "\xff"}},
		}}, "user property"},
		"response topic": {autopaho.Message{Topic: "a", Properties: persist.Properties{ResponseTopic: "r/+"}}, "response topic"},
		"receipt with response topic": {autopaho.Message{
			Topic: "a", Receipt: true, Properties: persist.Properties{ResponseTopic: "r"},
		}, "receipt"},
	} {
		_, err := c.Enqueue(t.Context(), autopaho.Message{Topic: "good"}, bad.m)
		require.ErrorIs(t, err, autopaho.ErrInvalidMessage, name)
		require.ErrorContains(t, err, bad.says, name)
		require.ErrorContains(t, err, "message 2 of 2", name)
	}
	st := c.Status(t.Context())
	require.Zero(t, st.Outbox.Pending, "half of a refused call was stored")
}

// A full outbox refuses, or drops the oldest of what may be dropped, as the
// policy says.
func TestFullOutbox(t *testing.T) {
	t.Parallel()
	ctx := within(t, 10*time.Second)
	s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "o.db"), sqlite.Options{MaxMessages: 10})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	c := client(t, autopaho.Config{
		Servers: []string{"mqtt://127.0.0.1:1"}, Store: s, Relay: autopaho.RelayConfig{Off: true},
		Policies: qos.Policies{Rules: []qos.Rule{{Filter: "telemetry/#", Policy: qos.Policy{WhenFull: qos.DropOldest}}}},
	})
	for i := range 15 {
		_, err := c.Enqueue(ctx, autopaho.Message{Topic: fmt.Sprintf("telemetry/%d", i)})
		require.NoError(t, err)
	}
	_, err = c.Enqueue(ctx, autopaho.Message{Topic: "order"})
	require.ErrorIs(t, err, persist.ErrOutboxFull)
	st, err := s.Stats(ctx)
	require.NoError(t, err)
	require.EqualValues(t, 10, st.Pending)
	require.EqualValues(t, 5, st.Dropped)
}
