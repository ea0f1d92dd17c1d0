package testenv

import (
	"context"
	"os"
	"strconv"
	"testing"
)

// Standby starts a streaming hot standby of the server, on a port and data of
// its own, and returns when it follows. It has the primary's password; the
// options are its own, but MaxConnections is at least the primary's. It is
// asynchronous: for a synchronous one the test sets synchronous_standby_names
// on the primary, with ALTER SYSTEM.
func (s *PostgresServer) Standby(tb testing.TB, options PostgresOptions) *PostgresServer {
	tb.Helper()
	s.mustOwn("Standby")
	options.MaxConnections = max(options.MaxConnections, s.cluster.options.MaxConnections)
	c, err := newPostgresCluster(s.cluster.bin, options)
	if err != nil {
		tb.Fatalf("testenv: standby: %v", err)
	}
	tb.Cleanup(c.remove)
	if err := c.sweepLater(); err != nil {
		tb.Fatalf("testenv: standby: %v", err)
	}
	standby := &PostgresServer{t: tb, cluster: c, database: s.database}
	standby.backUp(s)
	standby.startOnFreePort()
	standby.CatchUp(s)
	return standby
}

// Follow throws the data of a server away that is killed or stopped, and starts
// it again as a standby of another: as an old primary does that comes back after
// its standby was promoted.
func (s *PostgresServer) Follow(primary *PostgresServer) {
	s.t.Helper()
	s.mustOwn("Follow")
	if s.process.Running() {
		s.t.Fatalf("testenv: Follow: postgres is running")
	}
	s.cluster.releaseMemory()
	if err := os.RemoveAll(s.cluster.path("data")); err != nil {
		s.t.Fatalf("testenv: %v", err)
	}
	s.backUp(primary)
	s.Start()
	s.CatchUp(primary)
}

// backUp fills the data folder from a running server, and with what makes it a
// standby of that one.
func (s *PostgresServer) backUp(primary *PostgresServer) {
	s.t.Helper()
	c := s.cluster
	c.password = primary.Password()
	ctx, cancel := context.WithTimeout(s.t.Context(), DefaultTimeout)
	defer cancel()
	cmd := c.command(ctx, "pg_basebackup", "-D", c.path("data"), "-R", "-X", "stream", "-c", "fast", "--no-sync",
		"-h", primary.Host(), "-p", strconv.Itoa(primary.Port()), "-U", primary.User())
	cmd.Env = append(cmd.Env, "PGPASSWORD="+primary.Password())
	if text, err := cmd.CombinedOutput(); err != nil {
		s.t.Fatalf("testenv: pg_basebackup: %v\n%s", err, text)
	}
}

// CatchUp waits until the standby has replayed everything that its primary has
// written so far.
func (s *PostgresServer) CatchUp(primary *PostgresServer) {
	s.t.Helper()
	lsn := primary.Exec("SELECT pg_current_wal_lsn()")
	eventually(s.t, func() string {
		if at := s.Exec("SELECT pg_last_wal_replay_lsn() >= '" + lsn + "'"); at != "t" {
			return "the standby does not catch up with its primary"
		}
		return ""
	})
}

// Promote makes a standby a primary and returns when it takes writes. Nothing
// stops the old primary: a test that has not killed it has two.
func (s *PostgresServer) Promote() {
	s.t.Helper()
	s.mustOwn("Promote")
	if s.Exec("SELECT pg_promote(true, 20)") != "t" {
		s.t.Fatalf("testenv: the standby is not promoted\n%s", s.Log())
	}
}
