package testenv_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

func TestPostgresKeepsWhatIsCommittedWhenKilled(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{})
	pg.Exec("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1), (2)")
	port := pg.Port()
	for range 2 {
		pg.Kill()
		_, err := pg.TryExec(t.Context(), "SELECT 1")
		require.Error(t, err)
		pg.Start()
		require.Equal(t, "1\n2", pg.Exec("SELECT n FROM kept ORDER BY n"))
	}
	pg.Stop()
	pg.Start()
	require.Equal(t, "2", pg.Exec("SELECT count(*) FROM kept"))
	require.Equal(t, port, pg.Port())
	require.Contains(t, pg.Log(), "was not properly shut down")
	require.Contains(t, pg.Log(), "received fast shutdown request")
}

func TestPostgresPauseStopsEveryBackend(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{})
	answered := make(chan error, 1)
	go func() {
		_, err := pg.TryExec(t.Context(), "SELECT pg_sleep(0.3)")
		answered <- err
	}()
	awaitQuery(t, pg, "SELECT pg_sleep(0.3)")
	pg.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
	defer cancel()
	_, err := pg.TryExec(ctx, "SELECT 1")
	require.Error(t, err, "a new connection")
	select {
	case err := <-answered:
		require.Fail(t, "the backend went on", "%v", err)
	default:
	}
	pg.Continue()
	require.NoError(t, <-answered)
	require.Equal(t, "1", pg.Exec("SELECT 1"))
}

func TestPostgresURLs(t *testing.T) {
	t.Parallel()
	pg := testenv.Postgres(t, testenv.PostgresOptions{MaxConnections: 7, NoFsync: true, SynchronousCommit: "off", Extra: []string{"work_mem = 1234kB"}})
	psql := testenv.Program(t, "psql", "postgresql-client")
	query := func(url string) string {
		const sql = "SELECT current_user, current_database(), setting FROM pg_settings" +
			" WHERE name IN ('fsync', 'max_connections', 'synchronous_commit', 'work_mem') ORDER BY name"
		out, err := exec.CommandContext(t.Context(), psql, "-X", "-A", "-t", "-c", sql, url).CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	require.Equal(t, "oncemq|oncemq|off\noncemq|oncemq|7\noncemq|oncemq|off\noncemq|oncemq|1234\n", query(pg.URL()))
	own := pg.NewDatabase()
	require.Contains(t, query(own.URL()), "oncemq|"+own.Database()+"|7\n")
	shared := testenv.SharedPostgres(t)
	require.Contains(t, query(shared.URL()), "oncemq|"+shared.Database()+"|300\n")
	b := testenv.PgBouncer(t, shared, testenv.PgBouncerOptions{})
	require.Contains(t, query(b.URL()), "oncemq|"+shared.Database()+"|300\n")

	out, err := exec.CommandContext(t.Context(), psql, "-X", "-c", "SELECT 1",
		strings.Replace(pg.URL(), pg.Password(), "wrong", 1)).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "password authentication failed")
}

func TestPostgresLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testenv.PostgresServer){
		"paused": (*testenv.PostgresServer).Pause,
		"killed": (*testenv.PostgresServer).Kill,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var data, segment string
			t.Run("server", func(t *testing.T) {
				pg := testenv.Postgres(t, testenv.PostgresOptions{})
				data = pg.Exec("SHOW data_directory")
				segment = segmentOf(t, data)
				end(pg)
			})
			require.NoDirExists(t, filepath.Dir(data))
			require.NotContains(t, segments(), segment)
		})
	}
}

// segmentOf is the identifier of the shared memory that a running server with
// that data folder has.
func segmentOf(t *testing.T, data string) string {
	t.Helper()
	lock, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	require.NoError(t, err)
	fields := strings.Fields(strings.Split(string(lock), "\n")[6])
	require.Len(t, fields, 2)
	return fields[1]
}

// segments are the identifiers of all shared memory, as far as the system tells.
func segments() []string {
	text, _ := os.ReadFile("/proc/sysvipc/shm")
	var all []string
	for line := range strings.Lines(string(text)) {
		all = append(all, strings.Fields(line)[1])
	}
	return all
}

// awaitQuery waits until a query runs in the server's database.
func awaitQuery(t *testing.T, pg *testenv.PostgresServer, query string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return pg.Exec("SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"+
			" AND datname = current_database() AND query = '"+query+"'") == "1"
	}, testenv.DefaultTimeout, 10*time.Millisecond)
}

func TestPostgresTerminateBackends(t *testing.T) {
	t.Parallel()
	for name, pg := range map[string]*testenv.PostgresServer{
		"private": testenv.Postgres(t, testenv.PostgresOptions{}),
		"shared":  testenv.SharedPostgres(t),
	} {
		ended := make(chan error, 1)
		go func() {
			_, err := pg.TryExec(t.Context(), "SELECT pg_sleep(60)")
			ended <- err
		}()
		awaitQuery(t, pg, "SELECT pg_sleep(60)")
		pg.TerminateBackends()
		require.ErrorContains(t, <-ended, "terminating connection due to administrator command", name)
	}
}

func TestPostgresStandbyTakesOver(t *testing.T) {
	t.Parallel()
	primary := testenv.Postgres(t, testenv.PostgresOptions{MaxConnections: 120})
	primary.Exec("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
	standby := primary.Standby(t, testenv.PostgresOptions{})
	primary.Exec("INSERT INTO kept VALUES (2)")
	standby.CatchUp(primary)
	require.Equal(t, "1\n2", standby.Exec("SELECT n FROM kept ORDER BY n"))
	_, err := standby.TryExec(t.Context(), "INSERT INTO kept VALUES (3)")
	require.ErrorContains(t, err, "read-only transaction")

	primary.Kill()
	standby.Promote()
	standby.Exec("INSERT INTO kept VALUES (3)")
	primary.Follow(standby)
	require.Equal(t, "1\n2\n3", primary.Exec("SELECT n FROM kept ORDER BY n"))
	_, err = primary.TryExec(t.Context(), "INSERT INTO kept VALUES (4)")
	require.ErrorContains(t, err, "read-only transaction")
}
