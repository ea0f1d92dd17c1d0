package load

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startBroker(t *testing.T, o brokertest.Options) *brokertest.Broker {
	t.Helper()
	b, err := brokertest.NewBroker(o)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

func config(b *brokertest.Broker) Config {
	return Config{
		Broker: autopaho.Config{Servers: []string{b.URL()}, ClientID: "bench-"},
		QoS:    1, Count: 300, Size: 64, Settle: time.Minute,
	}
}

func sqliteStore(t *testing.T) persist.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"), sqlite.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestNothingIsLost: whatever the level, and however many there are, all arrives.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]func(*Config){
		"durable":             func(c *Config) { c.Store = sqliteStore(t); c.Clients = 3 },
		"durable, two of two": func(c *Config) { c.Store = sqliteStore(t); c.QoS, c.Subscribers = 2, 2 },
		"plain":               func(c *Config) { c.Clients = 3 },
		"plain, two hear all": func(c *Config) { c.Subscribers = 2 },
		"plain at level 2":    func(c *Config) { c.QoS = 2; c.InFlight = 1 },
		"at a rate":           func(c *Config) { c.Rate, c.Clients = 2000, 2 },
		"at a rate, durable":  func(c *Config) { c.Rate, c.Clients, c.Store = 2000, 2, sqliteStore(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			cfg := config(b)
			c(&cfg)
			res, err := RunBoth(within(t), cfg)
			require.NoError(t, err)
			hears := int64(1)
			if cfg.Store == nil && cfg.Subscribers > 0 {
				hears = int64(cfg.Subscribers)
			}
			require.EqualValues(t, 300, res.Sent)
			require.Equal(t, 300*hears, res.Received)
			require.Zero(t, res.Lost+res.Failed+res.Duplicates+res.Undelivered)
			require.False(t, res.Interrupted)
			require.Equal(t, cfg.Store != nil, res.Phase("stored") != nil)
			for _, name := range []string{"delivered", "received"} {
				p := res.Phase(name)
				require.NotNil(t, p, name)
				require.Positive(t, p.Rate)
				require.Positive(t, p.Latency.Max)
				require.LessOrEqual(t, p.Latency.P50, p.Latency.P99)
				var sum int64
				for _, point := range p.Series {
					sum += point.Messages
				}
				require.Equal(t, p.Messages, sum, "each message is in one second of the series")
			}
			require.Empty(t, b.Violations())
		})
	}
}

// TestLossIsCounted: what a broker loses is exactly what is reported.
func TestLossIsCounted(t *testing.T) {
	t.Parallel()
	var n, dropped atomic.Int64
	b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if d == brokertest.In && p.Type == brokertest.PUBLISH && len(p.Payload) > 0 && n.Add(1)%10 == 0 {
			dropped.Add(1)
			return brokertest.Drop
		}
		return brokertest.Pass
	}})
	cfg := config(b)
	cfg.QoS, cfg.Clients, cfg.Settle = 0, 2, 2*time.Second
	res, err := RunBoth(within(t), cfg)
	require.NoError(t, err)
	require.EqualValues(t, 300, res.Sent)
	require.EqualValues(t, 30, dropped.Load())
	require.Equal(t, dropped.Load(), res.Lost)
	require.Equal(t, res.Sent-res.Lost, res.Received)
}

// TestCutsLoseAtLevelZero: what was on its way when a connection was cut is reported.
func TestCutsLoseAtLevelZero(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{DropEvery: brokertest.Range{Min: 50, Max: 60}, DropLimit: 3})
	cfg := config(b)
	cfg.QoS, cfg.Settle = 0, 2*time.Second
	res, err := RunBoth(within(t), cfg)
	require.NoError(t, err)
	require.EqualValues(t, 300, res.Sent+res.Failed)
	require.Positive(t, res.Lost)
	require.Less(t, res.Received, res.Sent)
}

// TestFaultsCostNothingDurably: connections that break lose nothing through the outbox.
func TestFaultsCostNothingDurably(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{DropEvery: brokertest.Range{Min: 40, Max: 80}, DropLimit: 6})
	cfg := config(b)
	cfg.Store, cfg.Batch = sqliteStore(t), 20
	res, err := RunBoth(within(t), cfg)
	require.NoError(t, err)
	require.EqualValues(t, 300, res.Sent)
	require.Zero(t, res.Lost+res.Failed+res.Undelivered+res.Duplicates)
	require.EqualValues(t, 300, res.Received)
}

// TestRefused: what the broker refuses has failed, and was not lost.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{true, false} {
		t.Run(fmt.Sprint(durable), func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "oncemq/bench/0", Code: 0x87, Times: 5}}})
			cfg := config(b)
			cfg.Count = 20
			if durable {
				cfg.Store = memory.New(memory.Options{})
			}
			res, err := RunPublish(within(t), cfg)
			require.NoError(t, err)
			require.EqualValues(t, 5, res.Failed)
			require.EqualValues(t, 15, res.Sent)
			require.EqualValues(t, 15, res.Phase("delivered").Messages)
		})
	}
}

