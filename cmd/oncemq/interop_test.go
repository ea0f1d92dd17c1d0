package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

// mosquittoSub starts mosquitto_sub and waits until it is subscribed, which -d
// tells.
func mosquittoSub(t *testing.T, m *testenv.MosquittoServer, args ...string) *testenv.Process {
	t.Helper()
	program := testenv.Program(t, "mosquitto_sub", "mosquitto-clients")
	args = append([]string{"-V", "mqttv5", "-h", m.Host(), "-p", strconv.Itoa(m.Port()), "-d"}, args...)
	// Its output is buffered unless it goes to a terminal or stdbuf has a say.
	p := testenv.Start(t, exec.Command(testenv.Program(t, "stdbuf", "coreutils"), append([]string{"-oL", program}, args...)...))
	_, err := p.Stdout.WaitFor(within(t, 10*time.Second), func(line string) bool { return strings.Contains(line, "received SUBACK") })
	require.NoError(t, err)
	return p
}

func mosquittoPub(t *testing.T, m *testenv.MosquittoServer, args ...string) {
	t.Helper()
	args = append([]string{"-V", "mqttv5", "-h", m.Host(), "-p", strconv.Itoa(m.Port())}, args...)
	text, err := exec.CommandContext(t.Context(), testenv.Program(t, "mosquitto_pub", "mosquitto-clients"), args...).CombinedOutput()
	require.NoError(t, err, string(text))
}

// subscribed starts oncemq sub --debug and waits until it is subscribed.
func subscribed(t *testing.T, m *testenv.MosquittoServer, args ...string) *testenv.Process {
	t.Helper()
	p := testenv.Start(t, oncemq(t, append([]string{"sub", "-L", m.URL(), "--debug"}, args...)...))
	_, err := p.Stderr.WaitFor(within(t, 10*time.Second), func(line string) bool { return strings.HasPrefix(line, "oncemq sub: subscribed to ") })
	require.NoError(t, err)
	return p
}

func TestMosquittoSubReadsPub(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	s := mosquittoSub(t, m, "-t", "a/b", "-q", "2", "-C", "1", "-F", "=%t|%p|%q|%C|%R|%D|%E|%F|%P")
	p := testenv.Start(t, oncemq(t, "pub", "-h", m.Host(), "-p", strconv.Itoa(m.Port()), "-t", "a/b", "-m", "häß", "-q", "2",
		"--message-id", "m-1", "-H", "k=v", "-D", "publish", "user-property", "k", "w", "-H", "colour: red",
		"--content-type", "text/plain", "--expiry", "60", "--response-topic", "r/t", "-D", "publish", "correlation-data", "xyz", "--utf8"))
	require.Equal(t, exitDone, p.Wait(10*time.Second), p.Stderr.String())
	require.Empty(t, p.Stderr.String())
	line, err := s.Stdout.WaitFor(within(t, 10*time.Second), func(line string) bool { return strings.HasPrefix(line, "=") })
	require.NoError(t, err)
	fields := strings.Split(strings.TrimPrefix(line, "="), "|")
	require.Equal(t, []string{"a/b", "häß", "2", "text/plain", "r/t", "xyz"}, fields[:6])
	require.Contains(t, []string{"59", "60"}, fields[6])
	require.Equal(t, "1", fields[7])
	for _, property := range []string{"message-id:m-1", "k:v", "k:w", "colour:red"} {
		require.Contains(t, fields[8], property)
	}
}

func TestSubReadsMosquittoPub(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	s := subscribed(t, m, "-t", "a/#", "--json", "-C", "3", "-W", "10")
	mosquittoPub(t, m, "-t", "a/b", "-q", "1", "-m", `say "hi"`, "-D", "publish", "user-property", "k", "v",
		"-D", "publish", "user-property", "k", "w", "-D", "publish", "user-property", "message-id", "m-1",
		"-D", "publish", "content-type", "text/plain", "-D", "publish", "message-expiry-interval", "60",
		"-D", "publish", "response-topic", "r/t", "-D", "publish", "correlation-data", "xyz")
	file := filepath.Join(t.TempDir(), "binary")
	require.NoError(t, os.WriteFile(file, []byte{0xff, 0, 1}, 0o600))
	mosquittoPub(t, m, "-t", "a/c", "-q", "1", "-f", file)
	mosquittoPub(t, m, "-t", "a/d", "-q", "1", "-n")
	require.Equal(t, exitDone, s.Wait(15*time.Second))
	lines := s.Stdout.Lines()
	require.Len(t, lines, 3)
	var objects [3]map[string]any
	for i, line := range lines {
		require.NoError(t, json.Unmarshal([]byte(line), &objects[i]))
		_, err := time.Parse("2006-01-02T15:04:05.000000-0700", objects[i]["tst"].(string))
		require.NoError(t, err)
		delete(objects[i], "tst")
		delete(objects[i], "mid")
	}
	expiry := objects[0]["properties"].(map[string]any)["message-expiry-interval"]
	require.Contains(t, []any{59.0, 60.0}, expiry)
	require.Equal(t, map[string]any{
		"topic": "a/b", "qos": 1.0, "retain": 0.0, "payloadlen": 8.0, "payload": `say "hi"`, "id": "m-1", "dup": 0.0,
		"properties": map[string]any{
			"user-properties": map[string]any{"k": []any{"v", "w"}, "message-id": "m-1"},
			"content-type":    "text/plain", "message-expiry-interval": expiry, "response-topic": "r/t", "correlation-data": "xyz",
		},
	}, objects[0])
	require.Equal(t, map[string]any{"topic": "a/c", "qos": 1.0, "retain": 0.0, "payloadlen": 3.0, "payload_base64": "/wAB", "dup": 0.0}, objects[1])
	require.Equal(t, map[string]any{"topic": "a/d", "qos": 1.0, "retain": 0.0, "payloadlen": 0.0, "payload": "", "dup": 0.0}, objects[2])
}

