package postgres

import (
	"context"
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
	pg := testenv.SharedPostgres(t)
	proxy := fault.Start(t, pg.Addr())
	s := openStore(t, withOptions(pg.URLAt(proxy.Addr()), "max_conns", "1"), Options{NoListen: true})
	l := acquire(t, s)
	published := []persist.PacketState{{PacketID: 1, Step: persist.StepPublished, Position: 1}}
	released := []persist.PacketState{{PacketID: 1, Step: persist.StepReleased, Position: 1}}
	require.NoError(t, l.SaveSession(t.Context(), "c", nil), "so that the statement is prepared")
	proxy.Latency(fault.ToServer, 3*time.Second)
	_, err := s.Time(t.Context()) // the proxy looks at its faults before each read
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	require.ErrorIs(t, l.SaveSession(short, "c", published), persist.ErrUnknownOutcome)
	proxy.Latency(fault.ToServer, 0)
	require.NoError(t, l.SaveSession(t.Context(), "c", published), "once more")
	require.NoError(t, l.SaveSession(t.Context(), "c", released))
	require.Eventually(t, func() bool { // the server has read the first connection to its end
		return pg.Exec("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'oncemq'") == "1"
	}, time.Minute, 20*time.Millisecond)
	states, err := s.LoadSession(t.Context(), "c", l.Epoch())
	require.NoError(t, err)
	require.Equal(t, released, states)
	require.NoError(t, l.SaveSession(t.Context(), "c", nil), "the lease is good")
}
