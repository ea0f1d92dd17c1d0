package testenv_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

func TestRedisKeepsItsDataWhenKilled(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t, testenv.RedisOptions{AppendFsync: "always"})
	require.Equal(t, "OK", r.Command("SET", "k", "v"))
	port := r.Port()
	r.Kill()
	_, err := r.TryCommand(t.Context(), "GET", "k")
	require.Error(t, err)
	r.Start()
	require.Equal(t, "v", r.Command("GET", "k"))
	require.Equal(t, "appendfsync\nalways", r.Command("CONFIG", "GET", "appendfsync"))
	r.Stop()
	r.Start()
	require.Equal(t, "v", r.Command("GET", "k"))
	require.Equal(t, port, r.Port())
}

func TestRedisWithoutAppendOnlyFileLosesItsData(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t, testenv.RedisOptions{NoAppendOnly: true})
	r.Command("SET", "k", "v")
	r.Kill()
	r.Start()
	require.Empty(t, r.Command("GET", "k"))
}

func TestRedisPause(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t, testenv.RedisOptions{})
	r.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := r.TryCommand(ctx, "PING")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	r.Continue()
	require.Equal(t, "PONG", r.Command("PING"))
}

func TestRedisUserHasTheRightsOfTheACL(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t, testenv.RedisOptions{User: "ann", ACL: "~app:* +@all -@dangerous"})
	require.Equal(t, "OK", r.Command("ACL", "DRYRUN", "ann", "SET", "app:1", "x"))
	require.Contains(t, r.Command("ACL", "DRYRUN", "ann", "SET", "other", "x"), "no permissions")

	cli := func(url string, args ...string) string {
		out, err := exec.CommandContext(t.Context(), testenv.Program(t, "redis-cli", "redis-tools"),
			append([]string{"--no-auth-warning", "-u", url}, args...)...).CombinedOutput()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	require.Equal(t, "OK", cli(r.URL(), "SET", "app:1", "x"))
	require.Contains(t, cli(r.URL(), "SET", "other", "x"), "NOPERM")
	require.Contains(t, cli("redis://"+r.Addr(), "PING"), "NOAUTH")

	protected := testenv.Redis(t, testenv.RedisOptions{Password: "secret"})
	require.Equal(t, "redis://:secret@"+protected.Addr()+"/0", protected.URL())
	// redis-cli takes the empty name for a name.
	require.Equal(t, "PONG", cli(strings.Replace(protected.URL(), "://:", "://default:", 1), "PING"))
	require.Contains(t, cli("redis://"+protected.Addr(), "PING"), "NOAUTH")
}

func TestRedisRefusesWritesBeyondMaxMemory(t *testing.T) {
	t.Parallel()
	full := testenv.Redis(t, testenv.RedisOptions{MaxMemory: "1kb"})
	_, err := full.TryCommand(t.Context(), "SET", "k", "v")
	require.ErrorContains(t, err, "OOM")
	evicts := testenv.Redis(t, testenv.RedisOptions{MaxMemory: "100mb", MaxMemoryPolicy: "allkeys-lru"})
	require.Equal(t, "maxmemory-policy\nallkeys-lru", evicts.Command("CONFIG", "GET", "maxmemory-policy"))
}

func TestRedisReplicaTakesOver(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]testenv.RedisOptions{
		"open":     {},
		"password": {Password: "secret"},
		"user":     {User: "ann"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			master := testenv.Redis(t, options)
			master.Command("SET", "k", "v")
			replica := master.Replica(t)
			require.Equal(t, "v", replica.Command("GET", "k"))
			_, err := replica.TryCommand(t.Context(), "SET", "k", "w")
			require.ErrorAs(t, err, new(testenv.RedisError))
			require.ErrorContains(t, err, "READONLY")
			// So many that the replica has them later.
			const many = "for i = 1, 100000 do redis.call('SET', 'many' .. i, i) end"
			master.Command("EVAL", many, "0")
			replica.CatchUp(master)
			require.Equal(t, "100001", replica.Command("DBSIZE"))
			master.Kill()
			replica.Command("REPLICAOF", "NO", "ONE")
			replica.Command("SET", "k", "w")
			master.Start()
			require.Equal(t, "v", master.Command("GET", "k"))
			require.Equal(t, "master", master.Role())
		})
	}
}
