package testenv

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// PostgresOptions are settings of a PostgreSQL server. The zero value is a
// server that loses nothing that it has committed.
type PostgresOptions struct {
	// NoFsync turns fsync off, for tests that want speed: Kill still loses
	// nothing, only a crash of the machine would.
	NoFsync bool
	// SynchronousCommit is synchronous_commit; empty is on.
	SynchronousCommit string
	// MaxConnections is max_connections; 0 is 100. A standby takes at least its
	// primary's.
	MaxConnections int
	// Extra lines of postgresql.conf; they win over all others.
	Extra []string
}

// PostgresServer is a PostgreSQL server on a loopback port, or one test's part
// of a shared one (see SharedPostgres). Its methods belong on the goroutine of
// the test; URL and the other accessors are safe anywhere.
type PostgresServer struct {
	t        testing.TB
	cluster  *postgresCluster
	database string
	process  *Process        // nil if shared
	log      strings.Builder // of processes that have ended
}

// Postgres starts a PostgreSQL server with a data folder of its own and returns
// when it accepts clients. It listens on 127.0.0.1 and has a superuser oncemq
// with a random password, and the database oncemq in place of postgres. It ends with the test;
// if the test failed its log is shown. The test is skipped, or fails, if
// PostgreSQL is not installed: see RequireServers.
//
// PostgreSQL refuses to be run by root: for root it is run by the user
// postgres, or nobody.
func Postgres(tb testing.TB, options PostgresOptions) *PostgresServer {
	tb.Helper()
	bin := postgresPrograms(tb)
	ctx := context.WithoutCancel(tb.Context())
	c, err := newPostgresCluster(bin, options)
	if err != nil {
		tb.Fatalf("testenv: postgres: %v", err)
	}
	tb.Cleanup(c.remove)
	if err := c.sweepLater(); err != nil {
		tb.Fatalf("testenv: postgres: %v", err)
	}
	if err := c.copyTemplate(ctx); err != nil {
		tb.Fatalf("testenv: postgres: %v", err)
	}
	s := &PostgresServer{t: tb, cluster: c, database: postgresUser}
	s.startOnFreePort()
	if err := c.setPassword(ctx); err != nil {
		tb.Fatalf("testenv: postgres: %v", err)
	}
	return s
}

// startOnFreePort looks for a port and starts the server for the first time.
func (s *PostgresServer) startOnFreePort() {
	s.t.Helper()
	// Another test process may take the port between the look and the start.
	for range portAttempts {
		if err := s.cluster.configure(s.t.Context()); err != nil {
			s.t.Fatalf("testenv: postgres: %v", err)
		}
		err := s.start()
		if err == nil {
			return
		}
		s.t.Logf("testenv: start postgres on port %d: %v", s.cluster.port, err)
	}
	s.t.Fatalf("testenv: postgres does not start\n%s", s.Log())
}

// Addr is the host and port.
func (s *PostgresServer) Addr() string { return net.JoinHostPort(s.Host(), strconv.Itoa(s.Port())) }

// Host is the address without the port.
func (s *PostgresServer) Host() string { return "127.0.0.1" }

// Port is the port, the same after Start.
func (s *PostgresServer) Port() int { return s.cluster.port }

// User is the superuser's name, Password their password.
func (s *PostgresServer) User() string { return postgresUser }

// Password is the password of User.
func (s *PostgresServer) Password() string { return s.cluster.password }

// Database is the name of the database that URL leads to.
func (s *PostgresServer) Database() string { return s.database }

// URL leads to the server's database oncemq, or, if the server is shared, to
// the one that this test has to itself.
func (s *PostgresServer) URL() string { return s.urlAt(s.Addr()) }

// URLAt is URL with another host and port in front of the same database, that
// of a proxy.
func (s *PostgresServer) URLAt(addr string) string { return s.urlAt(addr) }

func (s *PostgresServer) urlAt(addr string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(s.User(), s.Password()),
		Host:     addr,
		Path:     "/" + s.database,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Kill ends the server and all its children with SIGKILL and returns when they
// are gone, as if the machine had failed, but for what the kernel still holds:
// Start then recovers.
func (s *PostgresServer) Kill() {
	s.t.Helper()
	s.mustOwn("Kill")
	s.process.killFamily()
}

// Stop ends the server with SIGINT, a fast shutdown, which rolls back what is
// open and disconnects all clients, and returns when it is gone.
func (s *PostgresServer) Stop() {
	s.t.Helper()
	s.mustOwn("Stop")
	s.process.Interrupt()
	s.process.Wait(DefaultTimeout)
}

// Start starts the server again, on the same port and data, and returns when it
// accepts clients.
func (s *PostgresServer) Start() {
	s.t.Helper()
	s.mustOwn("Start")
	if s.process.Running() {
		s.t.Fatalf("testenv: postgres is running")
	}
	if err := s.start(); err != nil {
		s.t.Fatalf("testenv: start postgres: %v\n%s", err, s.Log())
	}
}

// Pause stops the server and all its children where they are (SIGSTOP) until
// Continue: connections stay open, new ones are taken by the kernel, and
// nothing answers.
func (s *PostgresServer) Pause() {
	s.t.Helper()
	s.mustOwn("Pause")
	s.process.pauseFamily()
}

// Continue ends Pause.
func (s *PostgresServer) Continue() {
	s.t.Helper()
	s.mustOwn("Continue")
	s.process.continueFamily()
}

// Log is what the server has logged so far, over all its starts; of a shared
// server, what it has logged for all tests.
func (s *PostgresServer) Log() string {
	if s.cluster.shared != nil {
		return s.cluster.shared.log()
	}
	log := s.log.String()
	if s.process != nil {
		log += s.process.Stderr.String()
	}
	return log
}

func (s *PostgresServer) mustOwn(what string) {
	s.t.Helper()
	if s.cluster.shared != nil {
		s.t.Fatalf("testenv: %s: the server is shared with other tests; take one with Postgres", what)
	}
}

// start runs the server until it accepts clients, or returns why not.
func (s *PostgresServer) start() error {
	s.t.Helper()
	if s.process != nil {
		s.log.WriteString(s.process.Stderr.String())
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), DefaultTimeout)
	defer cancel()
	process := Start(s.t, s.cluster.server())
	s.process = process
	// Runs before the kill of Start: a server that is shut down takes its
	// children and its shared memory with it.
	s.t.Cleanup(func() { s.end(process) })
	retry := time.NewTicker(5 * time.Millisecond)
	defer retry.Stop()
	for !s.cluster.ready(process.PID()) {
		select {
		case <-retry.C:
		case <-process.Done():
			return fmt.Errorf("it ended with exit code %d", process.Wait(time.Second))
		case <-ctx.Done():
			process.killFamily()
			return fmt.Errorf("it accepts no client: %w", ctx.Err())
		}
	}
	return nil
}

// end shuts a server down at once (SIGQUIT), whatever the test did with it.
func (s *PostgresServer) end(process *Process) {
	if process.Running() {
		process.continueFamily()
		process.Signal(syscall.SIGQUIT)
		select {
		case <-process.Done():
		case <-time.After(DefaultTimeout):
			process.killFamily()
		}
	}
	s.cluster.releaseMemory()
}
