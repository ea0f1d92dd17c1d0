package autopaho_test

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/testenv"
)

// outage is how long a store is away: ONCEMQ_OUTAGE, or a moment.
func outage(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("ONCEMQ_OUTAGE")
	if text == "" {
		return 3 * time.Second
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err, "ONCEMQ_OUTAGE")
	return d
}

// heap is what is in use, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The store's server stands still, or is not there, for ONCEMQ_OUTAGE, while the
// broker has messages for us and others want to be enqueued. No handler runs, Enqueue
// says so each time, memory and goroutines stay what they are, and all goes on by
// itself when the store is back: every message has one effect.
func TestStoreIsAway(t *testing.T) { //nolint:paralleltest // measures the process's memory
	type server interface {
		URL() string
		Pause()
		Continue()
		Kill()
		Start()
	}
	for name, start := range map[string]func() server{ //nolint:paralleltest // see above
		"postgres": func() server { return testenv.Postgres(t, testenv.PostgresOptions{}) },
		"redis":    func() server { return testenv.Redis(t, testenv.RedisOptions{}) },
	} {
		for how, away := range map[string]func(server) (back func()){
			"stopped": func(s server) func() { s.Pause(); return s.Continue },
			"killed":  func(s server) func() { s.Kill(); return s.Start },
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				lasts := outage(t)
				ctx := within(t, lasts+2*time.Minute)
				s := start()
				m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
				eff := newEffects()
				c := client(t, autopaho.Config{Servers: []string{m.URL()}, ClientID: "c", Store: opened(t, s.URL())})
				_, err := c.Subscribe(ctx, autopaho.SubscribeConfig{Filters: []string{"a"}, Group: "g", Handler: eff.handle})
				require.NoError(t, err)
				publish := func(from, to int) {
					for i := from; i < to; i++ {
						_, err := c.Publish(ctx, autopaho.Message{ID: strconv.Itoa(i), Topic: "a", QoS: 1})
						require.NoError(t, err)
					}
				}
				publish(0, 200)
				eff.waitFor(t, ctx, 200)

				back := away(s)
				publish(200, 400)
				refused := func() {
					ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
					defer cancel()
					_, err := c.Enqueue(ctx, autopaho.Message{ID: "refused", Topic: "b"})
					require.Error(t, err)
				}
				refused()
				// From here on nothing changes.
				began := time.Now()
				processed, memory, goroutines := c.Counters().Processed, heap(), runtime.NumGoroutine()
				tries := 0
				for tick := time.NewTicker(50 * time.Millisecond); time.Since(began) < lasts; tries++ {
					<-tick.C
					refused()
				}
				require.Equal(t, processed, c.Counters().Processed)
				require.LessOrEqual(t, processed, uint64(200))
				grown, more := heap()-memory, runtime.NumGoroutine()-goroutines
				require.Less(t, grown, int64(4<<20), "bytes of memory")
				require.Less(t, more, 20, "goroutines")

				back()
				returned := time.Now()
				eff.waitFor(t, ctx, 201)
				first := time.Since(returned)
				eff.waitFor(t, ctx, 400)
				eff.requireOnce(t)
				require.Less(t, first, 5*time.Second)
				t.Logf("RESULT away for %s: %d refusals, %+d bytes, %+d goroutines; the first message %s after the return",
					lasts, tries, grown, more, first.Round(time.Millisecond))
			})
		}
	}
}
