package main

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// startRelay runs a relay in this process until the function that it returns is
// called, or the test ends. It holds the store's lane when it returns.
func startRelay(t *testing.T, b *brokertest.Broker, store string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan int, 1)
	var stdout, stderr strings.Builder
	go func() {
		ended <- run(ctx, []string{"oncemq", "relay", "-L", b.URL(), "--store", store}, nil, strings.NewReader(""), &stdout, &stderr)
	}()
	require.NoError(t, b.Wait(within(t, 10*time.Second), func() bool { return len(b.Connected()) > 0 }))
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel(nil)
		select {
		case code := <-ended:
			if code != exitDone {
				t.Errorf("relay ended with %d: %s", code, stderr.String())
			}
		case <-time.After(20 * time.Second):
			t.Error("relay has not ended")
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestRelayOnce(t *testing.T) {
	t.Parallel()
	store := fileStore(t)
	got := runOnce(t, command("relay", "-L", nobody, "--store", store, "--once"))
	require.Equal(t, exitDone, got.code, "an empty outbox needs no broker: %s", got.stderr)

	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "a", "-m", "x", "--no-wait")).code)
	got = runOnce(t, command("relay", "-L", nobody, "--store", store, "--once", "--timeout", "0.3"))
	require.Equal(t, exitStored, got.code, got.stderr)
	require.Contains(t, got.stderr, "oncemq relay: 1 pending and 0 delivered and awaiting receipts are left; last: ")

	b := startBroker(t, brokertest.Options{})
	got = runOnce(t, command("relay", "-L", b.URL(), "--store", store, "--once"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Empty(t, got.stderr)
	require.Equal(t, []string{"x"}, payloads(b, "a"))
}

// TestRelayTerminated: a relay ends in good order, and its exit code says so.
func TestRelayTerminated(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := fileStore(t)
	p := testenv.Start(t, oncemq(t, "relay", "-L", b.URL(), "--store", store))
	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "a", "-m", "x", "--no-wait")).code)
	require.NoError(t, b.WaitFirstArrivals(within(t, 10*time.Second), 1))
	p.Terminate()
	require.Equal(t, exitDone, p.Wait(10*time.Second), p.Stderr.String())
	require.Empty(t, p.Stderr.String())
	require.Empty(t, p.Stdout.String())
}

// TestRelayTellsLanes: with --debug a relay says which lanes it takes and gives up.
func TestRelayTellsLanes(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	p := testenv.Start(t, oncemq(t, "relay", "-L", b.URL(), "--store", fileStore(t), "--debug"))
	says := func(what string) {
		line, err := p.Stderr.WaitFor(within(t, 10*time.Second), func(line string) bool { return strings.Contains(line, what) })
		require.NoError(t, err)
		require.Contains(t, line, "lane=0")
	}
	says("lane taken")
	p.Terminate()
	says("lane given up")
	require.Equal(t, exitDone, p.Wait(10*time.Second), p.Stderr.String())
}

