package redis

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/fault"
	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// A save that was given up is on its way for longer than those that are made after it on
// another connection. It does not undo them when it arrives [SESSION-6].
func TestLateSaveChangesNothing(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	proxy := fault.Start(t, server.Addr())
	s := openStore(t, server.URLAt(proxy.Addr())+"?pool_size=1", Options{})
	l, err := s.AcquireLane(t.Context(), 0, "o", time.Hour)
	require.NoError(t, err)
	published := []persist.PacketState{{PacketID: 1, Step: persist.StepPublished, Position: 1}}
	released := []persist.PacketState{{PacketID: 1, Step: persist.StepReleased, Position: 1}}
	require.NoError(t, l.SaveSession(t.Context(), "c", nil), "so that the script is known")
	proxy.Latency(fault.ToServer, 3*time.Second)
	_, err = s.Time(t.Context()) // the proxy looks at its faults before each read
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.ErrorIs(t, l.SaveSession(short, "c", published), persist.ErrUnknownOutcome)
	proxy.Latency(fault.ToServer, 0)
	require.NoError(t, l.SaveSession(t.Context(), "c", published), "once more")
	require.NoError(t, l.SaveSession(t.Context(), "c", released))
	clients := func() int {
		_, rest, _ := strings.Cut(server.Command("INFO", "clients"), "connected_clients:")
		text, _, _ := strings.Cut(rest, "\r")
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		return n
	}
	before := clients()
	require.Eventually(t, func() bool { return clients() < before }, time.Minute, 20*time.Millisecond,
		"the server has read the first connection to its end")
	states, err := s.LoadSession(t.Context(), "c", l.Epoch())
	require.NoError(t, err)
	require.Equal(t, released, states)
	require.NoError(t, l.SaveSession(t.Context(), "c", nil), "the lease is good")
}
