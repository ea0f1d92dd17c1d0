package testenv

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oncemq/oncemq/internal/loopback"
)

const (
	// postgresUser is the superuser and the name of their database.
	postgresUser = "oncemq"
	// portAttempts is how often a port is looked for before a test gives up.
	portAttempts = 5
)

// postgresCluster is a data folder and what is needed to run a server on it.
type postgresCluster struct {
	options  PostgresOptions
	bin      string // folder of PostgreSQL's programs
	owner    *syscall.Credential
	dir      string // of data, run (the socket) and the configuration
	port     int
	password string
	shared   *sharedServer // nil if a test has it to itself
	sweeper  *sweeper      // nil if shared
}

// postgresPrograms is the folder of PostgreSQL's programs: that of the one in
// PATH, or Debian's newest.
func postgresPrograms(tb testing.TB) string {
	tb.Helper()
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		// The programs stand side by side where a link leads to.
		if real, err := filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(real))
		}
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.SortFunc(debian, func(a, b string) int { return debianVersion(b) - debianVersion(a) })
	for _, dir := range append(dirs, debian...) {
		if hasPrograms(dir, "initdb", "postgres", "psql", "pg_basebackup") {
			return dir
		}
	}
	missing(tb, "postgres", "postgresql")
	return ""
}

// debianVersion is the version in a path such as /usr/lib/postgresql/15/bin.
func debianVersion(bin string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(bin)))
	return version
}

func hasPrograms(dir string, names ...string) bool {
	for _, name := range names {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err != nil {
			return false
		}
	}
	return true
}

// newPostgresCluster makes the folder, which remove removes.
func newPostgresCluster(bin string, options PostgresOptions) (*postgresCluster, error) {
	owner, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := folderFor(owner)
	if err != nil {
		return nil, err
	}
	c := &postgresCluster{options: options, bin: bin, owner: owner, dir: dir, password: rand.Text()}
	if err := c.makeFolder("run"); err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

// sweepLater has the folder and its server swept away if the test process dies.
func (c *postgresCluster) sweepLater() error {
	var err error
	c.sweeper, err = startSweeper(c.dir, c.owner)
	return err
}

func (c *postgresCluster) remove() {
	_ = os.RemoveAll(c.dir)
	if c.sweeper != nil {
		c.sweeper.dismiss()
	}
}

func (c *postgresCluster) path(name string) string { return filepath.Join(c.dir, name) }

// makeFolder makes a folder that belongs to the owner.
func (c *postgresCluster) makeFolder(name string) error {
	if err := os.Mkdir(c.path(name), 0o700); err != nil {
		return err
	}
	return give(c.path(name), c.owner)
}

// command is one of PostgreSQL's programs, run by the owner. PG* variables of
// the test's environment do not reach it.
func (c *postgresCluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, name), args...) //nolint:gosec // one of PostgreSQL's own.
	c.prepare(cmd)
	return cmd
}

// server is the server's command, which no context ends.
func (c *postgresCluster) server() *exec.Cmd {
	//nolint:gosec,noctx // the program is the one that was looked up; Process ends it.
	cmd := exec.Command(filepath.Join(c.bin, "postgres"),
		"-D", c.path("data"), "-c", "config_file="+c.path("postgresql.conf"))
	c.prepare(cmd)
	return cmd
}

func (c *postgresCluster) prepare(cmd *exec.Cmd) {
	cmd.Dir = c.dir
	// A grandchild that keeps the streams open must not keep the test.
	cmd.WaitDelay = time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.owner}
}

// copyTemplate fills the data folder. A copy takes a tenth of initdb's time.
func (c *postgresCluster) copyTemplate(ctx context.Context) error {
	template, err := c.template(ctx)
	if err != nil {
		return err
	}
	return copyFolder(ctx, template, c.path("data"))
}

// template is a data folder of initdb, with the superuser, who has no password
// yet, and the database. It is kept in the user's cache, one for each version
// of PostgreSQL, and put in place by a rename: test processes that make it at
// the same time do not disturb each other.
func (c *postgresCluster) template(ctx context.Context) (string, error) {
	version, err := c.command(ctx, "postgres", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("postgres --version: %w", err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	const layout = 3 // raise it when makeTemplate changes
	sum := sha256.Sum256(fmt.Appendf(version, "%d %v", layout, c.owner))
	parent := filepath.Join(cache, "oncemq-test")
	place := filepath.Join(parent, "postgres-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(place); err == nil {
		return place, nil
	}
	if err := c.makeTemplate(ctx); err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(c.path("template")) }()
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(parent, "postgres-new-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	made := filepath.Join(scratch, "data")
	if err := copyFolder(ctx, c.path("template"), made); err != nil {
		return "", err
	}
	// If another process was faster its template serves as well.
	if err := os.Rename(made, place); err != nil {
		if _, missing := os.Stat(place); missing != nil {
			return "", err
		}
	}
	return place, nil
}

func (c *postgresCluster) makeTemplate(ctx context.Context) error {
	if err := c.makeFolder("template"); err != nil {
		return err
	}
	// Small segments: to fill and copy those of 16 MB is most of a start's time.
	initdb := c.command(ctx, "initdb", "-D", c.path("template"), "-U", postgresUser,
		"--encoding=UTF8", "--locale=C", "--auth=trust", "--wal-segsize=1", "--no-sync", "--no-instructions")
	if text, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, text)
	}
	// Not one more database: each is three hundred files.
	single := c.command(ctx, "postgres", "--single", "-D", c.path("template"), "template1")
	single.Stdin = strings.NewReader("ALTER DATABASE postgres RENAME TO " + postgresUser + "\n")
	if text, err := single.CombinedOutput(); err != nil {
		return fmt.Errorf("rename the database: %w\n%s", err, text)
	}
	return nil
}

