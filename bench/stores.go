package main

import (
	"context"
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

// open opens a new store of a kind: sqlite, postgres, redis. The function
// closes it and removes what it kept.
func (s *stores) open(ctx context.Context, kind string) (persist.Store, func(), error) {
	switch kind {
	case "sqlite":
		dir, err := os.MkdirTemp("", "oncemq-bench")
		if err != nil {
			return nil, nil, err
		}
		store, err := sqlite.Open(ctx, filepath.Join(dir, "store.db"), sqlite.Options{})
		return store, func() {
			if err == nil {
				_ = store.Close(context.Background())
			}
			_ = os.RemoveAll(dir)
		}, err
	case "postgres":
		url, err := s.postgresURL(ctx)
		if err != nil {
			return nil, nil, err
		}
		schema := "bench_" + strings.ReplaceAll(uuid.NewString()[:13], "-", "")
		store, err := persist.Open(ctx, withQuery(url, "schema="+schema), postgres.Driver{})
		if err != nil {
			return nil, nil, err
		}
		return store, func() {
			_ = store.Close(context.Background())
			_ = execSQL(context.Background(), url, "DROP SCHEMA "+schema+" CASCADE")
		}, nil
	case "redis":
		url, err := s.redisURL(ctx)
		if err != nil {
			return nil, nil, err
		}
		store, err := persist.Open(ctx, withQuery(url, "prefix=bench-"+uuid.NewString()[:8]), redis.Driver{})
		if err != nil {
			return nil, nil, err
		}
		return store, func() {
			_ = store.Close(context.Background())
			_ = flushRedis(context.Background(), url)
		}, nil
	}
	return nil, nil, fmt.Errorf("no store %q; use sqlite, postgres or redis", kind)
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
