package memory_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/persisttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness tells the suite what a store in memory can do: all but outlive its
// handle.
func harness() persisttest.Harness {
	return persisttest.Harness{
		New:         func(_ persisttest.T, opts persisttest.Options) persisttest.Backend { return &backend{opts: opts} },
		FrozenClock: true,
		Notifies:    true,
	}
}

// backend opens stores on a clock that stands still.
type backend struct {
	opts   persisttest.Options
	passed atomic.Int64
}

func (b *backend) Open(context.Context) (persist.Store, error) {
	return memory.New(memory.Options{Lanes: b.opts.Lanes, MaxMessages: b.opts.Limits.Messages, MaxBytes: b.opts.Limits.Bytes, MaxAge: b.opts.Limits.Age, Clock: b.time}), nil
}

func (b *backend) Advance(d time.Duration) { b.passed.Add(int64(d)) }

func (b *backend) time() time.Time { return time.Unix(1_700_000_000, 123_456_789+b.passed.Load()) }

func TestStore(t *testing.T) {
	t.Parallel()
	persisttest.Run(t, harness())
}

func TestModel(t *testing.T) {
	t.Parallel()
	persisttest.RunModel(t, harness())
}

// running is a harness on the clock of the machine.
func TestStoreOnARunningClock(t *testing.T) {
	t.Parallel()
	h := harness()
	h.FrozenClock = false
	h.New = func(_ persisttest.T, opts persisttest.Options) persisttest.Backend {
		return &running{backend{opts: opts}}
	}
	persisttest.Run(t, h)
}

type running struct{ backend }

func (r *running) Open(context.Context) (persist.Store, error) {
	now := func() time.Time { return time.Now().Add(time.Duration(r.passed.Load())) }
	return memory.New(memory.Options{Lanes: r.opts.Lanes, MaxMessages: r.opts.Limits.Messages, MaxBytes: r.opts.Limits.Bytes, MaxAge: r.opts.Limits.Age, Clock: now}), nil
}
