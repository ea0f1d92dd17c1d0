package loopback_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/loopback"
)

func TestAPortCanBeTakenAgain(t *testing.T) {
	t.Parallel()
	ln, err := loopback.Listen(t.Context())
	require.NoError(t, err)
	addr := ln.Addr().String()
	require.Less(t, ln.Addr().(*net.TCPAddr).Port, 32768)
	_, err = loopback.ListenOn(t.Context(), addr)
	require.Error(t, err)
	require.NoError(t, ln.Close())
	ln, err = loopback.ListenOn(t.Context(), addr)
	require.NoError(t, err)
	require.NoError(t, ln.Close())
}

func TestFreePortIsFree(t *testing.T) {
	t.Parallel()
	port, err := loopback.FreePort(t.Context())
	require.NoError(t, err)
	ln, err := loopback.ListenOn(t.Context(), net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	require.NoError(t, err)
	require.NoError(t, ln.Close())
}

// Who looks for ports never gets one that was given out before: its server may just be
// down.
func TestNoPortIsGivenTwice(t *testing.T) {
	t.Parallel()
	const ports = 250 // of each process: more than a block has
	given := make(map[int]bool)
	give := func(port int) {
		require.False(t, given[port], "port %d is given out again", port)
		given[port] = true
	}
	if os.Getenv(childEnv) != "" {
		for range ports {
			port, err := loopback.FreePort(t.Context())
			require.NoError(t, err)
			fmt.Println(port)
		}
		_, _ = io.Copy(io.Discard, os.Stdin) // it lives as long as it is wanted
		return
	}
	for range 8 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestNoPortIsGivenTwice$")
		child.Env = append(os.Environ(), childEnv+"=1")
		stdin, err := child.StdinPipe()
		require.NoError(t, err)
		stdout, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		t.Cleanup(func() {
			_ = stdin.Close()
			_ = child.Wait()
		})
		lines := bufio.NewScanner(stdout)
		for range ports {
			require.True(t, lines.Scan())
			port, err := strconv.Atoi(lines.Text())
			require.NoError(t, err)
			give(port)
		}
	}
	for range ports {
		port, err := loopback.FreePort(t.Context())
		require.NoError(t, err)
		give(port)
	}
}

const childEnv = "ONCEMQ_LOOPBACK_CHILD"
