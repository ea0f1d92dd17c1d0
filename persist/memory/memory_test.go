package memory_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// harness tells the suite what a store in memory can do: all but outlive its
// handle.
func harness() persisttest.Harness {
	return persisttest.Harness{
		New: func(_ persisttest.T, opts persisttest.Options) persisttest.Backend {
			return &backend{opts: opts, now: time.Unix(1_700_000_000, 123_456_789)}
		},
		FrozenClock: true,
		Notifies:    true,
	}
}

// backend opens stores on a clock that stands still.
type backend struct {
	opts persisttest.Options

	mu  sync.Mutex // guards now
	now time.Time
}

func (b *backend) Open(context.Context) (persist.Store, error) {
	return memory.New(memory.Options{Lanes: b.opts.Lanes, MaxMessages: b.opts.MaxMessages, Clock: b.time}), nil
}

func (b *backend) Advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func (b *backend) time() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func TestStore(t *testing.T) {
	t.Parallel()
	persisttest.Run(t, harness())
}

func TestModel(t *testing.T) {
	t.Parallel()
	persisttest.RunModel(t, harness())
}
