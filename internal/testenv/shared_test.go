package testenv_test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

func TestSharedPostgresGivesEachTestADatabase(t *testing.T) {
	t.Parallel()
	a, b := testenv.SharedPostgres(t), testenv.SharedPostgres(t)
	require.Equal(t, a.Addr(), b.Addr())
	require.NotEqual(t, a.Database(), b.Database())
	a.Exec("CREATE TABLE mine (n int)")
	b.Exec("CREATE TABLE mine (n int)")

	var gone string
	t.Run("a test that ends", func(t *testing.T) {
		c := testenv.SharedPostgres(t)
		gone = c.Database()
		require.Contains(t, a.Exec("SELECT datname FROM pg_database"), gone)
	})
	require.NotContains(t, a.Exec("SELECT datname FROM pg_database"), gone)
}

func TestSharedRedisIsOne(t *testing.T) {
	t.Parallel()
	require.Equal(t, testenv.SharedRedis(t).URL(), testenv.SharedRedis(t).URL())
	require.Equal(t, "PONG", testenv.SharedRedis(t).Command("PING"))
}

// asProcess is the environment variable that makes this test binary the process
// whose shared servers another test looks at.
const asProcess = "TESTENV_SHARED"

// TestSharedServersOfAProcess is that process: it says where its servers are,
// and stays with one of its own that it cannot end any more, or does what it may
// not, and ends.
func TestSharedServersOfAProcess(t *testing.T) {
	t.Parallel()
	how := os.Getenv(asProcess)
	if how == "" {
		t.Skip("another test runs it")
	}
	pg, r := testenv.SharedPostgres(t), testenv.SharedRedis(t)
	fmt.Println("server", pg.Addr(), filepath.Dir(pg.Exec("SHOW data_directory")))
	_, dir, _ := strings.Cut(r.Command("CONFIG", "GET", "dir"), "\n")
	fmt.Println("server", r.Addr(), dir)
	if how == "stay" {
		own := testenv.Postgres(t, testenv.PostgresOptions{})
		fmt.Println("server", own.Addr(), filepath.Dir(own.Exec("SHOW data_directory")))
		own.Pause()
		fmt.Println("ready")
		<-t.Context().Done()
	}
	t.Run("kill", func(t *testing.T) { t.Parallel(); testenv.SharedPostgres(t).Kill() })
	t.Run("stop", func(t *testing.T) { t.Parallel(); testenv.SharedRedis(t).Stop() })
}

func TestSharedServersEndWithTheProcess(t *testing.T) {
	t.Parallel()
	testenv.SharedPostgres(t) // skips where it has to
	testenv.SharedRedis(t)
	for how, last := range map[string]string{"stay": "ready", "end": "FAIL"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestSharedServersOfAProcess$")
			cmd.Env = append(os.Environ(), asProcess+"="+how)
			p := testenv.Start(t, cmd)
			_, err := p.Stdout.WaitFor(timeout(t), func(line string) bool { return line == last })
			require.NoError(t, err)
			var servers [][]string // addresses and folders
			for _, line := range p.Stdout.Lines() {
				if server, ok := strings.CutPrefix(line, "server "); ok {
					servers = append(servers, strings.Fields(server))
				}
			}
			var segment string
			if how == "stay" {
				require.Len(t, servers, 3)
				segment = segmentOf(t, filepath.Join(servers[2][1], "data"))
				for _, server := range servers {
					nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", server[0])
					require.NoError(t, err)
					require.NoError(t, nc.Close())
					require.DirExists(t, server[1])
				}
				p.Kill()
			} else {
				require.Len(t, servers, 2)
				require.Contains(t, p.Stdout.String(), "Kill: the server is shared")
				require.Contains(t, p.Stdout.String(), "Stop: the server is shared")
			}
			for _, server := range servers {
				awaitGone(t, server[0], server[1])
			}
			require.NotContains(t, segments(), segment)
		})
	}
}

// awaitGone waits until nobody listens on an address, a folder is removed and no
// process is in there.
func awaitGone(t *testing.T, addr, dir string) {
	t.Helper()
	require.Eventually(t, func() bool {
		nc, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err == nil {
			return nc.Close() != nil
		}
		_, missing := os.Stat(dir)
		return errors.Is(err, syscall.ECONNREFUSED) && errors.Is(missing, fs.ErrNotExist) && len(processesIn(dir)) == 0
	}, testenv.DefaultTimeout, 10*time.Millisecond, "%s or %s is still there", addr, dir)
}

// processesIn are the processes whose working directory is in a folder, as far
// as the system tells.
func processesIn(dir string) []string {
	var in []string
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		// It reads "… (deleted)" afterwards.
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, dir) {
			in = append(in, link)
		}
	}
	return in
}
