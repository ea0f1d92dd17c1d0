package autopaho_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// envLease is the lease of a relay process: the test binary started once more. It
// is set in relays only, which get envBroker and envStore as well.
const envLease = "ONCEMQ_TEST_LEASE"

// relayProcess drains a store until it is told to end, or killed.
func relayProcess() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	lease, err := time.ParseDuration(os.Getenv(envLease))
	if err != nil {
		return err
	}
	store, err := sqlite.Open(ctx, os.Getenv(envStore), sqlite.Options{})
	if err != nil {
		return err
	}
	c, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{os.Getenv(envBroker)}, Store: store, Relay: autopaho.RelayConfig{Lease: lease},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := c.Close(end); err != nil {
		return err
	}
	return store.Close(end)
}

func startRelay(t *testing.T, broker, file string, lease time.Duration) *testenv.Process {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envLease+"="+lease.String(), envBroker+"="+broker, envStore+"="+file)
	return testenv.Start(t, cmd)
}

// flow enqueues a message for each of some keys again and again.
type flow struct {
	stop context.CancelFunc
	done chan struct{}
	n    int // how many for each key; to be read after end
	err  error
}

const flowKeys = 8

func startFlow(t *testing.T, c *autopaho.Client) *flow {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	f := &flow{stop: stop, done: make(chan struct{})}
	t.Cleanup(func() { f.end(t) })
	go func() {
		defer close(f.done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			msgs := make([]autopaho.Message, flowKeys)
			for i := range msgs {
				msgs[i] = autopaho.Message{Topic: fmt.Sprintf("flow/%d", i), Payload: strconv.AppendInt(nil, int64(f.n), 10)}
			}
			if _, f.err = c.Enqueue(context.Background(), msgs...); f.err != nil {
				return
			}
			f.n++
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return f
}

func (f *flow) end(t *testing.T) {
	t.Helper()
	f.stop()
	<-f.done
	require.NoError(t, f.err)
}

// Three relays on one file, one of which is killed, one closes: the lanes are
// shared out again in time, and the order of every key is kept.
func TestRelaysShareLanesAcrossKill(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	file := filepath.Join(t.TempDir(), "outbox.db")
	store, err := sqlite.Open(t.Context(), file, sqlite.Options{Lanes: 4})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	ctx := within(t, 2*time.Minute)
	pub := client(t, autopaho.Config{Servers: []string{b.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
	f := startFlow(t, pub)

	const lease = 5 * time.Second
	relays := make([]*testenv.Process, 3)
	for i := range relays {
		relays[i] = startRelay(t, b.URL(), file, lease)
	}
	awaitCounts(t, store, 10*time.Second, 2, 1, 1)
	relays[0].Kill()
	killed := time.Now()
	awaitCounts(t, store, 6*time.Second, 2, 2)
	t.Logf("shared out again %v after the kill", time.Since(killed))
	relays[0] = startRelay(t, b.URL(), file, lease)
	awaitCounts(t, store, 10*time.Second, 2, 1, 1)

	f.end(t)
	require.NoError(t, b.WaitFirstArrivals(ctx, flowKeys*f.n))
	held := epochs(t, ctx, store)
	terminated := time.Now()
	relays[1].Terminate()
	require.Zero(t, relays[1].Wait(5*time.Second), relays[1].Stderr.String())
	ended := time.Since(terminated)
	infos, err := store.Lanes(ctx)
	require.NoError(t, err)
	var msgs []persist.Message // one for each lane that is handed over
	for i, info := range infos {
		if info.Remaining <= 0 || info.Epoch != held[i] {
			msgs = append(msgs, persist.Message{ID: strconv.Itoa(i), QoS: 1, Topic: topicOf(i, 4)})
		}
	}
	require.NotEmpty(t, msgs)
	_, err = store.Enqueue(ctx, msgs)
	require.NoError(t, err)
	require.NoError(t, b.WaitFirstArrivals(ctx, flowKeys*f.n+len(msgs)))
	took := time.Since(terminated)
	t.Logf("ended after %v, %d lanes handed over after %v", ended, len(msgs), took)
	require.Less(t, took, raceSlows*500*time.Millisecond)
	for key := range flowKeys {
		arrivals := b.FirstArrivals(fmt.Sprintf("flow/%d", key))
		require.Len(t, arrivals, f.n)
		for i, a := range arrivals {
			require.Equal(t, strconv.Itoa(i), string(a.Packet.Payload))
		}
	}
	require.Empty(t, b.Violations())
}

// A relay that stands still for three lease times: the next holder of its lanes
// ends its connections, it changes nothing when it goes on, and takes part again
// in peace.
func TestPausedRelay(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{Extra: []string{"max_queued_messages 0"}})
	file := filepath.Join(t.TempDir(), "outbox.db")
	store, err := sqlite.Open(t.Context(), file, sqlite.Options{Lanes: 2})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close(context.Background())) })
	ctx := within(t, 2*time.Minute)
	var mu sync.Mutex
	seen := make(map[string]bool)
	order := make(map[string][]string)
	all := client(t, autopaho.Config{Servers: []string{m.URL()}})
	_, err = all.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"flow/+"},
		Handler: func(_ context.Context, r *autopaho.Received) error {
			mu.Lock()
			defer mu.Unlock()
			if !seen[r.ID] {
				seen[r.ID] = true
				order[r.Topic] = append(order[r.Topic], string(r.Payload))
			}
			return nil
		},
	})
	require.NoError(t, err)
	pub := client(t, autopaho.Config{Servers: []string{m.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true}})
	f := startFlow(t, pub)

	const lease = raceSlows * time.Second
	paused := startRelay(t, m.URL(), file, lease)
	awaitCounts(t, store, 5*time.Second, 2)
	owner := owners(t, ctx, store)[0]
	other := startRelay(t, m.URL(), file, lease)
	awaitCounts(t, store, 5*time.Second, 1, 1)
	lane := slices.Index(owners(t, ctx, store), owner)
	clientID := fmt.Sprintf("oncemq-%s-%d", store.Identity()[:12], lane)
	connects := func() int { return strings.Count(m.Log(), " as "+clientID+" (") }

	before := connects()
	pauseOutsideWrite(t, paused, file)
	began := time.Now()
	awaitCounts(t, store, 2500*time.Millisecond, 2)
	require.Eventually(t, func() bool { return connects() == before+1 }, raceSlows*5*time.Second, 10*time.Millisecond)
	require.NotContains(t, owners(t, ctx, store), owner)
	rest := time.NewTimer(3*lease - time.Since(began))
	defer rest.Stop()
	<-rest.C
	held := epochs(t, ctx, store)
	paused.Continue()
	line, err := paused.Stderr.WaitFor(ctx, func(line string) bool {
		return strings.Contains(line, "lane given up") && strings.Contains(line, "lane="+strconv.Itoa(lane))
	})
	require.NoError(t, err)
	require.Contains(t, line, "lost", "the reason")
	require.Equal(t, 1, strings.Count(m.Log(), "Client "+clientID+" already connected"), "not thrown off by the next holder")
	awaitCounts(t, store, 5*time.Second, 1, 1)
	now := epochs(t, ctx, store)
	moved := 0
	for i := range now {
		require.LessOrEqual(t, now[i], held[i]+1)
		moved += int(now[i] - held[i])
	}
	require.Equal(t, 1, moved, "more than the return of one lane")
	after := connects()
	require.LessOrEqual(t, after, before+2, "connections as %s", clientID)
	require.Never(t, func() bool { return !slices.Equal(now, epochs(t, ctx, store)) || connects() > after },
		2*time.Second, 50*time.Millisecond, "no peace")

	f.end(t)
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == flowKeys*f.n
	}, 20*time.Second, 10*time.Millisecond)
	for key := range flowKeys {
		for i, payload := range order[fmt.Sprintf("flow/%d", key)] {
			require.Equal(t, strconv.Itoa(i), payload)
		}
	}
	paused.Terminate()
	other.Terminate()
	require.Zero(t, paused.Wait(5*time.Second), paused.Stderr.String())
	require.Zero(t, other.Wait(5*time.Second), other.Stderr.String())
}

// pauseOutsideWrite stops a process with SIGSTOP that has not the lock of an SQLite file:
// one that is stopped in the midst of a write holds all others up, for as long as it is.
func pauseOutsideWrite(t *testing.T, p *testenv.Process, file string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(200)&_txlock=immediate")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	ctx := within(t, 20*time.Second)
	for {
		p.Pause()
		tx, err := db.BeginTx(ctx, nil)
		if err == nil {
			require.NoError(t, tx.Rollback())
			return
		}
		require.ErrorContains(t, err, "database is locked")
		p.Continue()
	}
}

// owners are the holders of the lanes.
func owners(t *testing.T, ctx context.Context, store persist.Store) []string {
	t.Helper()
	infos, err := store.Lanes(ctx)
	require.NoError(t, err)
	var all []string
	for _, info := range infos {
		all = append(all, info.Owner)
	}
	return all
}
