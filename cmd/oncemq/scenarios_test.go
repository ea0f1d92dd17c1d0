package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/fault/drill"
	"github.com/oncemq/oncemq/internal/testenv"
)

// scenariosScale is the environment variable with the factor of chaos run --scale, which
// has these tests run; make scenarios sets it, and with it make chaos.
const scenariosScale = "ONCEMQ_SCENARIOS_SCALE"

// scenariosLimit bounds a run of all scenarios: at scale 1 they take two minutes.
const scenariosLimit = 10 * time.Minute

// course is all scenarios on a store, through a broker.
type course struct {
	store, broker string
	args          []string
}

// played is what chaos run --json prints of a scenario.
type played struct {
	drill.Result

	Sabotage string `json:"sabotage"`
}

// courses are those of stores and brokers that are named as store/broker.
func courses(t *testing.T, places ...string) (all []course) {
	t.Helper()
	scale := os.Getenv(scenariosScale)
	if scale == "" {
		t.Skip("make scenarios plays all scenarios on all stores; fault/drill plays each once, in short")
	}
	for _, place := range places {
		store, broker, _ := strings.Cut(place, "/")
		all = append(all, course{store, broker, []string{"--scale", scale}})
	}
	return all
}

// play runs oncemq chaos, expects an exit code, and prints what came of it.
func (c *course) play(t *testing.T, code int) []played {
	t.Helper()
	temporary := t.TempDir()
	args := slices.Concat([]string{"chaos", "run", "all", "--json", "--quiet"}, c.args, []string{"--store"})
	switch c.store {
	case "sqlite":
		args = append(args, "sqlite://"+filepath.ToSlash(filepath.Join(t.TempDir(), "any.db")))
	case "postgres":
		args = append(args, testenv.SharedPostgres(t).URL())
	case "redis":
		args = append(args, testenv.SharedRedis(t).URL())
	default:
		t.Fatalf("store %q", c.store)
	}
	if c.broker == "mosquitto" {
		testenv.Program(t, "mosquitto", "mosquitto")
		args = append(args, "--mosquitto")
	}
	cmd := oncemq(t, args...)
	cmd.Env = append(cmd.Env, "TMPDIR="+temporary)
	p := testenv.Start(t, cmd)
	got := p.Wait(scenariosLimit)
	results := make([]played, 0, len(fault.Scenarios()))
	for line := range strings.Lines(p.Stdout.String()) {
		var r played
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		results = append(results, r)
	}
	report(t, c, results)
	require.Equal(t, code, got, "%s\n%s", p.Stdout.String(), p.Stderr.String())
	require.Len(t, results, len(fault.Scenarios()))
	for i, s := range fault.Scenarios() {
		require.Equal(t, s.Name, results[i].Scenario)
	}
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	require.Empty(t, left)
	return results
}

// report prints the sums of a course.
func report(t *testing.T, c *course, results []played) {
	t.Helper()
	var sum drill.Result
	for _, r := range results {
		sum.Seed = r.Seed
		sum.Seconds += r.Seconds
		sum.Sent += r.Sent
		sum.WireDuplicates += r.WireDuplicates
		sum.Suppressed += r.Suppressed
		sum.Reconnects += r.Reconnects
		sum.Lost += r.Lost
		sum.Doubled += r.Doubled
		sum.RecoverySeconds = max(sum.RecoverySeconds, r.RecoverySeconds)
	}
	t.Logf("RESULT %s through %s, %s, seed %d: %d scenarios in %.0f s, %d messages, %d copies on the wire, %d suppressed, "+
		"%d reconnections, slowest recovery %.1f s; %d lost, %d doubled",
		c.store, c.broker, strings.Join(c.args, " "), sum.Seed, len(results), sum.Seconds, sum.Sent, sum.WireDuplicates, sum.Suppressed,
		sum.Reconnects, sum.RecoverySeconds, sum.Lost, sum.Doubled)
}

// TestScenarios: oncemq chaos run all loses nothing and doubles nothing, on any store and
// through either broker, and the faults have struck.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, c := range courses(t, "sqlite/embedded", "sqlite/mosquitto", "postgres/embedded", "postgres/mosquitto", "redis/embedded", "redis/mosquitto") {
		t.Run(c.store+"/"+c.broker, func(t *testing.T) {
			t.Parallel()
			trapped := 0
			for _, r := range c.play(t, exitDone) {
				require.True(t, r.OK, "%+v", r)
				require.Positive(t, r.Sent, "%+v", r)
				require.Equal(t, r.Sent, r.Delivered, "%+v", r)
				require.GreaterOrEqual(t, r.RecoverySeconds, 0.0, "%+v", r)
				switch r.Scenario {
				case "cut", "intermittent", "half-open", "session-forgotten", "broker-restart":
					require.Positive(t, r.Reconnects, "nobody has noticed it: %+v", r)
				case "reset", "lost-puback", "cut-after-pubrec": // what they strike may come late on a busy machine
					trapped += r.Reconnects
				}
			}
			require.Positive(t, trapped, "nothing went into a trap")
		})
	}
}

// TestScenariosSabotaged: without receipts and dedup the same run reports loss and
// doubling, and fails.
func TestScenariosSabotaged(t *testing.T) {
	t.Parallel()
	for _, c := range courses(t, "postgres/embedded", "redis/mosquitto") {
		c.args = append(c.args, "--sabotage", "all")
		t.Run(c.store+"/"+c.broker, func(t *testing.T) {
			t.Parallel()
			lost, doubled := 0, 0
			for _, r := range c.play(t, exitFailed) {
				require.Equal(t, r.Lost == 0 && r.Doubled == 0, r.OK, "%+v", r)
				lost, doubled = lost+r.Lost, doubled+r.Doubled
			}
			require.Positive(t, lost)
			require.Positive(t, doubled)
		})
	}
}
