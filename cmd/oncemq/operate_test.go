package main

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

func TestOutboxShowAndPurge(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, url string) {
		t.Helper()
		for _, id := range []string{"m-1", "m-2", "m-3"} {
			got := runOnce(t, command("pub", "-L", nobody, "--no-wait", "--store", url, "-t", "a/"+id, "-m", "text of "+id, "--message-id", id, "-H", "n=v"))
			require.Equal(t, exitDone, got.code, got.stderr)
		}
		outbox := func(args ...string) outcome {
			return runOnce(t, command(append([]string{"outbox", args[0], "--store", url}, args[1:]...)...))
		}
		got := outbox("show", "m-2")
		require.Equal(t, exitDone, got.code, got.stderr)
		for _, row := range []string{`state +pending`, `id +m-2`, `topic +a/m-2`, `qos +1`, `user property +n=v`, `payload bytes +11`, `\n\ntext of m-2\n$`} {
			require.Regexp(t, row, got.stdout)
		}
		var shown map[string]any
		got = outbox("show", "m-2", "--json")
		require.NoError(t, json.Unmarshal([]byte(got.stdout), &shown))
		require.Equal(t, "text of m-2", shown["payload"])
		require.Equal(t, map[string]any{"user-properties": map[string]any{"n": "v"}}, shown["properties"])
		require.Equal(t, "text of m-2", outbox("show", "m-2", "-o", "raw").stdout)
		require.Equal(t, "m-2 a/m-2\n", outbox("show", "m-2", "-F", "%i %t").stdout)

		// The command line goes before the environment.
		inJSON := func(args ...string) string {
			args = append([]string{"outbox", "show", "m-2", "--store", url}, args...)
			return runOnce(t, invocation{args: args, env: []string{"ONCEMQ_JSON=true"}}).stdout
		}
		require.Contains(t, inJSON(), `"payload":"text of m-2"`)
		require.Equal(t, "text of m-2", inJSON("-o", "raw"))
		require.Equal(t, "m-2 a/m-2\n", inJSON("-F", "%i %t"))

		got = outbox("show", "m-9")
		require.Equal(t, exitFailed, got.code)
		require.Equal(t, "oncemq outbox show: there is no message \"m-9\" in the outbox\n", got.stderr)
		require.Equal(t, exitUsage, outbox("show").code)
		require.Equal(t, exitUsage, outbox("show", "m-1", "m-2").code)

		got = outbox("purge")
		require.Equal(t, exitUsage, got.code)
		require.Contains(t, got.stderr, "nothing says which messages to delete; give one of --state, --lane, --limit, or --all")
		require.Equal(t, exitUsage, outbox("purge", "--all", "--limit", "1").code)
		require.Contains(t, outbox("purge", "--lane", "99").stderr, "--lane: 99 is no lane of this store; it has ")
		require.Equal(t, "purged 0\n", outbox("purge", "--state", "delivered").stdout)
		require.Equal(t, "purged 1\n", outbox("purge", "--limit", "1", "--lane", "0").stdout)
		require.Equal(t, exitFailed, outbox("show", "m-1").code, "the oldest goes first")
		require.JSONEq(t, `{"purged":2}`, outbox("purge", "--all", "--json").stdout)
		require.Empty(t, outbox("list").stdout)
	})
}

// What stands behind -- is no option, whatever it begins with.
func TestArgumentsBehindDashes(t *testing.T) {
	t.Parallel()
	store := fileStore(t)
	got := runOnce(t, command("pub", "-L", nobody, "--no-wait", "--store", store, "-t", "a", "-m", "x", "--message-id", "-5"))
	require.Equal(t, exitDone, got.code, got.stderr)
	for _, c := range []struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{[]string{"outbox", "show", "--store", store, "-F", "%i", "--", "-5"}, exitDone, "-5\n", ""},
		{[]string{"outbox", "show", "--store", store, "--", "-5", "-6"}, exitUsage, "", `unexpected argument -6; one ID is enough`},
		{[]string{"outbox", "show", "--store", store, "--"}, exitUsage, "", "the ID of a message is missing"},
		{[]string{"dedup", "forget", "--store", store, "--group", "g", "--", "-5", "--json", "--"}, exitDone, "forgotten 0 of 3\n", ""},
		{[]string{"dedup", "forget", "--store", store, "--group", "g", "a", "--", "-5"}, exitDone, "forgotten 0 of 2\n", ""},
		{[]string{"outbox", "list", "--store", store, "--", "-5"}, exitUsage, "", "unexpected argument -5; every value belongs to an option"},
		{[]string{"version", "--"}, exitDone, "", ""},
	} {
		got := runOnce(t, command(c.args...))
		require.Equal(t, c.code, got.code, "%s: %s", c.args, got.stderr)
		if c.stdout != "" {
			require.Equal(t, c.stdout, got.stdout, c.args)
		}
		require.Contains(t, got.stderr, c.stderr)
	}
}

// A key that was forgotten is processed again.
func TestDedupForget(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, url string) {
		t.Helper()
		hear := func(n string) string {
			l := listen(t, brokertest.Options{}, "-i", "c", "--store", url, "--group", "g", "-t", "a", "-C", n, "-W", "20")
			for _, m := range []string{"m-1", "m-2"} {
				got := runOnce(t, command("pub", "-L", l.broker.URL(), "--store", "memory:", "-t", "a", "-m", m, "--message-id", m))
				require.Equal(t, exitDone, got.code, got.stderr)
			}
			got := l.wait(t)
			require.Equal(t, exitDone, got.code, got.stderr)
			return got.stdout
		}
		require.Equal(t, "m-1\nm-2\n", hear("2"))
		dedup := func(args ...string) outcome {
			return runOnce(t, command(append([]string{"dedup", args[0], "--store", url}, args[1:]...)...))
		}
		require.Regexp(t, `processed keys +2\nkeys in work +0\n`, dedup("stats").stdout)
		require.JSONEq(t, `{"completed":2,"in_work":0,"consumer_dead":0}`, dedup("stats", "--json").stdout)

		require.Contains(t, dedup("forget", "m-1").stderr, "--group: is missing; name the group that is to forget")
		require.Contains(t, dedup("forget", "--group", "g").stderr, "the KEYs to forget are missing")
		require.Equal(t, "forgotten 0 of 1\n", dedup("forget", "--group", "other", "m-2").stdout)
		require.Equal(t, "forgotten 1 of 2\n", dedup("forget", "--group", "g", "m-2", "m-9").stdout)
		require.Equal(t, "m-2\n", hear("1"), "the other is a duplicate")
	})
}
