package postgres

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// A commit whose caller has given up waiting for the synchronous standby stays, and the
// standby does not have it. Who comes again and finds it has no answer before a standby
// has it: else what was acknowledged for it would be lost with the primary.
func TestFoundIsOnStandby(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{})
	for name, opts := range map[string]Options{"unlimited": {NoListen: true}, "limited": {NoListen: true, MaxMessages: 1}} {
		opts.Schema = name
		s := openStore(t, pg.URL(), opts)
		_, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Owner: "o", TTL: time.Hour, Keys: []string{"warm"}}) // makes the group
		require.NoError(t, err)
		granted, err := s.Claim(t.Context(), persist.ClaimRequest{Group: "g", Owner: "o", TTL: time.Hour, Keys: []string{"k"}})
		require.NoError(t, err)
		once := plainMessage("once")
		once.Idempotent = true
		calls := map[string]struct {
			first, again func(ctx context.Context) error
		}{
			"claim": {
				func(ctx context.Context) error {
					_, err := s.Complete(ctx, "g", []persist.Completion{{Claim: granted[0]}}, time.Hour)
					return err
				},
				func(ctx context.Context) error {
					claims, err := s.Claim(ctx, persist.ClaimRequest{Group: "g", Owner: "p", TTL: time.Hour, Keys: []string{"k"}})
					if err == nil {
						require.Equal(t, persist.ClaimCompleted, claims[0].State)
					}
					return err
				},
			},
			"enqueue": {
				func(ctx context.Context) error {
					_, err := s.Enqueue(ctx, []persist.Message{once})
					return err
				},
				func(ctx context.Context) error {
					places, err := s.Enqueue(ctx, []persist.Message{once})
					if err == nil {
						require.True(t, places[0].Duplicate)
					}
					return err
				},
			},
		}
		for what, call := range calls {
			needStandby(t, pg)
			ctx, giveUp := context.WithCancel(t.Context())
			first := make(chan error, 1)
			go func() { first <- call.first(ctx) }()
			awaitsStandby(t, pg)
			giveUp()
			require.Error(t, <-first, what)
			short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			require.Error(t, call.again(short), "%s of %s: found, and no standby has it", what, name)
			cancel()
			setStandbys(pg, "")
			require.NoError(t, call.again(t.Context()), what)
		}
	}
}

// needStandby has every commit wait for a standby that does not exist. It returns once
// they do: what has them wait is a flag of the checkpointer's, who reads the
// configuration in its own time, whatever SHOW says.
func needStandby(t *testing.T, pg *testenv.PostgresServer) {
	t.Helper()
	pool := openPool(t, pg.URL())
	setStandbys(pg, "nobody")
	for end := time.Now().Add(testenv.DefaultTimeout); ; {
		require.True(t, time.Now().Before(end), "commits do not wait")
		committed := make(chan error, 1)
		go func() {
			_, err := pool.Exec(t.Context(), "SELECT pg_logical_emit_message(true, 'probe', '')")
			committed <- err
		}()
		require.Eventually(t, func() bool {
			return len(committed) > 0 || pg.Exec("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'") != ""
		}, testenv.DefaultTimeout, time.Millisecond)
		if len(committed) > 0 {
			require.NoError(t, <-committed)
			continue
		}
		pg.Exec("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
		require.NoError(t, <-committed)
		return
	}
}

func setStandbys(pg *testenv.PostgresServer, names string) {
	pg.Exec("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'")
	pg.Exec("SELECT pg_reload_conf()")
}

// awaitsStandby is the process of the server in which a commit waits for a standby.
func awaitsStandby(t *testing.T, pg *testenv.PostgresServer) (pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		var err error
		pid, err = strconv.Atoi(pg.Exec("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"))
		return err == nil
	}, testenv.DefaultTimeout, time.Millisecond)
	return pid
}
