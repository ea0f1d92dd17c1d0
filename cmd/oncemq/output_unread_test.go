package main

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/brokertest"
)

// unread is an output that nobody reads: the first write does not return.
type unread struct {
	begun, end chan struct{}
}

func (u *unread) Write(b []byte) (int, error) {
	select {
	case <-u.begun:
	default:
		close(u.begun)
	}
	<-u.end
	return len(b), nil
}

// TestSubUnread: sub ends when it is told to, also if nobody reads what it prints. What
// was not written is not acknowledged, whether it came before the broker's SUBACK or after.
func TestSubUnread(t *testing.T) {
	t.Parallel()
	for name, agreement := range map[string]brokertest.Action{"agreed": brokertest.Pass, "not agreed yet": brokertest.Drop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var acks atomic.Int32
			agreed := make(chan struct{})
			b := startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
				switch {
				case d == brokertest.Out && p.Type == brokertest.SUBACK:
					close(agreed)
					return agreement
				case d == brokertest.In && p.Type == brokertest.PUBACK:
					acks.Add(1)
				}
				return brokertest.Pass
			}})
			out := &unread{make(chan struct{}), make(chan struct{})}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			code := make(chan int, 1)
			var stderr bytes.Buffer
			go func() {
				env := []string{"XDG_STATE_HOME=" + t.TempDir()}
				code <- run(ctx, []string{"oncemq", "sub", "-L", b.URL(), "-t", "a"}, env, bytes.NewReader(nil), out, &stderr)
			}()
			patience := within(t, 60*time.Second)
			await := func(c <-chan struct{}, what string) {
				select {
				case <-c:
				case <-patience.Done():
					require.FailNow(t, what)
				}
			}
			await(agreed, "nothing is subscribed")
			b.Publish(brokertest.Packet{Topic: "a", Payload: []byte("x"), QoS: 1})
			await(out.begun, "nothing is printed")
			cancel()
			select {
			case c := <-code:
				require.Equal(t, exitFailed, c)
				require.Contains(t, stderr.String(), "could be acknowledged")
			case <-patience.Done():
				require.FailNow(t, "it does not end")
			}
			require.Zero(t, acks.Load(), "acknowledged, and nobody has read it")
			close(out.end)
		})
	}
}

// TestUnreadTimeout: -W ends sub and rr also if nobody reads what they print.
func TestUnreadTimeout(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"sub": {"-t", "a"}, "rr": {"-t", "work", "-m", "x"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b *brokertest.Broker
			b = startBroker(t, brokertest.Options{Intercept: func(_ string, d brokertest.Direction, p *brokertest.Packet) brokertest.Action {
				if d == brokertest.Out && p.Type == brokertest.SUBACK && name == "sub" {
					go b.Publish(brokertest.Packet{Topic: "a", Payload: []byte("x"), QoS: 1})
				}
				return brokertest.Pass
			}})
			if name == "rr" {
				answerRequests(t, b.URL(), "work", 1)
			}
			out := &unread{make(chan struct{}), make(chan struct{})}
			defer close(out.end)
			code := make(chan int, 1)
			var stderr bytes.Buffer
			go func() {
				env := []string{"XDG_STATE_HOME=" + t.TempDir()}
				code <- run(t.Context(), append([]string{"oncemq", name, "-L", b.URL(), "-W", "1"}, args...), env, bytes.NewReader(nil), out, &stderr)
			}()
			select {
			case c := <-code:
				require.Equal(t, exitTimeout, c, stderr.String())
				require.Contains(t, stderr.String(), "timed out")
			case <-within(t, 60*time.Second).Done():
				require.FailNow(t, "it does not end")
			}
		})
	}
}

// TestPubUnread: what pub -l --json reads is delivered also if nobody reads of it, and
// pub ends by a signal and by --timeout.
func TestPubUnread(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"signal": nil, "timeout": {"--timeout", "1"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, brokertest.Options{})
			out := &unread{make(chan struct{}), make(chan struct{})}
			defer close(out.end)
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			code := make(chan int, 1)
			var stderr bytes.Buffer
			const lines = 3000
			_, text := numbered(lines)
			topic := strings.Repeat("t", 1000) // so that their objects are more than put would take
			go func() {
				env := []string{"XDG_STATE_HOME=" + t.TempDir()}
				code <- run(ctx, append([]string{"oncemq", "pub", "-L", b.URL(), "--store", "memory:", "-t", topic, "-l", "--json"}, args...), env,
					strings.NewReader(text), out, &stderr)
			}()
			patience := within(t, 60*time.Second)
			require.NoError(t, b.WaitFirstArrivals(patience, lines), "delivery waits for the reader")
			if name == "signal" {
				cancel(signalError{syscall.SIGINT})
			}
			select {
			case c := <-code:
				require.NotEqual(t, exitDone, c)
				require.Contains(t, stderr.String(), "3000 stored")
			case <-patience.Done():
				require.FailNow(t, "it does not end")
			}
		})
	}
}

// gated is an output that nobody reads until the gate is open.
type gated struct {
	bytes.Buffer
	gate chan struct{}
}

func (g *gated) Write(b []byte) (int, error) {
	<-g.gate
	return g.Buffer.Write(b)
}

// TestObjectsUnread: objects never wait for the reader, and there is no room for more
// of them before it reads on. Then all of them come, in their order.
func TestObjectsUnread(t *testing.T) {
	t.Parallel()
	g := &gated{gate: make(chan struct{})}
	o := newOutput(g)
	o.patience = time.Millisecond
	var want strings.Builder
	for i := range 2 + objectsLimit>>20 {
		object := strings.Repeat(string(rune('a'+i)), 1<<20)
		require.NoError(t, o.object(object))
		want.WriteString(strconv.Quote(object) + "\n")
	}
	require.ErrorContains(t, o.room(t.Context()), "nobody has read it")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, o.room(ended), "what was read is stored when the run ends")
	o.patience = 0
	close(g.gate)
	require.NoError(t, o.room(within(t, 60*time.Second)))
	require.False(t, o.full())
	require.NoError(t, o.close(t.Context()))
	require.True(t, want.String() == g.String(), "all is there, in its order")
}

// TestNobodyReads: a command whose reader has gone ends with 1 and says nothing.
func TestNobodyReads(t *testing.T) {
	t.Parallel()
	store := fileStore(t)
	require.Equal(t, exitDone, runOnce(t, command("pub", "-L", nobody, "--no-wait", "--store", store, "-t", "a", "-m", "x")).code)
	for _, args := range [][]string{
		{"--help"},
		{"help", "pub"},
		{"version"},
		{"version", "--json"},
		{"completion", "bash"},
		{"completion", "zsh"},
		{"completion", "fish"},
		{"man"},
		{"man", "pub"},
		{"chaos", "list"},
		{"chaos", "list", "--json"},
		{"outbox", "list", "--store", store},
		{"outbox", "stats", "--store", store},
		{"outbox", "list", "--json", "--store", store},
		{"dedup", "stats", "--store", store},
		{"store", "status", "--store", store},
		{"store", "check", "--store", store},
		{"status", "--store", store},
		{"doctor", "--no-broker", "--store", store},
	} {
		r, w, err := os.Pipe()
		require.NoError(t, err)
		require.NoError(t, r.Close())
		var stderr bytes.Buffer
		code := run(within(t, 30*time.Second), append([]string{"oncemq"}, args...), nil, strings.NewReader(""), w, &stderr)
		require.Equal(t, exitFailed, code, args)
		require.Empty(t, stderr.String(), args)
		require.NoError(t, w.Close())
	}
}
