package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/fault/drill"
	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

func TestChaosBadInput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"", "a command is missing; there are list and run"},
		{"rum", `there is no command "rum"; did you mean run?`},
		{"run", "no scenario is named"},
		{"run ct", `there is no scenario "ct"; did you mean cut?`},
		{"run cut-after-pubrel", `there is no scenario "cut-after-pubrel"; did you mean cut-after-pubrec?`},
		{"run volcano", `there is no scenario "volcano"; oncemq chaos list has them`},
		{"run all cut", "all stands alone"},
		{"run cut --rate 0", "--rate: 0 is out of range; use 1 to 10000"},
		{"run cut --scale 0", "--scale: 0 is not a factor; use a number from 0.01 to 100"},
		{"run cut --scale NaN", `--scale: "NaN" is not a factor`},
		{"run cut --seed -1", "--seed: -1 is not a seed"},
		{"run cut --limit 0", "--limit: is zero; use a time above it"},
		{"run cut --limit 10ms", "--limit: 10ms is too short"},
		{"run cut --sabotage=broker", `--sabotage: "broker" is not a choice; use receipts, dedup or all`},
		{"run cut --store redis://a --store redis://b", "--store: is given twice, and not with the same value"},
		{"run cut --broker mqtt://a --broker mqtt://b", "--url: is given several times; one run has one broker"},
		{"run cut --broker mqtt://a --mosquitto", "--mosquitto: cannot stand beside a broker that is named"},
		{"run cut -u ann", "--username: needs --url or --host beside it"},
		{"run cut --cafile x", "--cafile: needs --url or --host beside it"},
		{"run cut -p 1884 --mosquitto", "--mosquitto: cannot stand beside a broker that is named"},
		{"run cut --restart-command true", "--restart-command: needs --url or --host"},
		{"run cut --broker http://a", `--url: broker scheme "http" is unknown`},
		{"run cut --broker mqtt://a/topic", "--url: has a topic; topics are made for each run"},
		{"run cut --broker mqtt://a --cafile x", "--url: does not ask for TLS, and a TLS option is given; use mqtts://"},
		{"run broker-restart --broker mqtt://127.0.0.1:1", "broker-restart: the broker that was named is not ours to restart; use --restart-command"},
		{"run cut --store mysql://secret@a", `--store: invalid argument: store scheme "mysql" is unknown`},
		{"list cut", `unexpected argument "cut"`},
	} {
		got := runOnce(t, command(append([]string{"chaos"}, strings.Fields(c.args)...)...))
		require.Equal(t, exitUsage, got.code, c.args+got.stderr)
		require.Contains(t, got.lastLine(), c.want, c.args)
		require.Empty(t, got.stdout)
		require.NotContains(t, got.stderr, "secret")
	}
}

func TestChaosList(t *testing.T) {
	t.Parallel()
	got := runOnce(t, command("chaos", "list"))
	require.Equal(t, exitDone, got.code)
	objects := runOnce(t, command("chaos", "list", "--json"))
	require.Equal(t, exitDone, objects.code)
	decoder := json.NewDecoder(strings.NewReader(objects.stdout))
	for _, s := range fault.Scenarios() {
		require.Contains(t, got.stdout, s.Name+" ")
		require.Contains(t, got.stdout, s.Summary)
		var o scenarioObject
		require.NoError(t, decoder.Decode(&o))
		require.Equal(t, s.Name, o.Name)
	}
}

// The exit code is the verdict; an object a scenario is on stdout, and nothing is
// left behind.
func TestChaosRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args    string
		code    int
		damaged bool
	}{
		{"reset lost-puback reset --seed 7", exitDone, false},
		{"lost-puback --sabotage all", exitFailed, true},
		{"--sabotage lost-puback --mosquitto", exitFailed, true},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir()
			cmd := oncemq(t, append(append([]string{"chaos", "run"}, strings.Fields(c.args)...), "--json", "--scale", "0.15", "--rate", "200")...)
			cmd.Env = append(cmd.Env, "TMPDIR="+folder)
			p := testenv.Start(t, cmd)
			require.Equal(t, c.code, p.Wait(60*time.Second), p.Stderr.String())
			var names []string
			for line := range strings.Lines(p.Stdout.String()) {
				var r struct {
					Scenario            string
					Seed                uint64
					Sent, Lost, Doubled int
					OK                  bool
				}
				require.NoError(t, json.Unmarshal([]byte(line), &r))
				names = append(names, r.Scenario)
				require.Positive(t, r.Sent)
				require.Equal(t, c.damaged, !r.OK)
				require.Equal(t, c.damaged, r.Doubled > 0, line)
				if strings.Contains(c.args, "--seed") {
					require.EqualValues(t, 7, r.Seed)
				}
			}
			if !c.damaged {
				require.Equal(t, []string{"reset", "lost-puback"}, names)
				require.Contains(t, p.Stderr.String(), "2 scenarios through the embedded broker, seed 7")
			}
			require.NotContains(t, p.Stderr.String(), "\x1b", "stderr is no terminal")
			left, err := os.ReadDir(folder)
			require.NoError(t, err)
			require.Empty(t, left)
		})
	}
}

