package main

import (
	"bytes"
	"context"
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
		require.Contains(t, stderr.String(), "could be acknowledged")
	case <-patience.Done():
		require.FailNow(t, "it does not end")
	}
	close(out.end)
}
