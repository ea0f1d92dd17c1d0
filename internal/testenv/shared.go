package testenv

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
)

// tryPorts starts a server again, with another port, if it did not start:
// another test process may have taken the port between the look and the start.
func tryPorts[T any](start func() (T, error)) (T, error) {
	var last error
	for range portAttempts {
		server, err := start()
		if err == nil {
			return server, nil
		}
		last = err
	}
	var none T
	return none, last
}

// sharedPostgres is the one of this test process.
//
//nolint:gochecknoglobals // a server for the test process, which no test can hold.
var sharedPostgres struct {
	once    sync.Once
	cluster *postgresCluster
	err     error
}

// SharedPostgres is a PostgreSQL server that all tests of a test process share:
// started with the first of them, it ends with the process, even one that is
// killed. Each call makes an empty database for its test, which URL leads to and
// which goes when the test ends. It has 300 connections for all tests together.
//
// Kill, Stop, Start, Pause and Continue fail the test: the server is not its
// own. The test is skipped, or fails, if PostgreSQL is not installed.
func SharedPostgres(tb testing.TB) *PostgresServer {
	tb.Helper()
	bin := postgresPrograms(tb)
	ctx := context.WithoutCancel(tb.Context())
	sharedPostgres.once.Do(func() {
		sharedPostgres.cluster, sharedPostgres.err = tryPorts(func() (*postgresCluster, error) { return startSharedPostgres(ctx, bin) })
	})
	if err := sharedPostgres.err; err != nil {
		tb.Fatalf("testenv: shared postgres: %v", err)
	}
	sharedPostgres.cluster.shared.showLog(tb)
	s := &PostgresServer{t: tb, cluster: sharedPostgres.cluster, database: postgresUser}
	return s.NewDatabase()
}

func startSharedPostgres(ctx context.Context, bin string) (*postgresCluster, error) {
	c, err := newPostgresCluster(bin, PostgresOptions{MaxConnections: 300})
	if err != nil {
		return nil, err
	}
	if err := c.copyTemplate(ctx); err != nil {
		c.remove()
		return nil, err
	}
	if err := c.configure(ctx); err != nil {
		c.remove()
		return nil, err
	}
	c.shared, err = startShared(ctx, c.server(), c.dir, "QUIT", func() bool { return c.ready(0) })
	if err != nil {
		return nil, err
	}
	return c, c.setPassword(ctx)
}

// sharedRedis is the one of this test process.
//
//nolint:gochecknoglobals // a server for the test process, which no test can hold.
var sharedRedis struct {
	once     sync.Once
	instance *redisInstance
	err      error
}

// SharedRedis is a Redis that all tests of a test process share, with an append
// only file: started with the first of them, it ends with the process, even one
// that is killed. Tests keep apart by prefixes of their keys; nobody may flush.
//
// Kill, Stop, Start, Pause and Continue fail the test: the server is not its
// own. The test is skipped, or fails, if Redis is not installed.
func SharedRedis(tb testing.TB) *RedisServer {
	tb.Helper()
	program := Program(tb, "redis-server", "redis-server")
	ctx := context.WithoutCancel(tb.Context())
	sharedRedis.once.Do(func() {
		sharedRedis.instance, sharedRedis.err = tryPorts(func() (*redisInstance, error) { return startSharedRedis(ctx, program) })
	})
	if err := sharedRedis.err; err != nil {
		tb.Fatalf("testenv: shared redis: %v", err)
	}
	sharedRedis.instance.shared.showLog(tb)
	return &RedisServer{t: tb, instance: sharedRedis.instance}
}

func startSharedRedis(ctx context.Context, program string) (*redisInstance, error) {
	dir, err := folderFor(nil)
	if err != nil {
		return nil, err
	}
	r := newRedisInstance(program, dir, RedisOptions{})
	if err := r.configure(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	r.shared, err = startShared(ctx, r.server(), dir, "TERM", func() bool { return r.ready(ctx) == nil })
	return r, err
}
