package autopaho_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/sqlite"
	"github.com/oncemq/oncemq/qos"
)

// idOf is a message ID that was made at a time.
func idOf(at time.Time) string {
	u := uuid.Must(uuid.NewV7())
	ms := at.UnixMilli()
	for i := range 6 {
		u[i] = byte(ms >> (8 * (5 - i)))
	}
	return u.String()
}

// movable is a clock that a test moves.
type movable struct{ ahead atomic.Int64 }

func (c *movable) now() time.Time        { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *movable) move(by time.Duration) { c.ahead.Add(int64(by)) }

// A message that comes again after its window becomes a dead letter with the
// reason, and its handler does not run; its publisher gets the receipt of a
// failure.
func TestRedeliveryAfterTheWindow(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"leased", "batch", "transaction", "transaction batch"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			ctx := within(t, 30*time.Second)
			clock := new(movable)
			var store persist.Store = memory.New(memory.Options{Clock: clock.now})
			var runs atomic.Int64
			cfg := autopaho.SubscribeConfig{Filters: []string{"a"}, Group: "g", Receipts: true}
			if mode == "transaction" || mode == "transaction batch" {
				s, err := sqlite.Open(ctx, filepath.Join(t.TempDir(), "store.db"), sqlite.Options{Clock: clock.now})
				require.NoError(t, err)
				store = s
			}
			t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
			switch mode {
			case "leased":
				cfg.Handler = func(context.Context, *autopaho.Received) error { runs.Add(1); return nil }
			case "batch":
				cfg.BatchHandler = func(_ context.Context, msgs []*autopaho.Received) error { runs.Add(int64(len(msgs))); return nil }
			case "transaction":
				cfg.TxHandler = autopaho.InTx(func(context.Context, *sql.Tx, *autopaho.Received) error { runs.Add(1); return nil })
			case "transaction batch":
				cfg.TxHandler = autopaho.BatchInTx(func(_ context.Context, _ *sql.Tx, msgs []*autopaho.Received) error {
					runs.Add(int64(len(msgs)))
					return nil
				})
			}
			pub := client(t, autopaho.Config{Servers: []string{b.URL()}})
			m := autopaho.Message{ID: idOf(time.Now()), Topic: "a", QoS: 1}
			m.Properties.ResponseTopic, m.Properties.CorrelationData = "oncemq/receipts/x", []byte(m.ID)
			// deliver has a new replica get the message, and tells its counters.
			deliver := func(m autopaho.Message, told func(autopaho.Event)) autopaho.Counters {
				c := client(t, autopaho.Config{
					Servers: []string{b.URL()}, ClientID: "replica", Store: store,
					Relay: autopaho.RelayConfig{Off: true}, OnEvent: told,
				})
				_, err := c.Subscribe(ctx, cfg)
				require.NoError(t, err)
				_, err = pub.Publish(ctx, m)
				require.NoError(t, err)
				require.Eventually(t, func() bool { return c.Counters().ReceiptsSent == 1 }, 10*time.Second, time.Millisecond)
				require.NoError(t, c.Close(ctx))
				return c.Counters()
			}
			none := func(autopaho.Event) {}
			require.EqualValues(t, 1, deliver(m, none).Processed)
			require.EqualValues(t, 1, deliver(m, none).Duplicates)
			clock.move(25 * time.Hour) // its window is over, but a clock may be behind
			require.EqualValues(t, 1, deliver(m, none).Duplicates)
			clock.move(2 * time.Hour)
			var mu sync.Mutex
			var reason error
			counters := deliver(m, func(e autopaho.Event) {
				if e.Kind == autopaho.EventTooOld {
					mu.Lock()
					reason = e.Err
					mu.Unlock()
				}
			})
			require.EqualValues(t, 1, counters.Dead)
			require.EqualValues(t, 1, counters.TooOld)
			require.EqualValues(t, 1, runs.Load())
			letters, err := store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 10)
			require.NoError(t, err)
			require.Len(t, letters, 1)
			require.Regexp(t, `^older than the dedup window: first sent \S+Z, window 25h0m0s$`, letters[0].Reason)
			require.EqualError(t, reason, letters[0].Reason)
			receipts := b.FirstArrivals("oncemq/receipts/x")
			require.Len(t, receipts, 4)
			status := receipts[3].Packet.Properties.User("receipt")
			require.Equal(t, "dead", status)

			// One that waited for long and says so is new, and so is one that
			// says nothing.
			waited := autopaho.Message{ID: idOf(time.Now().Add(-72 * time.Hour)), Topic: "a", QoS: 1, Properties: m.Properties}
			waited.Properties.User = []autopaho.UserProperty{{
				Name: autopaho.PropertyFirstSent, Value: strconv.FormatInt(clock.now().UnixMilli(), 10),
			}}
			require.EqualValues(t, 1, deliver(waited, none).Processed)
			require.EqualValues(t, 1, deliver(autopaho.Message{ID: "x-1", Topic: "a", QoS: 1, Properties: m.Properties}, none).Processed)
			for _, ahead := range []time.Duration{time.Hour, -time.Hour} {
				m := autopaho.Message{ID: idOf(clock.now().Add(ahead)), Topic: "a", QoS: 1, Properties: m.Properties}
				require.EqualValues(t, 1, deliver(m, none).Processed)
				require.EqualValues(t, 1, deliver(m, none).Duplicates)
			}
			require.EqualValues(t, 5, runs.Load())
		})
	}
}

