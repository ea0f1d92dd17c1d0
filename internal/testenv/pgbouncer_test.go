package testenv_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

func TestPgBouncerGivesAConnectionForATransaction(t *testing.T) {
	t.Parallel()
	pg := testenv.SharedPostgres(t)
	pg.Exec("CREATE TABLE here (n int)")
	for mode, shared := range map[string]bool{"transaction": true, "session": false} {
		b := testenv.PgBouncer(t, pg, testenv.PgBouncerOptions{PoolMode: mode, PoolSize: 1})
		require.Equal(t, strings.Replace(pg.URL(), pg.Addr(), b.Addr(), 1), b.URL())
		pg.Exec("TRUNCATE here")
		// A client who has done something, and stays.
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := b.TryExec(ctx, "INSERT INTO here VALUES (1);\nSELECT 1 \\watch 60")
			left <- err
		}()
		require.Eventually(t, func() bool { return pg.Exec("SELECT count(*) FROM here") == "1" },
			testenv.DefaultTimeout, 10*time.Millisecond)
		within, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := b.TryExec(within, "SELECT 1")
		cancel()
		require.Equal(t, shared, err == nil, "%s: %v", mode, err)
		require.Contains(t, b.Admin("SHOW POOLS"), pg.Database()+"|oncemq|")
		leave()
		require.Error(t, <-left)
	}
}

func TestPgBouncerKilledAndPaused(t *testing.T) {
	t.Parallel()
	b := testenv.PgBouncer(t, testenv.SharedPostgres(t), testenv.PgBouncerOptions{})
	b.Exec("CREATE TABLE kept (n int)")
	addr := b.Addr()
	b.Kill()
	_, err := b.TryExec(t.Context(), "SELECT 1")
	require.ErrorContains(t, err, "Connection refused")
	b.Start()
	require.Equal(t, addr, b.Addr())
	b.Exec("INSERT INTO kept VALUES (1)")
	b.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = b.TryExec(ctx, "SELECT 1")
	require.Error(t, err)
	b.Continue()
	require.Equal(t, "1", b.Exec("SELECT count(*) FROM kept"))
}