// An interrupt ends it with the shell's code; neither a file nor the broker is left.
func TestChaosInterrupted(t *testing.T) {
	t.Parallel()
	testenv.Program(t, "mosquitto", "mosquitto")
	folder := t.TempDir()
	cmd := oncemq(t, "chaos", "run", "all", "--mosquitto")
	cmd.Env = append(cmd.Env, "TMPDIR="+folder)
	p := testenv.Start(t, cmd)
	var port string
	require.Eventually(t, func() bool {
		stores, _ := filepath.Glob(filepath.Join(folder, "*", "*.db"))
		configs, _ := filepath.Glob(filepath.Join(folder, "*", "mosquitto.conf"))
		if len(stores) == 0 || len(configs) == 0 {
			return false
		}
		text, err := os.ReadFile(configs[0])
		if err != nil {
			return false
		}
		port = strings.Fields(string(text))[1]
		return true
	}, 20*time.Second, 10*time.Millisecond)
	p.Interrupt()
	require.Equal(t, 130, p.Wait(20*time.Second), p.Stderr.String())
	require.Contains(t, p.Stderr.String(), "ended by signal interrupt\n")
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Empty(t, left)
	_, err = new(net.Dialer).DialContext(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
	require.Error(t, err, "mosquitto still runs")
}

// refuser makes a refusal of each SUBACK.
type refuser struct{}

func (refuser) Packet(_ int, _ fault.Direction, packet []byte) (forward []byte, cut bool) {
	if fault.TypeOf(packet) == fault.SUBACK {
		packet[len(packet)-1] = 0x87
	}
	return packet, false
}

func (refuser) Closed(int) {}

// A broker that refuses is told by its reason and its code, and nothing that it has
// refused is called lost.
func TestChaosRefused(t *testing.T) {
	t.Parallel()
	fewer := []string{"--scale", "0.1", "--limit", "20s", "--json"}
	for name, c := range map[string]struct {
		options brokertest.Options
		code    int
		stderr  string
	}{
		"messages":      {brokertest.Options{Answers: []brokertest.Answer{{Topic: "oncemq-chaos/#", Code: 0x87}}}, exitFailed, ""},
		"subscriptions": {brokertest.Options{}, exitRefused, "not authorized"},
		"login":         {brokertest.Options{Credentials: map[string]string{"ann": "x"}}, exitRefused, "bad user name or password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front := fault.StartMQTT(t, startBroker(t, c.options).Addr())
			if name == "subscriptions" {
				front.Inspect(refuser{})
			}
			got := runOnce(t, command(append([]string{"chaos", "run", "reset", "-L", front.URL()}, fewer...)...))
			require.Equal(t, c.code, got.code, got.stderr)
			if c.stderr != "" {
				require.Contains(t, got.lastLine(), c.stderr)
				require.NotContains(t, got.stderr, "--broker")
				require.Empty(t, got.stdout)
				return
			}
			r := objects[drill.Result](t, got.stdout)
			require.Len(t, r, 1)
			require.Positive(t, r[0].Failed)
			require.Equal(t, r[0].Sent, r[0].Failed)
			require.Zero(t, r[0].Lost)
			require.Equal(t, drill.StateFailed, r[0].State)
			require.Contains(t, r[0].Reason, "not authorized")
		})
	}
}

// A restart command that fails is the reason, with what it has said, and its exit code
// is not ours: 27 would be the time-out of -W.
func TestChaosRestartCommandFails(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	got := runOnce(t, command("chaos", "run", "broker-restart", "--scale", "0.01", "-L", b.URL(), "--restart-command", "echo boo >&2; exit 27"))
	require.Equal(t, exitFailed, got.code, got.stderr)
	require.Contains(t, got.lastLine(), "restart command: exit status 27: boo")
}

// A run in which nothing was sent shows nothing, and is no success.
func TestChaosOfNothing(t *testing.T) {
	t.Parallel()
	got := runOnce(t, command("chaos", "run", "cut", "--scale", "0.01", "--rate", "1", "--json", "--store", "memory:"))
	require.Equal(t, exitFailed, got.code, got.stderr)
	require.Contains(t, got.lastLine(), "cut: nothing was sent, which shows nothing; raise --rate or --scale")
	r := objects[drill.Result](t, got.stdout)
	require.Len(t, r, 1)
	require.Zero(t, r[0].Sent)
	require.False(t, r[0].OK)
	require.Equal(t, "idle", r[0].State)
}

// A broker that cannot be used is known at once, with its own address and the reason.
func TestChaosBrokerOfNoUse(t *testing.T) {
	t.Parallel()
	old := brokertest.Listen(t)
	old.Script(func(c *brokertest.Conn) {
		if _, err := c.ReadPacket(context.Background()); err == nil {
			c.SendRaw([]byte{0x20, 2, 0, 1}) // CONNACK of MQTT 3.1.1: the version is not acceptable
		}
		c.Close()
	})
	got := runOnce(t, command("chaos", "run", "cut", "-L", old.URL()))
	require.Equal(t, exitFailed, got.code, got.stderr)
	require.Contains(t, got.lastLine(), old.Addr())
	require.Contains(t, got.lastLine(), "MQTT 3.1.1")
}

// A reader that has gone ends chaos, and its neighbours, without a word.
func TestChaosClosedPipe(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"chaos run cut --scale 0.01 --quiet", "chaos run cut --scale 0.01 --quiet --json", "chaos list", "chaos list --json",
		"bench store -L 10", "bench store -L 10 --json", "completion bash", "completion zsh", "completion fish",
	} {
		r, w := io.Pipe()
		_ = r.CloseWithError(syscall.EPIPE)
		var stderr strings.Builder
		env := []string{"XDG_STATE_HOME=" + t.TempDir()}
		code := run(within(t, 30*time.Second), append([]string{"oncemq"}, strings.Fields(args)...), env, strings.NewReader(""), w, &stderr)
		require.Equal(t, exitFailed, code, args)
		require.Empty(t, stderr.String(), args)
	}
}
