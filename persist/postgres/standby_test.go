package postgres

import (
	"context"
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
		standbys := func(names string) {
			pg.Exec("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'")
			pg.Exec("SELECT pg_reload_conf()")
			require.Eventually(t, func() bool { return pg.Exec("SHOW synchronous_standby_names") == names }, 10*time.Second, time.Millisecond)
		}
		for what, call := range calls {
			standbys("nobody")
			short, cancel := context.WithTimeout(t.Context(), time.Second)
			require.Error(t, call.first(short), what)
			cancel()
			short, cancel = context.WithTimeout(t.Context(), 2*time.Second)
			require.Error(t, call.again(short), "%s of %s: found, and no standby has it", what, name)
			cancel()
			standbys("")
			require.NoError(t, call.again(t.Context()), what)
		}
	}
}
