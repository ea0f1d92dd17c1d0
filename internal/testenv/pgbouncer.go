package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oncemq/oncemq/internal/loopback"
)

// PgBouncerOptions are settings of a PgBouncer, named as in pgbouncer.ini.
type PgBouncerOptions struct {
	// PoolMode is transaction (the default), session or statement.
	PoolMode string
	// PoolSize is how many connections to the server it opens for a database;
	// 0 is 20. With 1, a client that relies on its connection shows at once.
	PoolSize int
	// Extra lines of the section [pgbouncer]; they win over all others.
	Extra []string
}

// PgBouncerServer is a PgBouncer on a loopback port, in front of a PostgreSQL.
type PgBouncerServer struct {
	t        testing.TB
	postgres *PostgresServer
	options  PgBouncerOptions
	program  string
	dir      string
	owner    *syscall.Credential
	port     int
	process  *Process
	log      strings.Builder // of processes that have ended
}

// PgBouncer starts a PgBouncer in front of a server, shared or not, and returns
// when it accepts clients. It ends with the test; if the test failed its log is
// shown. The test is skipped, or fails, if PgBouncer is not installed. Like
// PostgreSQL it is not run by root.
func PgBouncer(tb testing.TB, pg *PostgresServer, options PgBouncerOptions) *PgBouncerServer {
	tb.Helper()
	b := &PgBouncerServer{t: tb, postgres: pg, options: options, program: Program(tb, "pgbouncer", "pgbouncer")}
	var err error
	if b.owner, err = unprivileged(); err != nil {
		tb.Fatalf("testenv: pgbouncer: %v", err)
	}
	if b.dir, err = folderFor(b.owner); err != nil {
		tb.Fatalf("testenv: pgbouncer: %v", err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(b.dir) })
	// Another test process may take the port between the look and the start.
	for range portAttempts {
		if err := b.configure(); err != nil {
			tb.Fatalf("testenv: pgbouncer: %v", err)
		}
		if err = b.start(); err == nil {
			return b
		}
		tb.Logf("testenv: start pgbouncer on port %d: %v", b.port, err)
	}
	tb.Fatalf("testenv: pgbouncer does not start\n%s", b.Log())
	return nil
}

// Addr is the host and port.
func (b *PgBouncerServer) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

// URL is that of the server, by way of PgBouncer.
func (b *PgBouncerServer) URL() string { return b.postgres.URLAt(b.Addr()) }

// Kill ends PgBouncer with SIGKILL and returns when it is gone: clients lose
// their connections, and what they have not committed.
func (b *PgBouncerServer) Kill() { b.t.Helper(); b.process.Kill() }

// Start starts PgBouncer again, on the same port, and returns when it accepts
// clients.
func (b *PgBouncerServer) Start() {
	b.t.Helper()
	if b.process.Running() {
		b.t.Fatalf("testenv: pgbouncer is running")
	}
	if err := b.start(); err != nil {
		b.t.Fatalf("testenv: start pgbouncer: %v\n%s", err, b.Log())
	}
}

// Pause stops PgBouncer where it is (SIGSTOP) until Continue: connections stay
// open and nothing answers.
func (b *PgBouncerServer) Pause() { b.t.Helper(); b.process.Pause() }

// Continue ends Pause.
func (b *PgBouncerServer) Continue() { b.t.Helper(); b.process.Continue() }

// Exec runs SQL as PostgresServer.Exec does, by way of PgBouncer.
func (b *PgBouncerServer) Exec(sql string) string {
	b.t.Helper()
	out, err := b.TryExec(b.t.Context(), sql)
	if err != nil {
		b.t.Fatalf("testenv: %v", err)
	}
	return out
}

// TryExec is Exec for statements that may fail, and for other goroutines than
// the test's.
func (b *PgBouncerServer) TryExec(ctx context.Context, sql string) (string, error) {
	return b.postgres.cluster.psql(ctx, b.postgres.database, sql, b.port)
}

// Admin runs a command of PgBouncer's console, such as SHOW POOLS, PAUSE,
// RECONNECT or KILL.
func (b *PgBouncerServer) Admin(command string) string {
	b.t.Helper()
	out, err := b.postgres.cluster.psql(b.t.Context(), "pgbouncer", command, b.port)
	if err != nil {
		b.t.Fatalf("testenv: %v", err)
	}
	return out
}

// Log is what PgBouncer has logged so far, over all its starts.
func (b *PgBouncerServer) Log() string {
	log := b.log.String()
	if b.process != nil {
		log += b.process.Stderr.String()
	}
	return log
}

// start runs PgBouncer until it takes connections, or returns why not.
func (b *PgBouncerServer) start() error {
	b.t.Helper()
	if b.process != nil {
		b.log.WriteString(b.process.Stderr.String())
	}
	cmd := exec.Command(b.program, filepath.Join(b.dir, "pgbouncer.ini")) //nolint:gosec,noctx // the program is the one that was looked up; Process ends it.
	cmd.Dir = b.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: b.owner}
	b.process = Start(b.t, cmd)
	ctx, cancel := context.WithTimeout(b.t.Context(), DefaultTimeout)
	defer cancel()
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for {
		// Its log says when it listens; the server behind it need not run.
		if strings.Contains(b.process.Stderr.String(), "process up:") {
			return nil
		}
		select {
		case <-retry.C:
		case <-b.process.Done():
			return fmt.Errorf("it ended with exit code %d", b.process.Wait(time.Second))
		case <-ctx.Done():
			b.process.Kill()
			return fmt.Errorf("it does not start: %w", ctx.Err())
		}
	}
}

// configure writes the configuration, with a new port.
func (b *PgBouncerServer) configure() error {
	port, err := loopback.FreePort(b.t.Context())
	if err != nil {
		return err
	}
	b.port = port
	mode, size := b.options.PoolMode, b.options.PoolSize
	if mode == "" {
		mode = "transaction"
	}
	if size == 0 {
		size = 20
	}
	lines := append([]string{
		"[databases]",
		fmt.Sprintf("* = host=%s port=%d", b.postgres.Host(), b.postgres.Port()),
		"[pgbouncer]",
		"listen_addr = 127.0.0.1",
		fmt.Sprintf("listen_port = %d", port),
		"unix_socket_dir =",
		"auth_type = scram-sha-256",
		"auth_file = " + filepath.Join(b.dir, "users"),
		"admin_users = " + b.postgres.User(),
		"pool_mode = " + mode,
		fmt.Sprintf("default_pool_size = %d", size),
		"max_client_conn = 500",
		// A server that comes back is noticed at once.
		"server_login_retry = 0.1",
	}, b.options.Extra...)
	if err := b.write("pgbouncer.ini", lines); err != nil {
		return err
	}
	return b.write("users", []string{fmt.Sprintf("%q %q", b.postgres.User(), b.postgres.Password())})
}

func (b *PgBouncerServer) write(name string, lines []string) error {
	path := filepath.Join(b.dir, name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return give(path, b.owner)
}
