package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/qos"
	"github.com/oncemq/oncemq/qos/comparison"
)

// objects are the lines of JSON of an output.
func objects[T any](t *testing.T, text string) []T {
	t.Helper()
	var all []T
	for line := range strings.Lines(text) {
		var v T
		require.NoError(t, json.Unmarshal([]byte(line), &v), line)
		all = append(all, v)
	}
	return all
}

// The levels are compared over a broker that the user names, below the user's
// topic, and nothing else is on standard output.
func TestQoS(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{"ann": "secret"}})
	got := runOnce(t, command("qos", "--broker", b.URL(), "-u", "ann", "-P", "secret", "--messages", "20", "--rate", "5000",
		"--link", "plain", "-t", "lab", "--json"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Empty(t, got.stderr)
	results := objects[comparison.Result](t, got.stdout)
	require.Len(t, results, 3)
	for level, r := range results {
		require.Equal(t, qos.Level(level), r.Level)
		require.Equal(t, comparison.Counts{Sent: 20, Confirmed: 20}, r.Counts)
		require.Equal(t, []int{0, 20, 60}[level], r.Handshake)
		require.Positive(t, r.Latency.P50)
	}
	require.NotEmpty(t, b.Arrivals())
	for _, a := range b.Arrivals() {
		require.True(t, strings.HasPrefix(a.Packet.Topic, "lab/"), a.Packet.Topic)
	}
}

// Without a broker one is started; the table is as wide as a narrow terminal.
func TestQoSOwnBroker(t *testing.T) {
	t.Parallel()
	// What leads to other brokers does not lead to this one.
	got := runOnce(t, command("qos", "--messages", "3", "--link", "plain", "--proxy", "socks5h://127.0.0.1:1", "-u", "x"))
	require.Equal(t, exitDone, got.code, got.stderr)
	for _, args := range [][]string{{"--link", "plain"}, {"--persistent-session"}} {
		got := runOnce(t, command(append([]string{"qos", "--messages", "3", "--quiet-time", "300ms"}, args...)...))
		require.Equal(t, exitDone, got.code, got.stderr)
		require.Empty(t, got.stderr)
		require.Contains(t, got.stdout, "lost")
		require.NotContains(t, got.stdout, "\x1b")
		for line := range strings.Lines(got.stdout) {
			require.LessOrEqual(t, len(strings.TrimSuffix(line, "\n")), 40)
		}
	}
}

// A broker that refuses is exit code 4.
func TestQoSRefused(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Credentials: map[string]string{"ann": "secret"}})
	got := runOnce(t, command("qos", "--broker", b.URL(), "-u", "ann", "-P", "wrong"))
	require.Equal(t, exitRefused, got.code, got.stderr)
	require.NotContains(t, got.stderr, "wrong")
	require.Empty(t, got.stdout)
}

// What --advise prints is what --policy reads.
func TestQoSAdvise(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	needs, policies := filepath.Join(folder, "needs.yaml"), filepath.Join(folder, "policies.yaml")
	require.NoError(t, os.WriteFile(needs, []byte("topics:\n  - filter: '#'\n    loss_tolerable: true\n  - filter: alerts/#\n"), 0o600))
	got := runOnce(t, command("qos", "--advise", needs))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.NoError(t, os.WriteFile(policies, []byte(got.stdout), 0o600))
	read, err := readPolicies(t.Context(), policies)
	require.NoError(t, err)
	require.Equal(t, "alerts/#", read.Rules[0].Filter, "the narrower one first")

	got = runOnce(t, command("qos", "--advise", needs, "--json"))
	advice := objects[adviceObject](t, got.stdout)
	require.Len(t, advice, 2)
	require.EqualValues(t, 2, advice[0].Level)
	require.Equal(t, []string{"loss"}, advice[1].Tolerates)
	require.Equal(t, "drop-oldest", advice[1].WhenFull)

	b := startBroker(t, brokertest.Options{})
	got = runOnce(t, command("pub", "--broker", b.URL(), "--store", fileStore(t), "--policy", policies, "-t", "alerts/1", "-m", "x"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.EqualValues(t, 2, b.FirstArrivals("alerts/1")[0].Packet.QoS)
}

// A broker that takes the connection and says nothing is named.
func TestQoSSilentBroker(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--persistent-session"}} {
		silent := brokertest.Listen(t)
		silent.Script(func(c *brokertest.Conn) { _, _ = c.ReadPacket(t.Context()) })
		args = append([]string{"qos", "-L", silent.URL(), "--timeout", "0.2", "--quiet-time", "0.1"}, args...)
		got := runOnce(t, command(args...))
		require.Equal(t, exitFailed, got.code, got.stderr)
		require.Contains(t, got.lastLine(), silent.Addr())
		require.Contains(t, got.lastLine(), "200ms")
	}
}

func TestQoSBadInput(t *testing.T) {
	t.Parallel()
	needs := filepath.Join(t.TempDir(), "needs.yaml")
	require.NoError(t, os.WriteFile(needs, []byte("topics:\n  - filter: a\n    los_tolerable: true\n"), 0o600))
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--messages", "0"}, "--messages: 0 is out of range; use 1 to 100000"},
		{[]string{"--rate", "x"}, `--rate: "x" is not a whole number`},
		{[]string{"--cut-every", "2"}, "--cut-every: 2 is out of range; use 10 to 1000000"},
		{[]string{"--link", "slow"}, `--link: "slow" is not a choice; use plain, faulty or both`},
		{[]string{"--timeout", "0"}, "--timeout: is zero; use a time above it"},
		{[]string{"--quiet-time", "0s"}, "--quiet-time: is zero; use a time above it"},
		{[]string{"--timeout", "1ms"}, "timeout: 1ms is too short; use 100ms or more"},
		{[]string{"--broker", "mqtt://a", "--broker", "mqtt://b"}, "broker: there are several; packets are counted on the way to one, so name one"},
		{[]string{"-t", "a/+"}, "has the wildcard"},
		{[]string{"--advise", needs}, needs + ":3: los_tolerable: is not a known field; did you mean loss_tolerable?"},
		{[]string{"--advise", needs + "x"}, "--advise: open "},
		{[]string{"--advise", needs, "--persistent-session"}, "--advise: cannot stand beside --persistent-session"},
		{[]string{"--cut-evry", "20"}, "did you mean --cut-every?"},
		{[]string{"extra"}, `unexpected argument "extra"`},
	} {
		got := runOnce(t, command(append([]string{"qos"}, c.args...)...))
		require.Equal(t, exitUsage, got.code, "%s: %s", c.args, got.stderr)
		require.Contains(t, got.lastLine(), c.want)
		require.Equal(t, 1, strings.Count(got.stderr, "\n"), got.stderr)
		require.Empty(t, got.stdout)
	}
}
