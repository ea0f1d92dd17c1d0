package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// These tests run the real binary, as a process that can be killed.

// oncemq is a command of the real binary, with a state directory of the test.
func oncemq(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(testenv.Build(t, "./cmd/oncemq"), args...) // testenv.Start ends it
	cmd.Env = []string{"XDG_STATE_HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	return cmd
}

// numbered are the lines "line 1" to "line n", each with a newline.
func numbered(n int) (lines []string, text string) {
	var b strings.Builder
	for i := range n {
		lines = append(lines, fmt.Sprintf("line %d", i+1))
		b.WriteString(lines[i] + "\n")
	}
	return lines, b.String()
}

// payloads are those of the first arrivals on a topic.
func payloads(b *brokertest.Broker, topic string) []string {
	var all []string
	for _, a := range b.FirstArrivals(topic) {
		all = append(all, string(a.Packet.Payload))
	}
	return all
}

// TestLinesThroughDroppingBroker: a broker that drops the connection every 50 to
// 300 packets with unread data in the socket, and never keeps a session.
func TestLinesThroughDroppingBroker(t *testing.T) {
	t.Parallel()
	for _, level := range []string{"1", "2"} {
		t.Run("QoS "+level, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{
				Seed: 1, DropEvery: brokertest.Range{Min: 50, Max: 300}, ForgetSessions: true,
			})
			lines, text := numbered(5000)
			cmd := oncemq(t, "pub", "-L", b.URL(), "-t", "lines", "-q", level, "-l", "--timeout", "60")
			cmd.Stdin = strings.NewReader(text)
			p := testenv.Start(t, cmd)
			require.Equal(t, exitDone, p.Wait(60*time.Second), p.Stderr.String())
			require.Equal(t, "5000 stored, 5000 delivered, 0 failed, 0 expired\n", p.Stderr.String())
			require.Empty(t, p.Stdout.String())
			require.Equal(t, lines, payloads(b, "lines"))
			require.Empty(t, b.Violations())
			require.Greater(t, b.Stats().Drops, 10)
		})
	}
}

// event is an object of pub --json.
type event struct {
	Event, ID, Topic, Reason string
	ReasonCode               byte `json:"reason_code"`
}

func events(t *testing.T, lines []string) []event {
	t.Helper()
	all := make([]event, len(lines))
	for i, line := range lines {
		require.NoError(t, json.Unmarshal([]byte(line), &all[i]), line)
	}
	return all
}

// TestKilledPublisher: the publisher is killed five times while it reads lines,
// and started again on the same store. Every line whose storing was confirmed
// arrives.
func TestKilledPublisher(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{
		Seed: 2, DropEvery: brokertest.Range{Min: 50, Max: 300}, ForgetSessions: true,
	})
	store := "sqlite://" + filepath.Join(t.TempDir(), "store.db")
	stored := make(map[string]bool)
	next := 0
	for round := range 6 {
		const lines = 1200
		var text strings.Builder
		for range lines {
			next++
			fmt.Fprintf(&text, "line %d\n", next)
		}
		cmd := oncemq(t, "pub", "-L", b.URL(), "--store", store, "-t", "lines", "-l", "--json", "--timeout", "60")
		cmd.Stdin = strings.NewReader(text.String())
		p := testenv.Start(t, cmd)
		if round < 5 {
			// Killed once it has stored a number of lines that grows from round
			// to round, and so in another place each time.
			want := 100 + 180*round
			_, err := p.Stdout.WaitFor(within(t, 30*time.Second), func(line string) bool {
				if strings.Contains(line, `"event":"stored"`) {
					want--
				}
				return want == 0
			})
			require.NoError(t, err)
			p.Kill()
		} else {
			require.Equal(t, exitDone, p.Wait(60*time.Second), p.Stderr.String())
		}
		printed := p.Stdout.Lines()
		if round < 5 && len(printed) > 0 && !strings.HasSuffix(printed[len(printed)-1], "}") {
			printed = printed[:len(printed)-1] // cut by the kill
		}
		for _, e := range events(t, printed) {
			if e.Event == "stored" {
				stored[e.ID] = true
			}
		}
	}
	arrived := make(map[string]bool)
	for _, a := range b.FirstArrivals("lines") {
		arrived[a.MessageID] = true
	}
	for id := range stored {
		require.Truef(t, arrived[id], "message %s was confirmed and did not arrive", id)
	}
	require.Greater(t, len(stored), 2000)
	require.Empty(t, b.Violations())
	last := -1
	for i, p := range payloads(b, "lines") {
		var n int
		_, err := fmt.Sscanf(p, "line %d", &n)
		require.NoError(t, err)
		require.Greaterf(t, n, last, "arrival %d is out of order", i)
		last = n
	}
}

// TestInterrupted: a signal ends reading, not what was read. Here the broker does
// not answer, so that the exit code says that delivery is left to the next run;
// that run delivers.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	b.HoldAcks()
	store := "sqlite://" + filepath.Join(t.TempDir(), "store.db")
	cmd := oncemq(t, "pub", "-L", b.URL(), "--store", store, "-t", "lines", "-l", "--json")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	p := testenv.Start(t, cmd)
	_, err = in.Write([]byte("one\ntwo\n"))
	require.NoError(t, err)
	_, err = p.Stdout.WaitFor(within(t, 10*time.Second), func(string) bool { return true })
	require.NoError(t, err)
	require.NoError(t, b.WaitFirstArrivals(within(t, 10*time.Second), 1))
	p.Terminate()
	require.Equal(t, exitStored, p.Wait(15*time.Second), p.Stderr.String())
	require.Contains(t, p.Stderr.String(), "stored and not delivered yet")

	b.ReleaseAcks()
	again := testenv.Start(t, oncemq(t, "pub", "-L", b.URL(), "--store", store, "-t", "lines", "-m", "three"))
	require.Equal(t, exitDone, again.Wait(15*time.Second), again.Stderr.String())
	require.Equal(t, []string{"one", "two", "three"}, payloads(b, "lines"))
}

// TestInterruptedWhileIdle: nothing is left undelivered, and the input had not
// ended: the exit code is the signal's.
func TestInterruptedWhileIdle(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	cmd := oncemq(t, "pub", "-L", b.URL(), "-t", "lines", "-l", "--json")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	p := testenv.Start(t, cmd)
	_, err = in.Write([]byte("one\nhalf a line"))
	require.NoError(t, err)
	_, err = p.Stdout.WaitFor(within(t, 10*time.Second), func(line string) bool {
		return strings.Contains(line, `"event":"delivered"`)
	})
	require.NoError(t, err)
	p.Interrupt()
	require.Equal(t, 130, p.Wait(10*time.Second), p.Stderr.String())
	lines := p.Stderr.Lines()
	require.Equal(t, "1 stored, 1 delivered, 0 failed, 0 expired", lines[len(lines)-1])
}
