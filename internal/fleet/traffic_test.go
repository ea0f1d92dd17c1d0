package fleet

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
)

// traffic is a publisher and a subscriber in this process, on one store, with
// messages going through them all the time.
type traffic struct {
	t   *testing.T
	ctx context.Context

	mu       sync.Mutex // guards the following
	accepted map[string]time.Time
	effects  map[string]int
	latest   time.Time // when the latest message with an effect was accepted

	stop func()
	done chan struct{}
}

// flow starts traffic through the store of a URL.
func flow(t *testing.T, url string) *traffic {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	broker := testenv.Mosquitto(t, testenv.MosquittoOptions{Extra: []string{"max_queued_messages 0"}})
	f := &traffic{t: t, ctx: ctx, accepted: make(map[string]time.Time), effects: make(map[string]int), done: make(chan struct{})}
	open := func() persist.Store {
		store, err := persist.Open(ctx, url, postgres.Driver{}, redis.Driver{})
		require.NoError(t, err)
		t.Cleanup(func() { _ = store.Close(context.Background()) }) // its server may be gone
		return store
	}
	start := func(cfg autopaho.Config) *autopaho.Client {
		client, err := autopaho.New(ctx, cfg)
		require.NoError(t, err)
		t.Cleanup(func() {
			end, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			_ = client.Close(end) // as above
		})
		return client
	}
	subscriber := start(autopaho.Config{
		Servers: []string{broker.URL()}, ClientID: "subscriber", Store: open(), Relay: autopaho.RelayConfig{Off: true},
	})
	_, err := subscriber.Subscribe(ctx, autopaho.SubscribeConfig{
		Filters: []string{"flow"}, Group: "flow", Lease: 2 * time.Second,
		Handler: func(_ context.Context, m *autopaho.Received) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.effects[m.ID]++
			if at := f.accepted[m.ID]; at.After(f.latest) {
				f.latest = at
			}
			return nil
		},
	})
	require.NoError(t, err)
	publisher := start(autopaho.Config{Servers: []string{broker.URL()}, Store: open()})
	publishing, stop := context.WithCancel(ctx)
	f.stop = stop
	t.Cleanup(stop)
	var publishers sync.WaitGroup
	for range 4 {
		publishers.Go(func() { f.publish(publishing, publisher) })
	}
	go func() {
		publishers.Wait()
		close(f.done)
	}()
	f.awaitEffectAfter(time.Now())
	return f
}

// publish enqueues a message every few milliseconds. One whose outcome is unknown
// or that found no store is tried again under its ID.
func (f *traffic) publish(ctx context.Context, client *autopaho.Client) {
	for i := 0; ctx.Err() == nil; i++ {
		id, err := uuid.NewV7()
		if err != nil {
			f.t.Error(err)
			return
		}
		m := autopaho.Message{ID: id.String(), Topic: "flow", Payload: []byte(strconv.Itoa(i))}
		for {
			// A store that does not answer is not waited for.
			once, cancel := context.WithTimeout(ctx, 2*time.Second)
			_, err := client.Enqueue(once, m)
			cancel()
			if err == nil {
				f.mu.Lock()
				f.accepted[m.ID] = time.Now()
				f.mu.Unlock()
				break
			}
			if ctx.Err() != nil {
				return
			}
			if !errors.Is(err, persist.ErrUnavailable) && !errors.Is(err, persist.ErrUnknownOutcome) &&
				!errors.Is(err, persist.ErrReadOnly) && !errors.Is(err, context.DeadlineExceeded) {
				f.t.Errorf("enqueue: %v", err)
				return
			}
			pause(ctx, 20*time.Millisecond)
		}
		pause(ctx, 3*time.Millisecond)
	}
}

// pause is the pace of the traffic: nothing is synchronised by it.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// awaitEffectAfter waits until a message that was accepted after that moment has
// had its effect, and tells how long after it that was.
func (f *traffic) awaitEffectAfter(moment time.Time) time.Duration {
	f.t.Helper()
	await(f.ctx, f.t, "work goes on", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.latest.After(moment)
	})
	return time.Since(moment)
}

// recovered demands that work goes on by itself soon after the store's return.
func (f *traffic) recovered(back time.Time) {
	f.t.Helper()
	took := f.awaitEffectAfter(back)
	f.t.Logf("work went on %s after the store was back", took.Round(10*time.Millisecond))
	require.Less(f.t, took, recoveryLimit, "after the store's return")
}

// end stops the publisher, waits for what is on its way, and tells how many
// accepted messages had no effect and how many effects were more than one.
func (f *traffic) end() (messages, lost, doubled int) {
	f.t.Helper()
	f.stop()
	<-f.done
	pending := func() (lost int) {
		f.mu.Lock()
		defer f.mu.Unlock()
		for id := range f.accepted {
			if f.effects[id] == 0 {
				lost++
			}
		}
		return lost
	}
	// What is lost does not come: a while without any change is the end.
	last, since := pending(), time.Now()
	for last > 0 && time.Since(since) < settleTime {
		pause(f.ctx, 50*time.Millisecond)
		if now := pending(); now != last {
			last, since = now, time.Now()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.effects {
		doubled += n - 1
	}
	f.t.Logf("%d messages, %d lost, %d effects beyond the first", len(f.accepted), last, doubled)
	return len(f.accepted), last, doubled
}

// settleTime is longer than any lease or redelivery takes.
const settleTime = 15 * time.Second

// recoveryLimit is the promise: two seconds, and time for a busy machine.
const recoveryLimit = 2*time.Second + loadAllowance
