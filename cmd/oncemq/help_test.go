package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestHelp compares the help of every command with testdata. To renew the files
// run the tests with ONCEMQ_UPDATE_GOLDEN=1, and read what has changed.
func TestHelp(t *testing.T) {
	t.Parallel()
	for file, args := range map[string][]string{
		"help":              {"help"},
		"help-demo":         {"demo", "--help"},
		"help-chaos":        {"chaos", "--help"},
		"help-chaos-list":   {"chaos", "list", "--help"},
		"help-chaos-run":    {"help", "chaos", "run"},
		"help-pub":          {"pub", "--help"},
		"help-sub":          {"help", "sub"},
		"help-rr":           {"rr", "--help"},
		"help-relay":        {"relay", "--help"},
		"help-outbox":       {"outbox", "--help"},
		"help-outbox-stats": {"outbox", "stats", "--help"},
		"help-outbox-list":  {"help", "outbox", "list"},
		"help-outbox-show":  {"outbox", "show", "--help"},
		"help-outbox-retry": {"outbox", "retry", "--help"},
		"help-outbox-purge": {"outbox", "purge", "--help"},
		"help-dead":         {"dead", "--help"},
		"help-dead-list":    {"dead", "list", "--help"},
		"help-dead-show":    {"help", "dead", "show"},
		"help-dead-retry":   {"dead", "retry", "--help"},
		"help-dead-purge":   {"dead", "purge", "--help"},
		"help-dedup":        {"dedup", "--help"},
		"help-dedup-stats":  {"dedup", "stats", "--help"},
		"help-dedup-forget": {"dedup", "forget", "--help"},
		"help-store":        {"store", "--help"},
		"help-store-check":  {"store", "check", "--help"},
		"help-status":       {"status", "--help"},
		"help-qos":          {"qos", "--help"},
		"help-doctor":       {"doctor", "--help"},
		"help-bench":        {"bench", "--help"},
		"help-bench-pub":    {"bench", "pub", "--help"},
		"help-bench-sub":    {"bench", "sub", "--help"},
		"help-bench-e2e":    {"help", "bench", "e2e"},
		"help-bench-store":  {"bench", "store", "--help"},
		"help-completion":   {"completion", "--help"},
		"help-man":          {"man", "--help"},
		"help-version":      {"version", "--help"},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command(args...))
			require.Equal(t, exitDone, got.code)
			require.Empty(t, got.stderr)
			path := filepath.Join("testdata", file+".txt")
			if os.Getenv("ONCEMQ_UPDATE_GOLDEN") == "1" {
				require.NoError(t, os.MkdirAll("testdata", 0o750))
				require.NoError(t, os.WriteFile(path, []byte(got.stdout), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), got.stdout)
		})
	}
}

// TestOptionsAreSound: no two options of a command share a name, no letter of
// mosquitto's has another meaning, and every option has a help.
func TestOptionsAreSound(t *testing.T) {
	t.Parallel()
	// The letters of mosquitto_pub and mosquitto_sub, by our long names.
	letters := map[string]string{
		"c": "keep-session", "C": "count", "d": "debug", "D": "property", "E": "exit-after-suback", "f": "file", "F": "format",
		"h": "host", "i": "client-id", "I": "id-prefix", "k": "keepalive", "l": "stdin-line", "L": "url", "m": "message",
		"M": "max-inflight", "n": "null-message", "N": "no-eol", "p": "port", "P": "pw", "q": "qos", "r": "retain",
		"R": "no-retained", "s": "stdin-file", "t": "topic", "T": "filter-out", "u": "username", "v": "verbose",
		"V": "mqtt-version", "W": "wait", "x": "session-expiry", "A": "bind-address", "S": "srv", "U": "unsubscribe",
		// Free in mosquitto's, and MQTTX's or HiveMQ's.
		"e": "expiry", "H": "user-property", "o": "output",
	}
	for _, c := range newApp(&shell{}).Commands {
		letters["e"] = "expiry"
		if c.Name == "rr" {
			letters["e"] = "response-topic" // mosquitto_rr's
		}
		names := make(map[string]bool)
		env := make(map[string]bool)
		for _, o := range optionsOf(c) {
			for _, n := range append([]string{o.name}, o.also...) {
				require.Falsef(t, names[n], "%s has two options %s", c.Name, n)
				names[n] = true
				if len(n) == 1 {
					require.Equalf(t, letters[n], o.name, "-%s of %s", n, c.Name)
				}
			}
			require.NotEmptyf(t, o.usage, "--%s of %s has no help", o.name, c.Name)
			if o.env != "" {
				require.Falsef(t, env[o.env], "%s has two options of $%s", c.Name, o.env)
				require.True(t, strings.HasPrefix(o.env, "ONCEMQ_"))
				env[o.env] = true
			}
		}
	}
}
