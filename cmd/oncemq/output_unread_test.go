package main

import (
	"bytes"
	"context"
	"os"
	"strings"
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
	close(u.begun)
	<-u.end
	return len(b), nil
}

// TestSubUnread: sub ends when it is told to, also if nobody reads what it prints. What
// was not written is not acknowledged.
func TestSubUnread(t *testing.T) {
	t.Parallel()
	b := startBroker(t, brokertest.Options{})
	out := &unread{make(chan struct{}), make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code := make(chan int, 1)
	var stderr bytes.Buffer
	go func() {
		env := []string{"XDG_STATE_HOME=" + t.TempDir()}
		code <- run(ctx, []string{"oncemq", "sub", "-L", b.URL(), "-t", "a"}, env, bytes.NewReader(nil), out, &stderr)
	}()
	patience, stop := context.WithTimeout(t.Context(), 60*time.Second)
	defer stop()
	require.NoError(t, b.Wait(patience, func() bool { return b.Subscribers("a") == 1 }))
	b.Publish(brokertest.Packet{Topic: "a", Payload: []byte("x"), QoS: 1})
	select {
	case <-out.begun:
	case <-patience.Done():
		require.FailNow(t, "nothing was printed")
	}
	cancel()
	select {
	case c := <-code:
		require.Equal(t, exitFailed, c)
		// The client says it if a handler still waits, else the output.
		require.Regexp(t, "could be acknowledged|nobody reads it", stderr.String())
	case <-patience.Done():
		require.FailNow(t, "it does not end")
	}
	close(out.end)
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