// TestLogFile: a log file goes through pub -l, mosquitto and sub and comes out
// identical.
func TestLogFile(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"1", "2"} {
		t.Run("QoS "+level, func(t *testing.T) {
			t.Parallel()
			const lines = 5000
			log := logFile(lines)
			m := testenv.Mosquitto(t, testenv.MosquittoOptions{MaxQueuedMessages: new(int)})
			s := subscribed(t, m, "-t", "logs", "-q", level, "-C", strconv.Itoa(lines), "-W", "30")
			cmd := oncemq(t, "pub", "-L", m.URL()+"/logs", "-q", level, "-l")
			cmd.Stdin = strings.NewReader(log)
			p := testenv.Start(t, cmd)
			require.Equal(t, exitDone, p.Wait(30*time.Second), p.Stderr.String())
			require.Equal(t, fmt.Sprintf("%d stored, %[1]d delivered, 0 failed, 0 expired\n", lines), p.Stderr.String())
			require.Equal(t, exitDone, s.Wait(30*time.Second))
			require.True(t, log == s.Stdout.String(), "the output differs from the input")
		})
	}
}

// logFile is what a web server may have written: lines of all lengths, some of
// them empty, some not UTF-8, one that is long.
func logFile(lines int) string {
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	for i := range lines {
		switch {
		case i%97 == 0:
		case i == lines/2:
			b.WriteString(strings.Repeat("stack trace ", 20_000))
		case i%53 == 0:
			b.WriteString("caf\xe9 \x00\x01\ttab\r")
		default:
			fmt.Fprintf(&b, `192.0.2.%d - - [23/Nov/2026:03:%02d:%02d +0000] "GET /%s HTTP/1.1" %d %d`, rng.IntN(256), i/60%60, i%60,
				strings.Repeat("ä/", rng.IntN(40)), 200+rng.IntN(300), rng.IntN(1e6))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestReplicasShareAndDedup: two replicas with one store print a message that
// was published twice once, and share the work.
func TestReplicasShareAndDedup(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	store := fileStore(t)
	args := []string{"-t", "work", "--group", "g", "--store", store, "--dedup-key", "content"}
	replicas := []*testenv.Process{
		subscribed(t, m, append(args, "-i", "replica-a")...),
		subscribed(t, m, append(args, "-i", "replica-b")...),
	}
	const messages = 300
	want := make(map[string]int, messages)
	var text strings.Builder
	for i := range messages {
		fmt.Fprintf(&text, "%d\n", i)
		want[strconv.Itoa(i)] = 1
	}
	for range 2 {
		// The second run's messages have other IDs, and the same content.
		cmd := oncemq(t, "pub", "-L", m.URL(), "-t", "work", "-l")
		cmd.Stdin = strings.NewReader(text.String())
		require.Equal(t, exitDone, testenv.Start(t, cmd).Wait(20*time.Second))
	}
	printed := make(chan struct{}, 2*messages)
	for _, r := range replicas {
		go func() { // ends with the replica
			for {
				if _, err := r.Stdout.Next(t.Context()); err != nil {
					return
				}
				printed <- struct{}{}
			}
		}()
	}
	for i := range messages {
		select {
		case <-printed:
		case <-within(t, 20*time.Second).Done():
			t.Fatalf("%d of %d messages were printed", i, messages)
		}
	}
	got := make(map[string]int)
	for _, r := range replicas {
		r.Terminate()
		require.Equal(t, exitDone, r.Wait(10*time.Second), r.Stderr.String())
		require.NotEmpty(t, r.Stdout.Lines(), "a replica got no work")
		for _, line := range r.Stdout.Lines() {
			got[line]++
		}
	}
	require.Equal(t, want, got)
}
