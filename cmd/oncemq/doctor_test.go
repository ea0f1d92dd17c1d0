package main

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/doctor"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// TestDoctorExitCodes: 0 for a good broker and store, 1 for a promise that does not
// hold, 4 and 5 for what cannot be used.
func TestDoctorExitCodes(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	forgetful := startBroker(t, brokertest.Options{ForgetSessions: true})
	refusing := startBroker(t, brokertest.Options{Credentials: map[string]string{}})
	for name, c := range map[string]struct {
		args []string
		code int
		says string
	}{
		"all is fine":          {[]string{"-L", m.URL()}, exitDone, "every promise that was looked at holds"},
		"restart that fails":   {[]string{"-L", m.URL(), "--no-store", "--restart-command", "exit 7"}, exitFailed, "exit status 7"},
		"no sessions":          {[]string{"-L", forgetful.URL(), "--no-store"}, exitFailed, "does not hold: exactly-once, away"},
		"a refusal":            {[]string{"-L", refusing.URL()}, exitRefused, "the broker cannot be used"},
		"nobody":               {[]string{"-L", nobody}, exitRefused, "the broker cannot be used"},
		"a store without file": {[]string{"--no-broker", "--store", "sqlite:///dev/null/x"}, exitStore, "the store cannot be used"},
		"a store alone":        {[]string{"--no-broker"}, exitDone, "there is no store yet"},
		"nothing":              {[]string{"--no-broker", "--no-store"}, exitUsage, "--no-broker: cannot stand beside --no-store"},
		"restart without":      {[]string{"--no-broker", "--restart-command", "x"}, exitUsage, "--restart-command: cannot stand"},
		"a bad URL":            {[]string{"--no-broker", "--store", "x:"}, exitUsage, "--store: "},
		"a bad prefix":         {[]string{"--topic-prefix", "a/#"}, exitUsage, "TopicPrefix: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command(append([]string{"doctor", "--quick"}, c.args...)...))
			require.Equal(t, c.code, got.code, got.stdout+got.stderr)
			require.Contains(t, got.stdout+got.stderr, c.says)
			if c.code != exitUsage {
				require.Empty(t, got.stderr)
			}
		})
	}
}

// TestDoctorJSON: one object with findings, promises and a verdict.
func TestDoctorJSON(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "store.db")
	require.Equal(t, exitDone, runOnce(t, command("store", "migrate", "--store", "sqlite://"+file)).code)
	got := runOnce(t, command("doctor", "--no-broker", "--store", "sqlite://"+file, "--json"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, 1, strings.Count(got.stdout, "\n"))
	var r doctor.Report
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &r))
	require.NotNil(t, r.Finding("store.transactions"))
	require.NotEmpty(t, r.Verdict)
	require.Len(t, r.Promises, 8)
}

// TestDoctorColumns: the longest name leaves a gap before the text.
func TestDoctorColumns(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"store.synchronous-standby-names", "a.name-that-is-longer-than-the-column-is-wide"} {
		table := table{}
		table.row("warn", id, "none")
		require.Regexp(t, `^warn +`+id+` +none\n$`, table.b.String())
	}
}

// TestDoctorTable: lines fit into 40 columns, and colour does not count.
func TestDoctorTable(t *testing.T) {
	t.Parallel()
	for _, coloured := range []bool{false, true} {
		table := table{width: 40, coloured: coloured}
		table.row("warn", "broker.maximum-packet-size", "packets of 3000 bytes at most; what is larger becomes a dead letter")
		table.row("", "", "→ let the application bound its messages, or raise the broker's maximum packet size")
		text := table.b.String()
		require.Equal(t, coloured, strings.Contains(text, "\x1b[33m"))
		text = strings.NewReplacer("\x1b[33m", "", "\x1b[0m", "").Replace(text)
		for line := range strings.Lines(text) {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), 40, line)
		}
		require.Contains(t, text, "warn  broker.maximum-packet-size\n      packets of 3000 bytes at most;\n      what is larger becomes a dead\n")
	}
}
