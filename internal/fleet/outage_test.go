package fleet

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

// PostgreSQL goes away in every way but for good: nothing that was accepted is
// lost, and work goes on by itself when it is back.
func TestPostgresComesBack(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{MaxConnections: 40})
	f := flow(t, pg.URL())

	pg.Kill()
	pause(f.ctx, time.Second)
	pg.Start()
	f.recovered(time.Now())

	pg.Stop()
	pause(f.ctx, time.Second)
	pg.Start()
	f.recovered(time.Now())

	for range 5 {
		pg.TerminateBackends()
		f.recovered(time.Now())
		pause(f.ctx, time.Second)
	}

	taken := takeConnections(f.ctx, t, pg.URL())
	// The clients' own go, too: they find no place when they come again.
	_, err := taken[0].Exec(f.ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'oncemq'")
	require.NoError(t, err)
	taken = append(taken, takeConnections(f.ctx, t, pg.URL())...)
	pause(f.ctx, time.Second)
	for _, c := range taken {
		_ = c.Close(context.Background()) // it may be terminated
	}
	f.recovered(time.Now())

	_, lost, doubled := f.end()
	require.Zero(t, lost)
	require.Zero(t, doubled, "nothing died that had work in hand")
}

// takeConnections takes all that the server has left.
func takeConnections(ctx context.Context, t *testing.T, url string) (taken []*pgx.Conn) {
	t.Helper()
	for {
		c, err := pgx.Connect(ctx, url)
		if err != nil {
			require.ErrorContains(t, err, "too many clients")
			require.NotEmpty(t, taken)
			return taken
		}
		taken = append(taken, c)
	}
}

// The primary is lost and its synchronous standby promoted: nothing is lost.
func TestPostgresStandbyTakesOver(t *testing.T) {
	t.Parallel()
	primary := testenv.Postgres(t, testenv.PostgresOptions{})
	standby := primary.Standby(t, testenv.PostgresOptions{})
	primary.Exec("ALTER SYSTEM SET synchronous_standby_names = '*'")
	primary.Exec("SELECT pg_reload_conf()")
	u, err := url.Parse(primary.URL())
	require.NoError(t, err)
	u.Host = primary.Addr() + "," + standby.Addr()
	f := flow(t, withQuery(u.String(), "target_session_attrs=read-write&connect_timeout=1"))

	primary.Kill()
	pause(f.ctx, time.Second)
	standby.Promote()
	f.recovered(time.Now())
	_, lost, _ := f.end()
	require.Zero(t, lost, "the standby had everything that was accepted")
}

// Redis goes away and comes back, with everything on disk before it answers.
func TestRedisComesBack(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t, testenv.RedisOptions{AppendFsync: "always"})
	f := flow(t, r.URL())

	r.Kill()
	pause(f.ctx, time.Second)
	r.Start()
	f.recovered(time.Now())

	r.Stop()
	pause(f.ctx, time.Second)
	r.Start()
	f.recovered(time.Now())

	_, err := r.TryCommand(f.ctx, "SCRIPT", "FLUSH")
	require.NoError(t, err)
	f.recovered(time.Now())

	_, err = r.TryCommand(f.ctx, "CLIENT", "KILL", "TYPE", "normal")
	require.NoError(t, err)
	f.recovered(time.Now())

	_, lost, doubled := f.end()
	require.Zero(t, lost)
	require.Zero(t, doubled, "nothing died that had work in hand")
}

// The Redis master is lost and a replica takes its place. Replication is
// asynchronous: what was accepted in the last moments may be gone, which is what
// the operations page says. Nothing else is, and work goes on.
func TestRedisSentinelTakesOver(t *testing.T) {
	t.Parallel()
	set := testenv.RedisSentinel(t)
	address := "redis+sentinel://" + strings.Join(set.Addrs(), ",") + "/" + set.MasterName + "/0"
	f := flow(t, address)
	before := time.Now()
	f.recovered(before)

	old := set.Master()
	old.Kill()
	set.AwaitFailover(old)
	back := time.Now()
	f.recovered(back)
	f.mu.Lock()
	var early int // accepted a second before the loss, and so on the replica
	for id, at := range f.accepted {
		if at.Before(before) && f.effects[id] == 0 {
			early++
		}
	}
	f.mu.Unlock()
	messages, lost, _ := f.end()
	require.Zero(t, early)
	require.Less(t, lost, messages/2, "more than what was accepted in the last moments")
}

// The slot of the store moves to another node of a Cluster and back, under load.
func TestRedisClusterSlotMoves(t *testing.T) {
	t.Parallel()
	set := testenv.RedisCluster(t)
	f := flow(t, "redis+cluster://"+strings.Join(set.Addrs(), ","))
	slot := set.Slot("{oncemq}:meta")
	for range 3 {
		set.MoveSlot(slot, (set.Owner(slot)+1)%len(set.Nodes))
		f.recovered(time.Now())
	}
	_, lost, doubled := f.end()
	require.Zero(t, lost)
	require.Zero(t, doubled)
}
