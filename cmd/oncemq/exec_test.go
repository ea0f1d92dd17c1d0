package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// script writes a shell script that a command of a test runs.
func script(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "command.sh")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return "exec /bin/sh " + file
}

// eventually waits until a condition holds, which another process brings about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, 20*time.Second, 10*time.Millisecond, what)
}

// TestExecMessage: what a command gets of a message, and that nothing of that is
// interpreted.
func TestExecMessage(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	vars := []string{
		"TOPIC", "QOS", "RETAIN", "DUP", "MESSAGE_ID", "ORDERING_KEY", "ATTEMPT", "PAYLOAD_LENGTH", "PAYLOAD_UTF8", "CONTENT_TYPE",
		"RESPONSE_TOPIC", "CORRELATION_DATA", "CORRELATION_DATA_BASE64", "EXPIRY", "USER_PROPERTIES", "USER_PROPERTY_A_B", "USER_PROPERTY__LD_PRELOAD",
		"STALE",
	}
	var text strings.Builder
	for _, v := range vars {
		fmt.Fprintf(&text, "printf '%%s=%%s\\n' %s \"${MQTT_%[1]s-unset}\"\n", v)
	}
	text.WriteString("echo \"secret=${MINE-unset} ${ONCEMQ_PASSWORD_ENV-unset}\"\nprintf 'payload='\ncat\n")
	cmd := oncemq(t, "sub", "-L", m.URL(), "--debug", "-t", "#", "-q", "2", "-C", "1", "--exec", script(t, text.String()))
	cmd.Env = append(cmd.Env, "MQTT_STALE=of some other message", "ONCEMQ_PASSWORD_ENV=MINE", "MINE=sesame")
	p := testenv.Start(t, cmd)
	_, err := p.Stderr.WaitFor(within(t, 20*time.Second), func(line string) bool { return strings.HasPrefix(line, "oncemq sub: subscribed to ") })
	require.NoError(t, err)
	evil := "$(echo 1); `id` \"' \\\n%s*"
	pub := testenv.Start(t, oncemq(t, "pub", "-L", m.URL(), "-t", `a/$(id)/"b`, "-m", evil, "-q", "2", "--message-id", "m-1", "--order-key", "k",
		"-H", "a.b=$(id)", "-H", "a-b=second", "-H", "-LD_PRELOAD=x=/tmp/y", "--content-type", "text/plain; x='$(id)'",
		"--response-topic", "r/`id`", "--correlation-data", "c d", "--utf8", "--expiry", "1h"))
	require.Equal(t, exitDone, pub.Wait(20*time.Second), pub.Stderr.String())
	require.Equal(t, exitDone, p.Wait(20*time.Second), p.Stderr.String())

	out, payload, found := strings.Cut(p.Stdout.String(), "payload=")
	require.True(t, found)
	require.Equal(t, evil+"\n", payload) // and the end of the last line
	got := make(map[string]string)
	for line := range strings.SplitSeq(strings.TrimSuffix(out, "\n"), "\n") {
		name, value, _ := strings.Cut(line, "=")
		got[name] = value
	}
	require.Contains(t, []string{"3599", "3600"}, got["EXPIRY"])
	delete(got, "EXPIRY")
	var user map[string]any
	require.NoError(t, json.Unmarshal([]byte(got["USER_PROPERTIES"]), &user))
	require.Equal(t, "$(id)", user["a.b"])
	require.Equal(t, "second", user["a-b"])
	delete(got, "USER_PROPERTIES")
	require.Equal(t, map[string]string{
		"TOPIC": `a/$(id)/"b`, "QOS": "2", "RETAIN": "0", "DUP": "0", "MESSAGE_ID": "m-1", "ORDERING_KEY": "k", "ATTEMPT": "1",
		"PAYLOAD_LENGTH": strconv.Itoa(len(evil)), "PAYLOAD_UTF8": "1", "CONTENT_TYPE": "text/plain; x='$(id)'", "RESPONSE_TOPIC": "r/`id`",
		"CORRELATION_DATA": "c d", "CORRELATION_DATA_BASE64": "YyBk", "USER_PROPERTY_A_B": "$(id)", "USER_PROPERTY__LD_PRELOAD": "x=/tmp/y",
		"STALE": "unset", "secret": "unset MINE",
	}, got)
}

