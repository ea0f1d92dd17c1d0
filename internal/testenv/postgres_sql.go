package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
)

// Exec runs SQL statements with psql in the server's database (see Database)
// and returns what they print: a line for each row, fields separated by |. It
// fails the test if one of them fails.
func (s *PostgresServer) Exec(sql string) string {
	s.t.Helper()
	out, err := s.TryExec(s.t.Context(), sql)
	if err != nil {
		s.t.Fatalf("testenv: %v", err)
	}
	return out
}

// TryExec is Exec for statements that may fail, and for other goroutines than
// the test's.
func (s *PostgresServer) TryExec(ctx context.Context, sql string) (string, error) {
	return s.cluster.psql(ctx, s.database, sql, 0)
}

// TerminateBackends ends every connection of clients to the server with an
// error (SQLSTATE 57P01); if the server is shared, to this test's database. It
// returns when they are gone.
func (s *PostgresServer) TerminateBackends() {
	s.t.Helper()
	where := ""
	if s.cluster.shared != nil {
		where = " AND datname = current_database()"
	}
	s.Exec("SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity" +
		" WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()" + where)
}

// NewDatabase makes one more database on the same server, empty, and returns
// the server as seen from there: its URL leads to that database, which goes,
// with all connections to it, when the test ends.
func (s *PostgresServer) NewDatabase() *PostgresServer {
	s.t.Helper()
	name := "test_" + strings.ToLower(rand.Text()[:12])
	ctx := context.WithoutCancel(s.t.Context())
	if _, err := s.cluster.psql(ctx, postgresUser, "CREATE DATABASE "+name, 0); err != nil {
		s.t.Fatalf("testenv: %v", err)
	}
	s.t.Cleanup(func() {
		// A server that the test has stopped takes its databases with it.
		if s.process != nil && !s.process.Running() {
			return
		}
		if _, err := s.cluster.psql(ctx, postgresUser, "DROP DATABASE "+name+" WITH (FORCE)", 0); err != nil {
			s.t.Errorf("testenv: %v", err)
		}
	})
	return &PostgresServer{t: s.t, cluster: s.cluster, database: name, process: s.process}
}

// psql runs statements one by one, as the superuser: over the socket, or, if a
// port is given, over a proxy there.
func (c *postgresCluster) psql(ctx context.Context, database, sql string, proxy int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, DefaultTimeout)
	defer cancel()
	host, port := c.path("run"), c.port
	if proxy != 0 {
		host, port = "127.0.0.1", proxy
	}
	cmd := c.command(ctx, "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1",
		"-h", host, "-p", strconv.Itoa(port), "-U", postgresUser, "-d", database)
	cmd.Env = append(cmd.Env, "PGPASSWORD="+c.password)
	cmd.Stdin = strings.NewReader(sql)
	var out, problem strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, strings.TrimSpace(problem.String()))
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

func (c *postgresCluster) setPassword(ctx context.Context) error {
	_, err := c.psql(ctx, postgresUser, fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", postgresUser, c.password), 0)
	return err
}
