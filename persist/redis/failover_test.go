package redis

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
)

func sentinelURL(set *testenv.RedisSentinelSet) string {
	return "redis+sentinel://" + strings.Join(set.Addrs(), ",") + "/" + set.MasterName
}

func clusterURL(set *testenv.RedisClusterSet) string {
	return "redis+cluster://" + strings.Join(set.Addrs(), ",")
}

// The suite holds in a Cluster and behind Sentinels as it does on one server.
func TestStoreInCluster(t *testing.T) {
	t.Parallel()
	persisttest.Run(t, harness(clusterURL(testenv.RedisCluster(t))))
}

func TestStoreBehindSentinels(t *testing.T) {
	t.Parallel()
	set := testenv.RedisSentinel(t)
	for _, sentinel := range set.Sentinels {
		// A busy machine is no reason to fail over in the midst of a case.
		sentinel.Command("SENTINEL", "SET", set.MasterName, "down-after-milliseconds", "60000")
	}
	persisttest.Run(t, harness(sentinelURL(set)))
}

// worker enqueues, drains and claims until it is stopped, as a relay and a
// consumer do: after an error it tries again.
type worker struct {
	s    *Store
	lane persist.Lane
	n    int

	accepted map[string]bool
	unknown  map[string]bool // enqueues whose outcome is not known
	seen     map[string]int
}

func newWorker(s *Store) *worker {
	return &worker{s: s, accepted: map[string]bool{}, unknown: map[string]bool{}, seen: map[string]int{}}
}

// step does a round of work.
func (w *worker) step(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	msgs := plainMessages("w"+string(rune('a'+w.n%26))+"-"+time.Duration(w.n).String()+"-", 3)
	w.n++
	_, err := w.s.Enqueue(ctx, msgs)
	for _, m := range msgs {
		switch {
		case err == nil:
			w.accepted[m.ID] = true
		case errors.Is(err, persist.ErrUnknownOutcome):
			w.unknown[m.ID] = true
		}
	}
	if err != nil {
		return err
	}
	key := msgs[0].ID
	claims, err := w.s.Claim(ctx, persist.ClaimRequest{Group: "g", TTL: time.Minute, Keys: []string{key}})
	if err != nil {
		return err
	}
	if _, err := w.s.Complete(ctx, "g", []persist.Completion{{Claim: claims[0]}}, time.Hour); err != nil {
		return err
	}
	return w.drain(ctx)
}

func (w *worker) drain(ctx context.Context) (err error) {
	if w.lane == nil {
		if w.lane, err = w.s.AcquireLane(ctx, 0, "worker", 500*time.Millisecond); err != nil {
			w.lane = nil
			return err
		}
	}
	entries, err := w.lane.Next(ctx, 100, 1<<20)
	if err == nil && len(entries) > 0 {
		settlements := make([]persist.Settlement, len(entries))
		for i := range entries {
			w.seen[entries[i].Message.ID]++
			settlements[i].Position = entries[i].Position
		}
		err = w.lane.Settle(ctx, settlements)
	}
	if err != nil {
		w.lane = nil // a new lease hands out again what was not settled
	}
	return err
}

// When the master is lost, work goes on by itself soon after another took over.
func TestMasterLost(t *testing.T) {
	t.Parallel()
	set := testenv.RedisSentinel(t)
	s := openStore(t, sentinelURL(set), Options{WaitReplicas: 1})
	wake, stop := s.Notify()
	defer stop()
	w := newWorker(s)
	for range 50 {
		require.NoError(t, w.step(t.Context()))
	}
	old := set.Master()
	old.Kill()
	promoted := make(chan struct{})
	go func() {
		set.AwaitFailover(old)
		close(promoted)
	}()
	var since time.Time
	failures := 0
	until(t, func(ctx context.Context) error {
		select {
		case <-promoted:
			if since.IsZero() {
				since = time.Now()
			}
		default:
		}
		err := w.step(ctx)
		if err != nil {
			failures++
		}
		return err
	})
	<-promoted
	require.NotZero(t, failures)
	if !since.IsZero() {
		require.Less(t, time.Since(since), 2*time.Second, "work goes on")
	}
	for range 20 {
		require.NoError(t, w.step(t.Context()))
	}
	until(t, w.drain)
	for id := range w.accepted {
		require.NotZero(t, w.seen[id], "%s was confirmed by a replica", id)
	}
	for id := range w.seen {
		require.True(t, w.accepted[id] || w.unknown[id], "%s was never accepted", id)
	}

	// Other handles are heard of again.
	other := openStore(t, sentinelURL(set), Options{})
	until(t, func(ctx context.Context) error {
		for len(wake) > 0 {
			<-wake
		}
		if _, err := other.Enqueue(ctx, plainMessages("other", 1)); err != nil {
			return err
		}
		select {
		case <-wake:
			return nil
		case <-time.After(200 * time.Millisecond):
			return errors.New("no wake-up")
		}
	})
}

// A slot that moves while its store is at work costs patience, and nothing else.
func TestSlotMoves(t *testing.T) {
	t.Parallel()
	set := testenv.RedisCluster(t)
	for _, prefix := range []string{"one", "other"} {
		s := openStore(t, clusterURL(set), Options{Prefix: prefix})
		w := newWorker(s)
		for range 20 {
			require.NoError(t, w.step(t.Context()))
		}
		slot := set.Slot(s.keys.meta)
		to := (set.Owner(slot) + 1) % len(set.Nodes)
		moved, end := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(end)
			for working := true; working; {
				select {
				case <-moved:
					working = false
				default:
				}
				_ = w.step(context.Background()) // refused while the keys are apart
			}
		}()
		move := set.OpenMove(slot, to)
		move.Key(s.keys.lanes[0].messages) // the keys are on two nodes
		move.Keys()
		move.Close()
		close(moved)
		<-end
		until(t, w.step)
		until(t, w.drain)
		for id := range w.accepted {
			require.NotZero(t, w.seen[id], id)
		}
		for id := range w.seen {
			require.True(t, w.accepted[id] || w.unknown[id], "%s was never accepted", id)
		}
		stats, err := s.Stats(t.Context())
		require.NoError(t, err)
		require.Zero(t, stats.Pending)
	}
}

// connect is a client of the test's own, on any of the forms of URL.
func connect(t persisttest.T, rawURL string) goredis.UniversalClient {
	t.Helper()
	u, err := url.Parse(rawURL)
	require.NoError(t, err)
	c, err := parseURL(u, &Options{})
	require.NoError(t, err)
	return c.client()
}