// TestCoordinatedOmission: a message that was due and had to wait for others counts from
// when it was due.
func TestCoordinatedOmission(t *testing.T) {
	t.Parallel()
	const delay = 20 * time.Millisecond
	b := startBroker(t, brokertest.Options{AckDelay: delay})
	cfg := config(b)
	cfg.Count, cfg.InFlight = 20, 1
	cfg.Rate = 1000 // the last is due after 20 ms, and done after 400 ms
	res, err := RunPublish(within(t), cfg)
	require.NoError(t, err)
	l := res.Phase("delivered").Latency
	require.GreaterOrEqual(t, l.Max, 350.0, "milliseconds")
	require.GreaterOrEqual(t, l.P50, 150.0)
	// Without a rate a message is due when it can be sent.
	cfg.Rate = 0
	res, err = RunPublish(within(t), cfg)
	require.NoError(t, err)
	require.GreaterOrEqual(t, res.Phase("delivered").Latency.Min, 19.0)
}

// TestDuration: a run ends by time as well.
func TestDuration(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{true, false} {
		b := startBroker(t, brokertest.Options{})
		cfg := config(b)
		cfg.Count, cfg.Duration = 0, 200*time.Millisecond
		if durable {
			cfg.Store = memory.New(memory.Options{})
		}
		res, err := RunBoth(within(t), cfg)
		require.NoError(t, err)
		require.Positive(t, res.Sent)
		require.Equal(t, res.Sent, res.Received)
		require.Zero(t, res.Lost+res.Failed)
	}
}

// TestInterrupted: what was measured until then is there, and nothing is left running.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, durable := range []bool{true, false} {
		t.Run(fmt.Sprint(durable), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(within(t))
			var n atomic.Int64
			b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
				if d == brokertest.In && p.Type == brokertest.PUBLISH && n.Add(1) == 200 {
					cancel()
				}
				return brokertest.Pass
			}})
			cfg := config(b)
			cfg.Count = 10_000_000
			if durable {
				cfg.Store = memory.New(memory.Options{})
			}
			res, err := RunBoth(ctx, cfg)
			require.NoError(t, err)
			require.True(t, res.Interrupted)
			require.GreaterOrEqual(t, res.Sent, int64(100))
			require.Positive(t, res.Received)
			require.Zero(t, res.Lost)
		})
	}
}

// TestSubscribeAlone: numbers that are missing between the first and the last are lost,
// and what is not a run's is not counted.
func TestSubscribeAlone(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	cfg := config(b)
	cfg.Count, cfg.Duration = 8, time.Minute
	subscribed := make(chan struct{})
	go func() {
		defer close(subscribed)
		if b.Wait(t.Context(), func() bool { return b.Subscribers("oncemq/bench/#") == 1 }) != nil {
			return
		}
		for _, seq := range []uint64{5, 6, 8, 8, 9, 10, 11, 12, 14} { // 7 and 13 are missing
			body := make([]byte, HeaderSize)
			h := header{run: 1, seq: seq, due: time.Now().UnixNano()}
			h.put(body)
			b.Publish(brokertest.Packet{Topic: "oncemq/bench/0", QoS: 1, Payload: body})
		}
		b.Publish(brokertest.Packet{Topic: "oncemq/bench/0", QoS: 1, Payload: []byte("else")})
	}()
	res, err := RunSubscribe(within(t), cfg)
	require.NoError(t, err)
	<-subscribed
	require.EqualValues(t, 9, res.Received)
	require.EqualValues(t, 1, res.Duplicates)
	require.EqualValues(t, 2, res.Lost)
	require.Less(t, res.Phase("received").Seconds, res.Seconds, "the wait for the first message does not count")
}

// TestStoreAlone: every phase has every message.
func TestStoreAlone(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]persist.Store{"sqlite": sqliteStore(t), "memory": memory.New(memory.Options{Lanes: 3})} {
		res, err := RunStore(within(t), Config{Store: store, Clients: 2, Count: 1001, Batch: 50})
		require.NoError(t, err, name)
		require.Len(t, res.Phases, 3)
		for _, phase := range []string{"enqueue", "drain", "claim"} {
			require.EqualValues(t, 1001, res.Phase(phase).Messages, "%s %s", name, phase)
		}
		s, err := store.Stats(t.Context())
		require.NoError(t, err)
		require.Zero(t, s.Pending)
		require.EqualValues(t, 1001, s.Completed)
	}
}

// TestDoesNotBegin: what is wrong is said before anything is sent.
func TestDoesNotBegin(t *testing.T) {
	t.Parallel()
	used := memory.New(memory.Options{})
	_, err := used.Enqueue(t.Context(), []persist.Message{{ID: "theirs", Topic: "t", QoS: 1}})
	require.NoError(t, err)
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{}})
	cfg := config(b)
	cfg.Store = used
	_, err = RunPublish(within(t), cfg)
	require.ErrorIs(t, err, ErrStoreInUse)
	_, err = RunStore(within(t), cfg)
	require.ErrorIs(t, err, ErrStoreInUse)
	require.Zero(t, b.Stats().Connections)

	cfg.Store = memory.New(memory.Options{})
	for _, run := range []func(context.Context, Config) (Result, error){RunPublish, RunSubscribe, RunBoth} {
		_, err = run(within(t), cfg)
		require.ErrorIs(t, err, autopaho.ErrRefused)
	}
	s, err := cfg.Store.Stats(t.Context())
	require.NoError(t, err)
	require.Zero(t, s.Pending, "nothing waits in the store")

	cfg.QoS = 0
	_, err = RunPublish(within(t), cfg)
	require.ErrorIs(t, err, ErrConfig)
	_, err = RunStore(within(t), Config{})
	require.ErrorIs(t, err, ErrConfig)
	_, err = RunPublish(within(t), Config{Size: 3})
	require.ErrorContains(t, err, "Size: 3 is too small")
	require.False(t, errors.Is(err, ErrStoreInUse))
}