// copyFolder copies with owners and modes.
func copyFolder(ctx context.Context, from, to string) error {
	if text, err := exec.CommandContext(ctx, "cp", "-Rp", from, to).CombinedOutput(); err != nil { //nolint:gosec // folders of this package.
		return fmt.Errorf("cp: %w\n%s", err, text)
	}
	return nil
}

// configure writes the configuration, with a new port. It lives outside of the
// data, so that a copy of the data is a server of its own.
func (c *postgresCluster) configure(ctx context.Context) error {
	port, err := loopback.FreePort(ctx)
	if err != nil {
		return err
	}
	c.port = port
	o := c.options
	fsync, commit, connections := "on", o.SynchronousCommit, o.MaxConnections
	if o.NoFsync {
		fsync = "off"
	}
	if commit == "" {
		commit = "on"
	}
	if connections == 0 {
		connections = 100
	}
	lines := append([]string{
		"listen_addresses = '127.0.0.1'",
		fmt.Sprintf("port = %d", port),
		fmt.Sprintf("unix_socket_directories = '%s'", c.path("run")),
		fmt.Sprintf("hba_file = '%s'", c.path("pg_hba.conf")),
		fmt.Sprintf("max_connections = %d", connections),
		fmt.Sprintf("fsync = %s", fsync),
		fmt.Sprintf("synchronous_commit = %s", commit),
		"shared_buffers = 64MB",
		"max_wal_size = 256MB",
		"wal_level = replica",
		"max_wal_senders = 10",
		"wal_keep_size = 64MB",
		"hot_standby = on",
		"password_encryption = scram-sha-256",
		// Elsewhere it would outlive a server that is killed.
		"dynamic_shared_memory_type = mmap",
		"log_destination = stderr",
		"logging_collector = off",
		"log_line_prefix = '%m [%p] %d '",
		"timezone = UTC",
	}, o.Extra...)
	if err := c.write("postgresql.conf", lines); err != nil {
		return err
	}
	return c.write("pg_hba.conf", []string{
		// Only the owner and root reach the folder of the socket.
		"local all all trust",
		"host all all 127.0.0.1/32 scram-sha-256",
		"host replication all 127.0.0.1/32 scram-sha-256",
	})
}

func (c *postgresCluster) write(name string, lines []string) error {
	if err := os.WriteFile(c.path(name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return give(c.path(name), c.owner)
}

// ready tells whether the server with this process identifier (0: any) accepts
// clients, by what it has written into its lock file, as pg_ctl does. A file
// that a killed server left has another identifier.
func (c *postgresCluster) ready(pid int) bool {
	lines := c.lockFile()
	const status = 7
	if len(lines) <= status || pid != 0 && lines[0] != strconv.Itoa(pid) {
		return false
	}
	state := strings.TrimSpace(lines[status])
	return state == "ready" || state == "standby"
}

func (c *postgresCluster) lockFile() []string {
	text, err := os.ReadFile(c.path("data/postmaster.pid"))
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\n")
}

// releaseMemory removes the segment of System V shared memory that a killed
// server leaves behind: there are only so many of them.
func (c *postgresCluster) releaseMemory() {
	lines := c.lockFile()
	const segment = 6 // its key and identifier
	if len(lines) <= segment {
		return
	}
	if fields := strings.Fields(lines[segment]); len(fields) == 2 {
		// It may be gone already, or ipcrm may be missing.
		_ = exec.Command("ipcrm", "-m", fields[1]).Run() //nolint:gosec,noctx // a number that the server wrote; it does not wait for anything.
	}
}

// unprivileged is whom to run servers as that refuse root; nil is the user of
// the test.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil is an answer.
	}
	var last error
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			last = err
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, last
}

// give makes an owner of a file, unless it is the test's user already.
func give(path string, owner *syscall.Credential) error {
	if owner == nil {
		return nil
	}
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}

// folderFor makes a temporary folder for an owner. That of the test would not
// do for another user, who may not pass through the folder above it, and
// its name can be too long for a socket's.
func folderFor(owner *syscall.Credential) (string, error) {
	parent := os.TempDir()
	if owner != nil && !passable(parent) {
		parent = "/var/tmp"
	}
	dir, err := os.MkdirTemp(parent, "oncemq-")
	if err != nil {
		return "", err
	}
	return dir, give(dir, owner)
}

// passable tells whether every user may reach a folder.
func passable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