func TestWindowGoesWithTheSession(t *testing.T) {
	t.Parallel()
	handler := func(context.Context, *autopaho.Received) error { return nil }
	const never = (1<<32 - 1) * time.Second
	// Three attempts of a minute, with a second after each to return and one between.
	retries := func(window time.Duration) autopaho.SubscribeConfig {
		return autopaho.SubscribeConfig{Window: window, Attempts: 3, HandlerTimeout: time.Minute, Backoff: qos.Backoff{Initial: time.Second, Max: time.Second}}
	}
	for name, test := range map[string]struct {
		client autopaho.Config
		cfg    autopaho.SubscribeConfig
		fault  string // empty for none
	}{
		"default":               {autopaho.Config{ClientID: "c"}, autopaho.SubscribeConfig{}, ""},
		"enough":                {autopaho.Config{ClientID: "c", SessionExpiry: time.Hour}, autopaho.SubscribeConfig{Window: time.Hour + 2*time.Second}, ""},
		"a day and a day":       {autopaho.Config{ClientID: "c"}, autopaho.SubscribeConfig{Window: 24 * time.Hour}, "Window: 24h0m0s is shorter than Config.SessionExpiry, 24h0m0s, and the handler's retries"},
		"too short":             {autopaho.Config{ClientID: "c", SessionExpiry: time.Hour}, autopaho.SubscribeConfig{Window: time.Hour}, "use 1h0m2s or more, or a shorter SessionExpiry"},
		"long retries":          {autopaho.Config{ClientID: "c", SessionExpiry: time.Hour}, autopaho.SubscribeConfig{Window: 2 * time.Hour, Attempts: 10, HandlerTimeout: 10 * time.Minute}, "SessionExpiry"},
		"retries too long":      {autopaho.Config{ClientID: "c"}, retries(24*time.Hour + 3*time.Minute), "Window: 24h3m0s is shorter than Config.SessionExpiry, 24h0m0s, and the handler's retries: a message could come when its key is forgotten; use 24h3m5s or more, or a shorter SessionExpiry"},
		"retries that fit":      {autopaho.Config{ClientID: "c"}, retries(24*time.Hour + 3*time.Minute + 5*time.Second), ""},
		"endless retries":       {autopaho.Config{ClientID: "c", SessionExpiry: time.Hour}, autopaho.SubscribeConfig{Window: 2 * time.Hour, Attempts: 1 << 40}, "SessionExpiry"},
		"no group":              {autopaho.Config{ClientID: "c"}, autopaho.SubscribeConfig{Window: time.Hour, Group: "-"}, ""},
		"at most once":          {autopaho.Config{ClientID: "c"}, autopaho.SubscribeConfig{Window: time.Hour, AtMostOnce: true}, ""},
		"no session":            {autopaho.Config{ClientID: "c", SessionExpiry: -1}, autopaho.SubscribeConfig{Window: time.Second}, ""},
		"session for ever":      {autopaho.Config{ClientID: "c", SessionExpiry: never}, autopaho.SubscribeConfig{}, ""},
		"and a window":          {autopaho.Config{ClientID: "c", SessionExpiry: never}, autopaho.SubscribeConfig{Window: 1000 * time.Hour}, "SessionExpiry"},
		"ID of this process":    {autopaho.Config{}, autopaho.SubscribeConfig{Window: time.Hour}, ""},
		"and a session":         {autopaho.Config{SessionExpiry: 24 * time.Hour}, autopaho.SubscribeConfig{Window: time.Hour}, "SessionExpiry"},
		"window too long":       {autopaho.Config{ClientID: "c"}, autopaho.SubscribeConfig{Window: 100 * 365 * 24 * time.Hour}, "Window: "},
		"skew beyond":           {autopaho.Config{ClientID: "c"}, autopaho.SubscribeConfig{ClockSkew: 26 * time.Hour}, "ClockSkew: 26h0m0s is out of range"},
		"a subscriber of a day": {autopaho.Config{ClientID: "c", SessionExpiry: 24 * time.Hour}, autopaho.SubscribeConfig{Backoff: qos.Backoff{Max: time.Hour}, Attempts: 100}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t, 30*time.Second)
			b := startBroker(t, brokertest.Options{})
			test.client.Servers, test.client.Store = []string{b.URL()}, memoryStore(t)
			test.client.Relay.Off = true
			c := client(t, test.client)
			test.cfg.Filters, test.cfg.Handler = []string{"a"}, handler
			switch test.cfg.Group {
			case "":
				test.cfg.Group = "g"
			case "-":
				test.cfg.Group = ""
			}
			_, err := c.Subscribe(ctx, test.cfg)
			if test.fault == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, autopaho.ErrConfig)
			require.ErrorContains(t, err, test.fault)
		})
	}
	cfg := retries(0)
	require.Equal(t, time.Hour+3*time.Minute+5*time.Second, cfg.LeastWindow(time.Hour))
}

// The session of a client ID that was made up is not kept for a day: nobody
// comes back to it.
func TestSessionOfAMadeUpClientID(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg  autopaho.Config
		want uint32
	}{
		"made up":           {autopaho.Config{}, 300},
		"made up, and kept": {autopaho.Config{SessionExpiry: time.Hour}, 3600},
		"given":             {autopaho.Config{ClientID: "c"}, 86400},
		"none":              {autopaho.Config{ClientID: "c", SessionExpiry: -1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := brokertest.Listen(t)
			test.cfg.Servers = []string{l.URL()}
			c, err := autopaho.New(t.Context(), test.cfg)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = c.Subscribe(ctx, autopaho.SubscribeConfig{
					Filters: []string{"a"}, Handler: func(context.Context, *autopaho.Received) error { return nil },
				})
			}()
			conn := l.Accept(t.Context())
			p := conn.ExpectConnect()
			expiry, _ := p.Properties.Num(brokertest.PropSessionExpiryInterval)
			require.Equal(t, test.want, expiry)
			l.Close()
			conn.Close()
			cancel()
			<-ended
			require.NoError(t, c.Close(within(t, 5*time.Second)))
		})
	}
}