// TestExecRetriesAndDeadLetter: a command that fails is run again, and a message
// for which it always fails is a dead letter, with what the command said last. The
// others go on.
func TestExecRetriesAndDeadLetter(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"plain": nil, "group": {"--group", "g"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := fileStore(t)
			l := listen(t, brokertest.Options{}, append(args, "-i", "s", "-c", "-t", "a/#", "-C", "3", "--attempts", "3", "--store", store, "--exec",
				script(t, `
case $MQTT_TOPIC$MQTT_ATTEMPT in
a/bad?) echo "first line" >&2; echo "the last   word $MQTT_ATTEMPT" >&2; exit 7;;
a/once1) exit 1;;
esac
printf '%s ' "$MQTT_TOPIC $MQTT_ATTEMPT"; cat`))...)
			l.publish("a/bad", "secret", false)
			l.publish("a/once", "x", false)
			l.publish("a/good", "y", false)
			got := l.wait(t)
			require.Equal(t, exitDone, got.code, got.stderr)
			require.ElementsMatch(t, []string{"a/once 2 x", "a/good 1 y"}, strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n"))
			require.Contains(t, got.stderr, `oncemq sub: attempt 1 of 3 for a message on topic "a/once" failed: exit status 1`+"\n")
			const reason = "exit status 7: first line; the last   word 3"
			require.Contains(t, got.stderr, `oncemq sub: a message on topic "a/bad" became a dead letter after attempt 3: `+reason+"\n")
			require.Contains(t, got.stderr, "first line\nthe last   word 2\n")

			dead := runOnce(t, command("dead", "list", "--json", "--store", store))
			require.Equal(t, exitDone, dead.code, dead.stderr)
			var letter struct {
				Topic, Reason string
				Attempts      int
			}
			require.NoError(t, json.Unmarshal([]byte(dead.stdout), &letter), dead.stdout)
			require.Equal(t, "a/bad", letter.Topic)
			require.Equal(t, reason, letter.Reason)
			require.Equal(t, 3, letter.Attempts)
			require.NotContains(t, dead.stdout+got.stderr, "secret")
			require.Empty(t, l.broker.Violations())
		})
	}
}

// TestExecAck: the broker gets its acknowledgement after the command has ended, not
// before.
func TestExecAck(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	acked := make(chan struct{}, 10)
	subscribed := make(chan struct{}, 10)
	b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		switch {
		case d == brokertest.In && p.Type == brokertest.PUBACK:
			acked <- struct{}{}
		case d == brokertest.Out && p.Type == brokertest.SUBACK:
			subscribed <- struct{}{}
		}
		return brokertest.Pass
	}})
	result := make(chan outcome, 1)
	gate, began := filepath.Join(dir, "gate"), filepath.Join(dir, "began")
	require.NoError(t, syscall.Mkfifo(gate, 0o600))
	go func() {
		result <- runOnce(t, command("sub", "-L", b.URL(), "-t", "a", "-C", "1", "--store", "memory:", "--exec", "echo >"+began+"; read x <"+gate))
	}()
	<-subscribed
	b.Publish(brokertest.Packet{Topic: "a", Payload: []byte("x"), QoS: 1})
	eventually(t, "the command begins", func() bool {
		_, err := os.Stat(began)
		return err == nil
	})
	select {
	case <-acked:
		t.Fatal("the message was acknowledged before its command had ended")
	case <-time.After(100 * time.Millisecond): // a wrong acknowledgement has this long to show
	}
	require.NoError(t, os.WriteFile(gate, []byte("go\n"), 0o600))
	got := <-result
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Len(t, acked, 1)
}