// TestRelayTakesOver: the relay that holds the lane is killed, and another one
// delivers what comes after.
func TestRelayTakesOver(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := fileStore(t)
	first := testenv.Start(t, oncemq(t, "relay", "-L", b.URL(), "--store", store))
	require.NoError(t, b.Wait(within(t, 10*time.Second), func() bool { return len(b.Connected()) > 0 }))
	second := testenv.Start(t, oncemq(t, "relay", "-L", b.URL(), "--store", store))
	first.Kill()
	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "a", "-m", "x", "--no-wait")).code)
	require.NoError(t, b.WaitFirstArrivals(within(t, 15*time.Second), 1))
	second.Terminate()
	require.Equal(t, exitDone, second.Wait(10*time.Second), second.Stderr.String())
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	store := fileStore(t)
	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "a/\x07b", "-m", "secret", "--no-wait", "--message-id", "m-1")).code)
	require.Equal(t, exitDone, runOnce(t, command("pub", "--store", store, "-t", "c", "-m", "", "--no-wait", "--message-id", "m-2", "-q", "2")).code)

	got := runOnce(t, command("outbox", "list", "--store", store))
	require.Equal(t, exitDone, got.code, got.stderr)
	rows := strings.Split(strings.TrimSpace(got.stdout), "\n")
	require.Len(t, rows, 3)
	require.Equal(t, []string{"LANE", "POSITION", "STATE", "SINCE", "QOS", "BYTES", "ATTEMPTS", "ID", "TOPIC", "REASON"}, strings.Fields(rows[0]))
	first := strings.Fields(rows[1])
	require.Equal(t, []string{"pending", "1", "6", "0", "m-1", "a/\ufffdb"}, []string{first[2], first[4], first[5], first[6], first[7], first[8]})
	require.NotContains(t, got.stdout, "secret")

	got = runOnce(t, command("outbox", "list", "--store", store, "--limit", "1", "--json", "--state", "pending", "--lane", "0"))
	require.Equal(t, 1, strings.Count(got.stdout, "\n"))
	var entry entryObject
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &entry))
	require.Equal(t, "m-1", entry.ID)
	require.Equal(t, "pending", entry.State)
	require.Equal(t, 6, entry.PayloadLen)

	got = runOnce(t, command("outbox", "stats", "--store", store, "--json"))
	var stats statsObject
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &stats))
	require.EqualValues(t, 2, stats.Pending)
	require.Len(t, stats.Lanes, 1)
	got = runOnce(t, command("outbox", "stats", "--store", store))
	require.Contains(t, got.stdout, "pending                      2\n")

	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{Topic: "c", Code: 0x87}}})
	require.Equal(t, exitDone, runOnce(t, command("relay", "--once", "-L", b.URL(), "--store", store)).code)
	got = runOnce(t, command("outbox", "list", "--store", store))
	require.Empty(t, got.stdout)
	got = runOnce(t, command("outbox", "list", "--store", store, "--state", "failed"))
	require.Contains(t, got.stdout, "not authorized (0x87)")
	require.Contains(t, got.stdout, "m-2")
}

// TestOutboxMissingStore: looking makes no store, and a relay does.
func TestOutboxMissingStore(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		url  string // before the directory; empty for the default store
		file string // in it
	}{
		"URL":              {"sqlite://", "/missing.db"},
		"opaque":           {"sqlite:", "/missing.db"},
		"missing folder":   {"sqlite://", "/a/b/missing.db"},
		"options":          {"sqlite://", "/missing.db?lanes=4"},
		"escaped":          {"sqlite://", "/mis%73ing.db"},
		"the default file": {"", "/oncemq/outbox.db"},
	} {
		for _, command := range []string{"stats", "list"} {
			t.Run(name+" "+command, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				v := invocation{args: []string{"outbox", command}, env: []string{"XDG_STATE_HOME=" + dir}}
				if test.url != "" {
					v.args = append(v.args, "--store", test.url+dir+test.file)
				}
				file, _, _ := strings.Cut(strings.ReplaceAll(test.file, "%73", "s"), "?")
				got := runOnce(t, v)
				require.Equal(t, exitStore, got.code, got.stderr)
				require.Equal(t, "oncemq outbox "+command+": --store: there is no store at "+dir+file+"; oncemq pub creates one\n", got.stderr)
				require.Empty(t, got.stdout)
				made, err := os.ReadDir(dir)
				require.NoError(t, err)
				require.Empty(t, made)
			})
		}
	}
	t.Run("relay", func(t *testing.T) {
		t.Parallel()
		b := startBroker(t, brokertest.Options{})
		store := fileStore(t)
		require.Equal(t, exitDone, runOnce(t, command("relay", "--once", "-L", b.URL(), "--store", store)).code)
		got := runOnce(t, command("outbox", "stats", "--store", store))
		require.Equal(t, exitDone, got.code, got.stderr)
	})
}

// TestOutboxBesideRelay: looking does not disturb a relay, nor the other way
// round.
func TestOutboxBesideRelay(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	store := fileStore(t)
	stop := startRelay(t, b, store)
	got := runOnce(t, command("outbox", "stats", "--store", store, "--json"))
	require.Equal(t, exitDone, got.code, got.stderr)
	var stats statsObject
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &stats))
	require.Positive(t, stats.Lanes[0].LeaseRemainingMS)
	stop()
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"--version"}} {
		got := runOnce(t, command(args...))
		require.Equal(t, exitDone, got.code)
		require.True(t, strings.HasPrefix(got.stdout, "oncemq "), got.stdout)
		require.Empty(t, got.stderr)
	}
	got := runOnce(t, command("version", "--json"))
	var b build
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &b))
	require.NotEmpty(t, b.Go)
}
