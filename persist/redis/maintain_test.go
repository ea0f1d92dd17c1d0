package redis

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// Check makes no store, Migrate does.
func TestMaintain(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	u, err := url.Parse(server.URL() + "?lanes=2")
	require.NoError(t, err)
	report, err := Driver{}.Check(t.Context(), u)
	require.NoError(t, err)
	require.Equal(t, []int{0, schema}, []int{report.Schema, report.Latest})
	require.Contains(t, report.Server, "Redis ")
	require.Equal(t, "0", server.Command("DBSIZE"))
	from, to, err := Driver{}.Migrate(t.Context(), u)
	require.NoError(t, err)
	require.Equal(t, []int{0, schema}, []int{from, to})
	server.Command("HSET", newKeys(defaultPrefix).meta, "schema", "2")
	report, err = Driver{}.Check(t.Context(), u)
	require.NoError(t, err)
	require.Equal(t, 2, report.Schema)
	_, _, err = Driver{}.Migrate(t.Context(), u)
	require.ErrorIs(t, err, persist.ErrSchema)
}