// TestExecTimeout: a command that takes too long is ended with all that it has
// started, also if that does not heed SIGTERM.
func TestExecTimeout(t *testing.T) {
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	l := listen(t, brokertest.Options{}, "-t", "a", "-C", "1", "--attempts", "1", "--store", "memory:", "--exec-timeout", "3", "--exec",
		`trap '' TERM; sleep 600 & echo $! >`+pids+`; echo waiting >&2; wait; wait`)
	l.publish("a", "x", false)
	got := l.wait(t)
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Contains(t, got.stderr, `a message on topic "a" became a dead letter after attempt 1: ended after 3s, the time of --exec-timeout: waiting`)
	requireGone(t, pids)
}

// TestExecTimeoutAtTheEnd: a command that ends with 0 as its time is over has done its
// work, and its message is not a dead letter.
func TestExecTimeoutAtTheEnd(t *testing.T) {
	t.Parallel()
	l := listen(t, brokertest.Options{}, "-t", "a", "-C", "1", "--attempts", "1", "--store", "memory:", "--exec-timeout", "3", "--exec",
		`trap 'echo done; exit 0' TERM; sleep 600 & wait`)
	l.publish("a", "x", false)
	got := l.wait(t)
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "done\n", got.stdout)
	require.NotContains(t, got.stderr, "dead letter")
}

