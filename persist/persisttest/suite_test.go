package persisttest

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
)

// place is where memory stores live in these tests. With keep it holds one
// store, which several handles share and which outlives them: a durable backend
// without a disk.
type place struct {
	opts Options
	keep bool
	bend func(p *place, s persist.Store) persist.Store // nil for a store as it should be

	now   atomic.Int64 // what the clock was advanced by
	mu    sync.Mutex   // guards store
	store persist.Store
}

func (p *place) Open(context.Context) (persist.Store, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.keep && p.store != nil {
		return newHandle(p.store), nil
	}
	var store persist.Store = memory.New(memory.Options{Lanes: p.opts.Lanes, MaxMessages: p.opts.Limits.Messages, MaxBytes: p.opts.Limits.Bytes, MaxAge: p.opts.Limits.Age, Clock: p.time})
	if p.bend != nil {
		store = p.bend(p, store)
	}
	if p.keep {
		p.store = store
		return newHandle(store), nil
	}
	return store, nil
}

func (p *place) Advance(d time.Duration) { p.now.Add(int64(d)) }

func (p *place) time() time.Time { return time.Unix(1_700_000_000, p.now.Load()) }

// handle is one opening of a store that goes on without it. Close cuts it off,
// by a fault that strikes every later call.
type handle struct {
	persist.Store
	faults *Faults
}

func newHandle(store persist.Store) *handle {
	faulty, faults := NewFaulty(store)
	return &handle{faulty, faults}
}

func (h *handle) Close(context.Context) error {
	h.faults.Add(Fault{Times: -1, Err: persist.ErrClosed})
	return nil
}

func (h *handle) Notify() (<-chan struct{}, func()) { return h.Store.(persist.Notifier).Notify() }

// volatile and durable are harnesses of memory stores.
func volatile(bend func(p *place, s persist.Store) persist.Store) Harness {
	return Harness{
		New: func(_ T, opts Options) Backend {
			return &place{opts: opts, bend: bend}
		},
		FrozenClock: true, Notifies: true,
	}
}

func durable(bend func(p *place, s persist.Store) persist.Store) Harness {
	return Harness{
		New: func(_ T, opts Options) Backend {
			return &place{opts: opts, bend: bend, keep: true}
		},
		FrozenClock: true, Durable: true, Shared: true, Notifies: true,
	}
}

// The suite's own branches for durable stores, shared by several handles, and
// for clocks that run.
func TestRun(t *testing.T) {
	t.Parallel()
	t.Run("durable", func(t *testing.T) { t.Parallel(); Run(t, durable(nil)) })
	t.Run("one handle", func(t *testing.T) {
		t.Parallel()
		h := durable(nil)
		h.Shared = false
		Run(t, h)
	})
	t.Run("running clock", func(t *testing.T) {
		t.Parallel()
		h := volatile(nil)
		h.FrozenClock = false
		Run(t, h)
	})
}

func TestRunModel(t *testing.T) {
	t.Parallel()
	RunModel(t, durable(nil))
}

// tags are the rules that package persist numbers.
func tags(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../*.go")
	require.NoError(t, err)
	var found []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, tag := range regexp.MustCompile(`\[((?:OUTBOX|LEASE|CLAIM|SESSION|DEAD)-\d+)\]`).FindAllSubmatch(text, -1) {
			found = append(found, string(tag[1]))
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func TestEveryRuleHasACase(t *testing.T) {
	t.Parallel()
	rules := tags(t)
	require.Greater(t, len(rules), 30)
	cases := byTag(allCases())
	for _, rule := range rules {
		require.Contains(t, cases, rule)
	}
	for tag, group := range cases {
		names := make(map[string]bool)
		for _, c := range group {
			require.False(t, names[c.name], "%s/%s is there twice", tag, c.name)
			names[c.name] = true
		}
		if regexp.MustCompile(`-\d+$`).MatchString(tag) {
			require.Contains(t, rules, tag, "a case for a rule that is not written down")
		}
	}
}
