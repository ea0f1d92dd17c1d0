package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/postgres"
	"github.com/oncemq/oncemq/persist/redis"
	"github.com/oncemq/oncemq/persist/sqlite"
)

// stores are the servers that stores live on, each started when it is first
// needed, unless the options name one.
type stores struct {
	mu       sync.Mutex
	postgres string
	redis    string
	stops    []func()
}

// place is a new store, with what it takes to get rid of it.
type place struct {
	store  persist.Store // not embedded: that would hide what it can beyond the interface
	remove func()        // closes it, and removes what it kept
	// size is how many bytes it takes, on disk or, of Redis, in memory.
	size func(ctx context.Context) (int64, error)
	// rest returns once the server has done what it does in the background after
	// much was written, which would be measured along; nil if there is nothing.
	rest func(ctx context.Context) error
}

// open opens a new store of a kind: sqlite, postgres, redis.
func (s *stores) open(ctx context.Context, kind string) (*place, error) {
	switch kind {
	case "sqlite":
		return openSQLite(ctx)
	case "postgres":
		return s.openPostgres(ctx)
	case "redis":
		return s.openRedis(ctx)
	}
	return nil, fmt.Errorf("no store %q; use sqlite, postgres or redis", kind)
}

func openSQLite(ctx context.Context) (*place, error) {
	dir, err := os.MkdirTemp("", "oncemq-bench")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "store.db")
	store, err := sqlite.Open(ctx, file, sqlite.Options{})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &place{store: store, remove: func() {
		_ = store.Close(context.Background())
		_ = os.RemoveAll(dir)
	}, size: func(context.Context) (int64, error) {
		info, err := os.Stat(file) // the log beside it is bounded
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}}, nil
}

func (s *stores) openPostgres(ctx context.Context) (*place, error) {
	url, err := s.postgresURL(ctx)
	if err != nil {
		return nil, err
	}
	schema := "bench_" + strings.ReplaceAll(uuid.NewString()[:13], "-", "")
	store, err := persist.Open(ctx, withQuery(url, "schema="+schema), postgres.Driver{})
	if err != nil {
		return nil, err
	}
	return &place{store: store, remove: func() {
		_ = store.Close(context.Background())
		_ = execSQL(context.Background(), url, "DROP SCHEMA "+schema+" CASCADE")
	}, size: func(ctx context.Context) (int64, error) {
		// As autovacuum does within a minute.
		if err := execSQL(ctx, url, "VACUUM"); err != nil {
			return 0, err
		}
		return queryNumber(ctx, url, "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c "+
			"JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '"+schema+"' AND c.relkind = 'r'")
	}}, nil
}

func (s *stores) openRedis(ctx context.Context) (*place, error) {
	url, err := s.redisURL(ctx)
	if err != nil {
		return nil, err
	}
	store, err := persist.Open(ctx, withQuery(url, "prefix=bench-"+uuid.NewString()[:8]), redis.Driver{})
	if err != nil {
		return nil, err
	}
	return &place{store: store, remove: func() {
		_ = store.Close(context.Background())
		_ = flushRedis(context.Background(), url)
	}, size: func(ctx context.Context) (int64, error) {
		return redisMemory(ctx, url)
	}, rest: func(ctx context.Context) error { return redisRests(ctx, url) }}, nil
}

func withQuery(url, more string) string {
	if strings.Contains(url, "?") {
		return url + "&" + more
	}
	return url + "?" + more
}

func (s *stores) postgresURL(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.postgres == "" {
		url, stop, err := startPostgres()
		if err != nil {
			return "", err
		}
		s.postgres = url
		s.stops = append(s.stops, stop)
	}
	return s.postgres, nil
}

func (s *stores) redisURL(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.redis == "" {
		url, stop, err := startRedis()
		if err != nil {
			return "", err
		}
		s.redis = url
		s.stops = append(s.stops, stop)
	}
	return s.redis, nil
}

func (s *stores) stop() {
	for _, stop := range s.stops {
		stop()
	}
}
