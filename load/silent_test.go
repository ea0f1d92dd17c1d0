package load

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/persist/memory"
)

// startSilent starts a broker that acknowledges so many messages of a run, and no more.
// Each message that comes is told.
func startSilent(t *testing.T, acks int64, came func(n int64)) *brokertest.Broker {
	t.Helper()
	var warm, publishes, answers atomic.Int64
	return startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		switch {
		case d == brokertest.In && p.Type == brokertest.PUBLISH && len(p.Payload) == 0:
			warm.Add(1)
		case d == brokertest.In && p.Type == brokertest.PUBLISH:
			came(publishes.Add(1))
		case d == brokertest.Out && p.Type == brokertest.PUBACK && answers.Add(1) > warm.Load()+acks:
			return brokertest.Drop
		}
		return brokertest.Pass
	}})
}

// TestSilentBroker: a run ends by itself, or when it is ended, also if the broker answers
// nothing any more while messages are left to send. What was not delivered is counted.
func TestSilentBroker(t *testing.T) {
	t.Parallel()
	const acks = 3
	// Delivered, with the collector, ahead of it, and one for which there is no room: the
	// publisher waits.
	const most = acks + 1 + batchesAhead + 1
	for name, c := range map[string]struct {
		run       func(context.Context, Config) (Result, error)
		set       func(*Config)
		interrupt bool
	}{
		"count":                  {RunPublish, func(c *Config) { c.Settle = 2 * time.Second }, false},
		"count at a rate":        {RunPublish, func(c *Config) { c.Settle, c.Rate = 2*time.Second, 2000 }, false},
		"duration":               {RunPublish, func(c *Config) { c.Settle, c.Count, c.Duration = 2*time.Second, 0, time.Second }, false},
		"duration at a rate":     {RunPublish, func(c *Config) { c.Settle, c.Duration, c.Rate = 2*time.Second, time.Second, 2000 }, false},
		"two publishers":         {RunPublish, func(c *Config) { c.Settle, c.Clients = 2*time.Second, 2 }, false},
		"received as well":       {RunBoth, func(c *Config) { c.Settle = 2 * time.Second }, false},
		"interrupted":            {RunPublish, func(*Config) {}, true},
		"received, interrupted":  {RunBoth, func(*Config) {}, true},
		"plain, count":           {RunPublish, func(c *Config) { c.Store, c.Settle, c.InFlight = nil, 2*time.Second, 4 }, false},
		"plain, received":        {RunBoth, func(c *Config) { c.Store, c.Settle, c.InFlight = nil, 2*time.Second, 4 }, false},
		"plain, and interrupted": {RunPublish, func(c *Config) { c.Store, c.InFlight = nil, most-acks }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(within(t))
			defer cancel()
			b := startSilent(t, acks, func(n int64) {
				if c.interrupt && n == most {
					cancel()
				}
			})
			cfg := config(b)
			cfg.Store, cfg.Batch, cfg.Count = memory.New(memory.Options{}), 1, 100_000
			c.set(&cfg)
			began := time.Now()
			res, err := c.run(ctx, cfg)
			require.NoError(t, err)
			require.Less(t, time.Since(began), time.Minute)
			require.NotNil(t, res.Phase("delivered"))
			require.EqualValues(t, acks, res.Phase("delivered").Messages)
			require.Equal(t, c.interrupt, res.Interrupted)
			require.Zero(t, res.Lost)
			if cfg.Store == nil {
				require.EqualValues(t, acks, res.Sent)
				require.GreaterOrEqual(t, res.Failed, int64(cfg.InFlight))
				require.LessOrEqual(t, res.Failed, int64(2*cfg.InFlight), "those that waited while others were answered try once more")
			} else {
				require.Equal(t, res.Sent-acks, res.Undelivered)
				require.Positive(t, res.Undelivered)
				if cfg.Duration == 0 {
					require.GreaterOrEqual(t, res.Undelivered, int64(most-acks))
				}
				require.Zero(t, res.Failed)
				s, err := cfg.Store.Stats(t.Context())
				require.NoError(t, err)
				require.EqualValues(t, res.Undelivered, s.Pending)
			}
			if received := res.Phase("received"); received != nil {
				require.GreaterOrEqual(t, res.Received, int64(acks), "counted, though the publisher's client did not end in time")
				require.Equal(t, res.Received-res.Duplicates, received.Messages)
			}
		})
	}
}

// TestBrokerComesBack: a run by time waits for a broker until its time is over.
func TestBrokerComesBack(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	const settle = 50 * time.Millisecond
	var b *brokertest.Broker
	var n atomic.Int64
	b = startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if d != brokertest.In || p.Type != brokertest.PUBLISH || len(p.Payload) == 0 {
			return brokertest.Pass
		}
		switch n.Add(1) {
		case 3:
			b.HoldAcks()
			time.AfterFunc(10*settle, b.ReleaseAcks)
		case 10 + 2*batchesAhead: // more than there is room for
			cancel()
		}
		return brokertest.Pass
	}})
	cfg := config(b)
	cfg.Store, cfg.Batch, cfg.Count, cfg.Duration, cfg.Settle = memory.New(memory.Options{}), 1, 0, time.Hour, settle
	res, err := RunPublish(ctx, cfg)
	require.NoError(t, err)
	require.True(t, res.Interrupted, "it did not end before")
	require.Greater(t, res.Phase("delivered").Messages, int64(batchesAhead))
}

// TestInterruptedAtTheEnd: who ends a run that waits for what has not arrived does not
// wait for all of that.
func TestInterruptedAtTheEnd(t *testing.T) {
	t.Parallel()
	const count = 7
	t.Run("delivery", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		b := startSilent(t, 0, func(n int64) {
			if n == count {
				cancel()
			}
		})
		cfg := config(b)
		cfg.Store, cfg.Count = memory.New(memory.Options{}), count
		began := time.Now()
		res, err := RunPublish(ctx, cfg)
		require.NoError(t, err)
		require.Less(t, time.Since(began), cfg.Settle/2)
		require.True(t, res.Interrupted)
		require.EqualValues(t, count, res.Undelivered)
	})
	t.Run("arrival", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
			if d == brokertest.Out && p.Type == brokertest.PUBLISH {
				return brokertest.Drop
			}
			return brokertest.Pass
		}})
		cfg := config(b)
		cfg.Count = count
		cfg.Observe = func(p Progress) {
			if p.Phase == "received" {
				cancel()
			}
		}
		began := time.Now()
		res, err := RunBoth(ctx, cfg)
		require.NoError(t, err)
		require.Less(t, time.Since(began), cfg.Settle/2)
		require.True(t, res.Interrupted)
		require.EqualValues(t, count, res.Lost)
	})
}
