package autopaho_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/memory"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// eachBackend runs a test with what opens new stores of one kind, on a server of
// the test.
func eachBackend(t *testing.T, check func(t *testing.T, open func(t *testing.T) persist.Store)) {
	t.Helper()
	for kind, opener := range map[string]func(t *testing.T) func(n int64) string{
		"memory": func(*testing.T) func(int64) string { return func(int64) string { return "memory:" } },
		"sqlite": func(t *testing.T) func(int64) string {
			t.Helper()
			dir := t.TempDir()
			return func(n int64) string { return fmt.Sprintf("sqlite://%s/%d.db?synchronous=normal", dir, n) }
		},
		"postgres": func(t *testing.T) func(int64) string {
			t.Helper()
			url := testenv.SharedPostgres(t).URL()
			return func(n int64) string { return fmt.Sprintf("%s&schema=s%d&max_conns=3", url, n) }
		},
		"redis": func(t *testing.T) func(int64) string {
			t.Helper()
			url, prefix := testenv.SharedRedis(t).URL(), uuid.NewString() // nor is it that of the same test, run once more
			return func(n int64) string { return fmt.Sprintf("%s?prefix=%s.%d", url, prefix, n) }
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			url := opener(t)
			var count atomic.Int64
			check(t, func(t *testing.T) persist.Store {
				t.Helper()
				return opened(t, url(count.Add(1)))
			})
		})
	}
}

func opened(t *testing.T, url string) persist.Store {
	t.Helper()
	s, err := persist.Open(t.Context(), url, memory.Driver{}, sqlite.Driver{}, postgres.Driver{}, redis.Driver{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}
