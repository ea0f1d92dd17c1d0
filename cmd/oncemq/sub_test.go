package main

import (
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
	"github.com/oncemq/oncemq/internal/testenv"
)

// listener is a sub in this process, with a broker that tells when it has
// subscribed.
type listener struct {
	broker     *brokertest.Broker
	subscribed chan struct{}
	result     chan outcome
}

// listen starts a sub in this process and waits until the broker has agreed.
func listen(t *testing.T, o brokertest.Options, args ...string) *listener {
	t.Helper()
	l := &listener{subscribed: make(chan struct{}, 10), result: make(chan outcome, 1)}
	o.Intercept = func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
		if d == brokertest.Out && p.Type == brokertest.SUBACK {
			l.subscribed <- struct{}{}
		}
		return brokertest.Pass
	}
	l.broker = startBroker(t, o)
	go func() { l.result <- runOnce(t, command(append([]string{"sub", "-L", l.broker.URL()}, args...)...)) }()
	select {
	case <-l.subscribed:
	case got := <-l.result:
		l.result <- got
	case <-within(t, 10*time.Second).Done():
		t.Fatal("no subscription came")
	}
	return l
}

func (l *listener) publish(topic, payload string, retain bool) {
	l.broker.Publish(brokertest.Packet{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: retain})
}

func (l *listener) wait(t *testing.T) outcome {
	t.Helper()
	select {
	case got := <-l.result:
		return got
	case <-within(t, 20*time.Second).Done():
		t.Fatal("sub has not ended")
		return outcome{}
	}
}

// TestSubCount: exactly so many messages are printed and acknowledged; the
// others stay with the broker.
func TestSubCount(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"plain":    {"-i", "s", "-c"},
		"workers":  {"-i", "s", "-c", "--workers", "4"},
		"dedup":    {"-i", "s", "-c", "--group", "g", "--store", "memory:"},
		"unshared": {"-i", "s", "-c", "--group", "g", "--unshared", "--store", "memory:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, brokertest.Options{}, append(args, "-t", "a", "-C", "3")...)
			for _, payload := range []string{"1", "2", "3", "4", "5", "6", "7", "8"} {
				l.publish("a", payload, false)
			}
			got := l.wait(t)
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Empty(t, got.stderr)
			require.Equal(t, 3, strings.Count(got.stdout, "\n"))

			// What the first did not print, a second run gets.
			rest := runOnce(t, command(append([]string{"sub", "-L", l.broker.URL(), "-t", "a", "-C", "5", "-W", "10"}, args...)...))
			require.Equal(t, exitDone, rest.code, rest.stderr)
			all := strings.Fields(got.stdout + rest.stdout)
			if name == "workers" {
				require.ElementsMatch(t, []string{"1", "2", "3", "4", "5", "6", "7", "8"}, all)
			} else {
				require.Equal(t, []string{"1", "2", "3", "4", "5", "6", "7", "8"}, all)
			}
			require.Empty(t, l.broker.Violations())
		})
	}
}

func TestSubPrints(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"text":        {nil, "one\n\nthree\n"},
		"verbose":     {[]string{"-v"}, "a/1 one\na/2 (null)\nb/3 three\n"},
		"no newline":  {[]string{"-N"}, "onethree"},
		"raw":         {[]string{"-o", "raw"}, "onethree"},
		"format":      {[]string{"-F", `%t\t%l;`}, "a/1\t3;\na/2\t0;\nb/3\t5;\n"},
		"filtered":    {[]string{"-T", "+/2", "-T", "a/2"}, "one\nthree\nfour\n"},
		"order kept":  {[]string{"--workers", "1"}, "one\n\nthree\n"},
		"no retained": {[]string{"-R"}, "one\n\nthree\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, brokertest.Options{}, append(test.args, "-t", "#", "-C", "3")...)
			l.publish("a/1", "one", false)
			l.publish("a/2", "", false)
			l.publish("b/3", "three", false)
			l.publish("b/4", "four", false)
			got := l.wait(t)
			require.Equal(t, exitDone, got.code, got.stderr)
			require.Equal(t, test.want, got.stdout)
		})
	}
}

func TestSubRetained(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	b.Publish(brokertest.Packet{Topic: "a/1", Payload: []byte("kept"), QoS: 1, Retain: true})
	got := runOnce(t, command("sub", "-L", b.URL(), "-t", "a/#", "-C", "1", "-F", "%p %r"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, "kept 1\n", got.stdout)
	got = runOnce(t, command("sub", "-L", b.URL(), "-t", "a/#", "-R", "-W", "0.3"))
	require.Equal(t, exitTimeout, got.code, got.stderr)
	require.Empty(t, got.stdout)
	got = runOnce(t, command("sub", "-L", b.URL(), "-t", "a/#", "--retain-handling", "2", "-W", "0.3"))
	require.Equal(t, exitTimeout, got.code, got.stderr)
	require.Empty(t, got.stdout)

	l := listen(t, brokertest.Options{}, "-t", "a/#", "--retained-only")
	l.publish("a/1", "live", false)
	got = l.wait(t)
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Empty(t, got.stdout)
}

func TestSubEnds(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{Answers: []brokertest.Answer{{On: brokertest.SUBSCRIBE, Topic: "forbidden", Code: 0x87}}})
	for name, test := range map[string]struct {
		args   []string
		code   int
		stderr string
	}{
		"after SUBACK":            {[]string{"-t", "a", "-E"}, exitDone, ""},
		"-W":                      {[]string{"-t", "a", "-W", "0.2"}, exitTimeout, "oncemq sub: timed out\n"},
		"subscription is refused": {[]string{"-t", "forbidden"}, exitRefused, `oncemq sub: subscribe: broker refused to subscribe to "forbidden": not authorized (0x87)` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := runOnce(t, command(append([]string{"sub", "-L", b.URL()}, test.args...)...))
			require.Equal(t, test.code, got.code)
			require.Equal(t, test.stderr, got.stderr)
			require.Empty(t, got.stdout)
		})
	}
}

