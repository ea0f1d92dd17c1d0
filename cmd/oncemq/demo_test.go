package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/urfave/cli/v2"

	"github.com/oncemq/oncemq/fault/drill"
	"github.com/oncemq/oncemq/internal/demo"
	"github.com/oncemq/oncemq/internal/testenv"
)

// parseDemo reads a command line of demo and does not play it.
func parseDemo(args ...string) (*demoOptions, error) {
	o := new(demoOptions)
	app := &cli.App{
		Commands:       []*cli.Command{{Name: "demo", Flags: toFlags(o.options()), Action: nothing}},
		ExitErrHandler: func(*cli.Context, error) {},
	}
	prepare(app.Commands)
	r, err := readArgs(app, append([]string{"oncemq", "demo"}, args...))
	if err != nil {
		return nil, err
	}
	return o, app.Run(r.args)
}

// --sabotage may stand alone, with a value behind it, or with "=".
func TestDemoSabotageForms(t *testing.T) {
	t.Parallel()
	both := drill.Sabotage{Receipts: true, Dedup: true}
	for _, c := range []struct {
		args string
		want drill.Sabotage
		json bool
	}{
		{"", drill.Sabotage{}, false},
		{"--json", drill.Sabotage{}, true},
		{"--sabotage", both, false},
		{"--sabotage --json", both, true},
		{"--json --sabotage", both, true},
		{"--sabotage receipts", drill.Sabotage{Receipts: true}, false},
		{"--sabotage receipts --json", drill.Sabotage{Receipts: true}, true},
		{"--sabotage=receipts --json", drill.Sabotage{Receipts: true}, true},
		{"--sabotage dedup", drill.Sabotage{Dedup: true}, false},
		{"--sabotage=dedup", drill.Sabotage{Dedup: true}, false},
		{"--sabotage both", both, false},
		{"--sabotage=both", both, false},
	} {
		o, err := parseDemo(strings.Fields(c.args)...)
		require.NoError(t, err, c.args)
		require.Equal(t, c.want, o.sabotage, c.args)
		require.Equal(t, c.json, o.json, c.args)
	}
}

func TestDemoOptions(t *testing.T) {
	t.Parallel()
	o, err := parseDemo("--messages", "300", "--kills=4", "--seed", "7", "--keep", "--quiet")
	require.NoError(t, err)
	require.Equal(t, 300, o.messages)
	require.Equal(t, 4, o.kills)
	require.EqualValues(t, 7, *o.seed)
	require.True(t, o.keep && o.quiet)

	o, err = parseDemo()
	require.NoError(t, err)
	require.Equal(t, demo.DefaultMessages, o.messages)
	require.Equal(t, demo.DefaultKills, o.kills)
	require.Nil(t, o.seed)
}

func TestDemoBadInput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"--sabotage broker", `--sabotage: "broker" is not a choice; use receipts, dedup or both`},
		{"--sabotage=broker", `--sabotage: "broker" is not a choice; use receipts, dedup or both`},
		{"--messages many", `--messages: "many" is not a whole number`},
		{"--messages 0", "--messages: 0 is out of range; use 1 to 100000"},
		{"--messages 10", "messages: 10 is out of range; use 80 to 100000 with 3 kills"},
		{"--kills 0", "--kills: 0 is out of range; use 1 to 10"},
		{"--seed -1", "--seed: -1 is not a seed; use a whole number from 0 up"},
		{"receipts", `unexpected argument "receipts"`},
		{"--sabotage dedup receipts", `unexpected argument "receipts"`},
	} {
		got := runOnce(t, command(append([]string{"demo"}, strings.Fields(c.args)...)...))
		require.Equal(t, exitUsage, got.code, c.args)
		require.Contains(t, got.lastLine(), c.want, c.args)
		require.Equal(t, 1, strings.Count(got.stderr, "\n"), got.stderr)
		require.Empty(t, got.stdout)
	}
}

// The demo of the real binary, whose replicas are processes of it: the exit code
// is the verdict, the counts are on stdout, and nothing is left behind.
func TestDemo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		code int
	}{
		{"whole", nil, exitDone},
		{"sabotaged", []string{"--sabotage"}, exitFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			cmd := oncemq(t, append([]string{"demo", "--messages", "200", "--json"}, c.args...)...)
			cmd.Env = append(cmd.Env, "TMPDIR="+folder)
			p := testenv.Start(t, cmd)
			require.Equal(t, c.code, p.Wait(30*time.Second), p.Stderr.String())
			var counts struct {
				Enqueued, Effects, Lost, Doubled int
				OK                               bool
			}
			require.NoError(t, json.Unmarshal([]byte(p.Stdout.String()), &counts))
			require.Equal(t, 200, counts.Enqueued)
			require.Equal(t, c.code == exitDone, counts.OK)
			require.Equal(t, c.code != exitDone, counts.Lost > 0, "%+v", counts)
			require.Equal(t, c.code != exitDone, counts.Doubled > 0, "%+v", counts)
			require.Contains(t, p.Stderr.String(), "broker killed (3 of 3)")
			require.NotContains(t, p.Stderr.String(), "\x1b", "stderr is no terminal")
			left, err := os.ReadDir(folder)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// An interrupt ends the demo with 1, and its folder is gone.
func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	cmd := oncemq(t, "demo")
	cmd.Env = append(cmd.Env, "TMPDIR="+folder)
	p := testenv.Start(t, cmd)
	require.Eventually(t, func() bool { return strings.Contains(p.Stderr.String(), "broker killed (1 of 3)") },
		20*time.Second, 10*time.Millisecond)
	p.Interrupt()
	require.Equal(t, exitFailed, p.Wait(5*time.Second))
	require.True(t, strings.HasSuffix(p.Stderr.String(), "oncemq demo: interrupted\n"), p.Stderr.String())
	require.Empty(t, p.Stdout.String())
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, left)
}
