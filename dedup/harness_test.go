package dedup

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// elapse lets time pass in a synctest bubble: every goroutine has nothing to do
// when it has passed.
func elapse(d time.Duration) { <-time.After(d) }

// inbound is a delivery that reports what happens to it.
type inbound struct {
	Node
	granted chan Grant
	settled chan Outcome
	// onGranted, if set, is called in place of sending to granted.
	onGranted func(*inbound, Grant)
}

func newInbound() *inbound {
	return &inbound{granted: make(chan Grant, 1), settled: make(chan Outcome, 1)}
}

func (d *inbound) Granted(g Grant) {
	if d.onGranted != nil {
		d.onGranted(d, g)
		return
	}
	d.granted <- g
}

func (d *inbound) Settled(o Outcome) { d.settled <- o }

func (d *inbound) grant(t *testing.T) Grant {
	t.Helper()
	select {
	case g := <-d.granted:
		return g
	case o := <-d.settled:
		require.FailNow(t, "settled before it was granted", "%v", o)
	case <-time.After(patience):
		require.FailNow(t, "not granted")
	}
	return Grant{}
}

func (d *inbound) outcome(t *testing.T) Outcome {
	t.Helper()
	select {
	case o := <-d.settled:
		return o
	case <-time.After(patience):
		require.FailNow(t, "not settled")
	}
	return 0
}

// undecided fails the test if anything was said about d so far.
func (d *inbound) undecided(t *testing.T) {
	t.Helper()
	require.Empty(t, d.granted)
	require.Empty(t, d.settled)
}

func newStore(t *testing.T) *memory.Store {
	t.Helper()
	store := memory.New(memory.Options{})
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	return store
}

func testConfig(store Store) Config {
	return Config{Store: store, Group: "workers", Lease: 2 * time.Second, PollInterval: 20 * time.Millisecond}
}

// start makes a consumer that is closed, gracefully, at the end of the test.
func start(t *testing.T, cfg Config) *Consumer {
	t.Helper()
	c, err := New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, c.Close(ctx))
	})
	return c
}

func submit(t *testing.T, c *Consumer, key string) *inbound {
	t.Helper()
	d := newInbound()
	require.NoError(t, c.Submit(d, key, time.Time{}))
	return d
}

func key(i int) string { return "key-" + strconv.Itoa(i) }

func letterFor(reason string) *persist.DeadLetter {
	return &persist.DeadLetter{Message: persist.Message{ID: "m", Topic: "t"}, Reason: reason}
}
