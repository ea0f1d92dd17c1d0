package fleet

import (
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
)

// What passes between a relay's end and the first message through its successor.
const (
	handOverLimit = 500 * time.Millisecond
	takeOverLimit = 6 * time.Second
)

// A relay is told to end, and another is at work within half a second; it is
// killed, and another is within six; it is stopped for three leases, and when it
// goes on it changes nothing and disturbs nobody.
func TestRelaySucceedsRelay(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"postgres": func(t *testing.T) string { t.Helper(); return testenv.SharedPostgres(t).URL() },
		"redis": func(t *testing.T) string {
			t.Helper()
			return withQuery(testenv.SharedRedis(t).URL(), fmt.Sprintf("prefix=succeeds-%d", time.Now().UnixNano()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			succession(t, url(t))
		})
	}
}

func succession(t *testing.T, url string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	broker := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	seen := observe(t, ctx, broker.URL())
	store, err := persist.Open(ctx, url, postgres.Driver{}, redis.Driver{})
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close(context.Background())) }()
	producer, err := autopaho.New(ctx, autopaho.Config{
		Servers: []string{broker.URL()}, Store: store, Relay: autopaho.RelayConfig{Off: true},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, producer.Close(context.Background())) }()

	sent := 0
	// send enqueues the next of one key, and tells how long after the moment it
	// reached the broker.
	send := func(moment time.Time) time.Duration {
		t.Helper()
		_, err := producer.Enqueue(ctx, autopaho.Message{Topic: "fleet/0", Payload: fmt.Append(nil, sent)})
		require.NoError(t, err)
		sent++
		await(ctx, t, "the message has arrived", func() bool { different, _ := seen.messages(); return different == sent })
		return time.Since(moment)
	}
	oncemq := testenv.Build(t, "./cmd/oncemq")
	relay := func() *testenv.Process {
		return testenv.Start(t, exec.Command(oncemq, "relay", "--broker", broker.URL(), "--store", url))
	}
	holder := func() int64 {
		lanes, err := store.Lanes(ctx)
		require.NoError(t, err)
		return lanes[0].Epoch
	}

	first := relay()
	send(time.Now())
	begun := holder()
	second := relay()
	for began := time.Now(); time.Since(began) < 2*time.Second; { // it has looked around by then
		send(time.Now())
	}
	require.Equal(t, begun, holder(), "the second took nothing away")

	first.Terminate()
	took := send(time.Now())
	t.Logf("after SIGTERM: %s", took)
	require.Less(t, took, handOverLimit+loadAllowance)
	require.Zero(t, first.Wait(10*time.Second))

	third := relay()
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		send(time.Now())
	}
	second.Kill()
	took = send(time.Now())
	t.Logf("after SIGKILL: %s", took)
	require.Less(t, took, takeOverLimit+loadAllowance)

	fourth := relay()
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		send(time.Now())
	}
	third.Pause()
	stopped := time.Now()
	took = send(stopped)
	t.Logf("after SIGSTOP: %s", took)
	for time.Since(stopped) < 3*relayLease {
		send(time.Now())
	}
	epoch := holder()
	third.Continue()
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		send(time.Now())
	}
	require.Equal(t, epoch, holder(), "the relay that was stopped took the lane back")
	fourth.Terminate()
	took = send(time.Now())
	t.Logf("back to the one that was stopped: %s", took)
	require.Less(t, took, handOverLimit+loadAllowance, "it takes part again")
	third.Terminate()
	require.Zero(t, third.Wait(10*time.Second))
	require.Zero(t, fourth.Wait(10*time.Second))
	require.Empty(t, seen.disordered())
	_, again := seen.messages()
	t.Logf("%d messages, %d arrived again", sent, again)
}