// requireGone waits until a process whose number is in a file has ended.
func requireGone(t *testing.T, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	eventually(t, "a process that the command has started is gone", func() bool {
		// A zombie that init has not taken yet is gone, too.
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// TestExecShutDown: SIGTERM leaves running commands the time of --exec-grace. One
// that finishes is acknowledged, one that does not is ended and its message given
// back, and no other is begun.
func TestExecShutDown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		grace, command string
		left           []string
	}{
		"finishes": {"60", `read x <gate; echo finished`, []string{"two"}},
		"is ended": {"0.2", `sleep 600 & echo $! >pids; wait`, []string{"one", "two"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
			dir := t.TempDir()
			gate, pids := filepath.Join(dir, "gate"), filepath.Join(dir, "pids")
			require.NoError(t, syscall.Mkfifo(gate, 0o600))
			run := script(t, "cd "+dir+"; echo began; "+test.command)
			p := subscribed(t, m, "-i", "s", "-c", "-t", "a", "--exec", run, "--exec-grace", test.grace)
			for _, payload := range []string{"one", "two"} {
				mosquittoPub(t, m, "-t", "a", "-q", "1", "-m", payload)
			}
			_, err := p.Stdout.WaitFor(within(t, 20*time.Second), func(line string) bool { return line == "began" })
			require.NoError(t, err)
			if test.grace != "60" {
				eventually(t, "the command has a child", func() bool {
					text, err := os.ReadFile(pids)
					return err == nil && strings.HasSuffix(string(text), "\n")
				})
			}
			p.Terminate()
			_, err = p.Stderr.WaitFor(within(t, 20*time.Second), func(line string) bool { return line == "oncemq sub: ending" })
			require.NoError(t, err)
			if test.grace == "60" {
				require.NoError(t, os.WriteFile(gate, []byte("go\n"), 0o600))
			} else {
				requireGone(t, pids)
			}
			require.Equal(t, exitDone, p.Wait(20*time.Second), p.Stderr.String())
			require.NotContains(t, p.Stderr.String(), "dead letter")
			require.Equal(t, test.grace == "60", slices.Contains(p.Stdout.Lines(), "finished"))
			require.Equal(t, 1, strings.Count(p.Stdout.String(), "began"))

			again := testenv.Start(t, oncemq(t, "sub", "-L", m.URL(), "-i", "s", "-c", "-t", "a", "-C", strconv.Itoa(len(test.left)), "-W", "20"))
			require.Equal(t, exitDone, again.Wait(25*time.Second), again.Stderr.String())
			require.Equal(t, test.left, again.Stdout.Lines())
		})
	}
}

// TestExecKilled: a command does not outlive the oncemq that is killed, and its
// message comes again.
func TestExecKilled(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	pids := filepath.Join(t.TempDir(), "pids")
	p := subscribed(t, m, "-i", "s", "-c", "-t", "a", "--exec", `echo $$ >`+pids+`; echo began; exec sleep 600`)
	mosquittoPub(t, m, "-t", "a", "-q", "1", "-m", "x")
	_, err := p.Stdout.WaitFor(within(t, 20*time.Second), func(line string) bool { return line == "began" })
	require.NoError(t, err)
	p.Kill()
	requireGone(t, pids)
	again := testenv.Start(t, oncemq(t, "sub", "-L", m.URL(), "-i", "s", "-c", "-t", "a", "-C", "1", "-W", "20", "--exec", `cat; echo " $MQTT_DUP"`))
	require.Equal(t, exitDone, again.Wait(25*time.Second), again.Stderr.String())
	require.Equal(t, "x 1\n", again.Stdout.String())
}

// TestExecLines: commands that run at once do not write into each other's lines.
func TestExecLines(t *testing.T) {
	t.Parallel()
	const messages = 20
	l := listen(t, brokertest.Options{}, "-t", "#", "-C", strconv.Itoa(messages), "--workers", "4", "--store", "memory:", "--exec",
		`printf '%s %s ' "$MQTT_TOPIC" out; printf '%s %s ' "$MQTT_TOPIC" err >&2; echo 1; echo 1 >&2; printf '%s 2' "$MQTT_TOPIC"`)
	want := make(map[string]int)
	for i := range messages {
		topic := "t/" + strconv.Itoa(i)
		l.publish(topic, "x", false)
		want[topic+" out 1"]++
		want[topic+" err 1"]++
		want[topic+" 2"]++
	}
	got := l.wait(t)
	require.Equal(t, exitDone, got.code, got.stderr)
	lines := make(map[string]int)
	for line := range strings.Lines(got.stdout + got.stderr) {
		lines[strings.TrimSuffix(line, "\n")]++
	}
	require.Equal(t, want, lines)
}

// TestExecEnds: a command that cannot be run, or whose output nobody reads, is not
// the fault of a message: sub ends, and the message stays with the broker.
func TestExecEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ command, stderr string }{
		"no such command": {"oncemq-has-no-such-command", "oncemq sub: --exec: the command cannot be run: exit status 127: "},
		"no program":      {"/", "oncemq sub: --exec: the command cannot be run: exit status 126: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, brokertest.Options{}, "-i", "s", "-c", "-t", "a", "--store", "memory:", "--exec", test.command)
			l.publish("a", "x", false)
			got := l.wait(t)
			require.Equal(t, exitFailed, got.code)
			require.Truef(t, strings.HasPrefix(got.lastLine(), test.stderr), "got %q", got.stderr)
			again := runOnce(t, command("sub", "-L", l.broker.URL(), "-i", "s", "-c", "-t", "a", "-C", "1", "-W", "20"))
			require.Equal(t, exitDone, again.code, again.stderr)
			require.Equal(t, "x\n", again.stdout)
		})
	}
	t.Run("output closed", func(t *testing.T) {
		t.Parallel()
		b := startBroker(t, brokertest.Options{})
		b.Publish(brokertest.Packet{Topic: "a", Payload: []byte("x"), QoS: 1, Retain: true})
		r, w, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, r.Close())
		var stderr strings.Builder
		code := run(within(t, 20*time.Second), []string{"oncemq", "sub", "-L", b.URL(), "-t", "a", "--store", "memory:", "--exec", "cat"}, nil,
			strings.NewReader(""), w, &stderr)
		require.NoError(t, w.Close())
		require.Equal(t, exitFailed, code)
		require.Empty(t, stderr.String())
	})
}

// TestExecTooManyProperties: a message that no environment can hold is a dead
// letter at once.
func TestExecTooManyProperties(t *testing.T) {
	t.Parallel()
	l := listen(t, brokertest.Options{}, "-t", "a", "-C", "1", "--store", "memory:", "--exec", "true")
	var properties brokertest.Properties
	for range 5 {
		properties = append(properties, brokertest.UserProperty("n", strings.Repeat("x", 60_000)))
	}
	l.broker.Publish(brokertest.Packet{Topic: "a", QoS: 1, Properties: properties})
	got := l.wait(t)
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Contains(t, got.stderr, "became a dead letter after attempt 1: the message's properties do not fit into an environment")
}