// TestSubReceipts: a message that asks for a receipt is acknowledged end to end.
func TestSubReceipts(t *testing.T) {
	t.Parallel()
	l := listen(t, brokertest.Options{}, "-t", "a", "--receipts", "-C", "1")
	got := runOnce(t, command("pub", "-L", l.broker.URL(), "-t", "a", "-m", "x", "--receipt", "--json", "--message-id", "m-1"))
	require.Equal(t, exitDone, got.code, got.stderr)
	require.Equal(t, `{"event":"stored","id":"m-1","topic":"a"}
{"event":"acknowledged","id":"m-1","reason_code":0}
`, got.stdout)
	require.Equal(t, "x\n", l.wait(t).stdout)
}

// TestSubOutputClosed: the reader of the pipe has gone. The message that could
// not be printed stays with the broker, and nothing is said.
func TestSubOutputClosed(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	b.Publish(brokertest.Packet{Topic: "a", Payload: []byte("x"), QoS: 1, Retain: true})
	var stderr strings.Builder
	code := run(within(t, 20*time.Second), []string{"oncemq", "sub", "-L", b.URL(), "-t", "a", "-i", "s", "-c"}, nil, strings.NewReader(""), w, &stderr)
	require.NoError(t, w.Close())
	require.Equal(t, exitFailed, code)
	require.Empty(t, stderr.String())
	again := runOnce(t, command("sub", "-L", b.URL(), "-t", "a", "-i", "s", "-c", "-C", "1", "-W", "10"))
	require.Equal(t, exitDone, again.code, again.stderr)
	require.Equal(t, "x\n", again.stdout)
}

// TestSubClosedPipeOfProcess is the same for the real binary, where a signal
// would end the process if it were not ignored.
func TestSubClosedPipeOfProcess(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	b.Publish(brokertest.Packet{Topic: "a", Payload: []byte("x"), QoS: 1, Retain: true})
	cmd := oncemq(t, "sub", "-L", b.URL(), "-t", "a")
	r, w, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	cmd.Stdout = w
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // how it ended is read from ProcessState
	}()
	select {
	case <-ended:
	case <-within(t, 15*time.Second).Done():
		_ = cmd.Process.Kill()
		t.Fatal("it does not end")
	}
	require.Equal(t, exitFailed, cmd.ProcessState.ExitCode())
	require.Empty(t, stderr.String())
}

// TestSubInterrupted: without -C a signal is the way in which a subscriber ends;
// with it, the messages are missing.
func TestSubInterrupted(t *testing.T) {
	t.Parallel()
	m := testenv.Mosquitto(t, testenv.MosquittoOptions{})
	a := subscribed(t, m, "-t", "a")
	a.Signal(syscall.SIGTERM)
	require.Equal(t, exitDone, a.Wait(10*time.Second), a.Stderr.String())
	b := subscribed(t, m, "-t", "a", "-C", "1")
	b.Signal(syscall.SIGTERM)
	require.Equal(t, 143, b.Wait(10*time.Second), b.Stderr.String())
}

// slowWriter blocks every write until it is allowed.
type slowWriter struct {
	allow chan struct{}
	io.Writer
}

func (w *slowWriter) Write(b []byte) (int, error) {
	<-w.allow
	return w.Writer.Write(b)
}

// TestAckComesAfterTheWrite: as long as the output does not take a message, the
// broker gets no acknowledgement for it.
func TestAckComesAfterTheWrite(t *testing.T) {
	t.Parallel()
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
	var out strings.Builder
	w := &slowWriter{allow: make(chan struct{}), Writer: &out}
	ended := make(chan int, 1)
	var stderr strings.Builder
	go func() {
		ended <- run(t.Context(), []string{"oncemq", "sub", "-L", b.URL(), "-t", "a", "-C", "1"}, nil, strings.NewReader(""), w, &stderr)
	}()
	<-subscribed
	b.Publish(brokertest.Packet{Topic: "a", Payload: []byte("x"), QoS: 1})
	select {
	case <-acked:
		t.Fatal("the message was acknowledged before it was written")
	case <-time.After(100 * time.Millisecond): // a wrong acknowledgement has this long to show
	}
	w.allow <- struct{}{}
	select {
	case <-acked:
	case <-within(t, 10*time.Second).Done():
		t.Fatal("no acknowledgement came")
	}
	require.Equal(t, exitDone, <-ended, stderr.String())
	require.Equal(t, "x\n", out.String())
}
