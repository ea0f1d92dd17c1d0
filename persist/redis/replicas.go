package redis

import (
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/oncemq/oncemq/persist"
)

// connection is one to the server of the store's keys: WAIT counts what came over
// its own. It must be closed.
func (s *Store) connection(ctx context.Context) (*goredis.Conn, error) {
	switch client := s.client.(type) {
	case *goredis.ClusterClient:
		master, err := client.MasterForKey(ctx, s.keys.meta)
		if err != nil {
			return nil, err
		}
		return master.Conn(), nil
	case interface{ Conn() *goredis.Conn }:
		return client.Conn(), nil
	}
	return nil, fmt.Errorf("%w: wait_replicas needs a client with Conn, %T has none", persist.ErrInvalid, s.client)
}

// sendAndWait runs a command and waits for replicas. Once the command has
// succeeded nothing takes that back: whatever becomes of WAIT then, the outcome is
// what the next failover makes of it.
func (s *Store) sendAndWait(ctx context.Context, cmd goredis.Cmder) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return &notSentError{err}
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	if err := conn.Process(ctx, cmd); err != nil {
		if cluster, ok := s.client.(*goredis.ClusterClient); ok && goredis.HasErrorPrefix(err, "MOVED") {
			cluster.ReloadState(ctx)
		}
		return err
	}
	// A command that has changed nothing may have found what no replica has yet, and
	// from Redis 7.2 on WAIT is for the last write of its connection.
	if err := conn.HSet(ctx, s.keys.meta, "waited", 1).Err(); err != nil && !goredis.HasErrorPrefix(err, "OOM") {
		return fmt.Errorf("%w: the change was made, and waiting for replicas failed: %w", persist.ErrUnknownOutcome, err)
	}
	n, err := waitFor(ctx, conn, s.opts.WaitReplicas, s.opts.WaitTimeout)
	switch {
	case err != nil:
		return fmt.Errorf("%w: the change was made, and waiting for replicas failed: %w", persist.ErrUnknownOutcome, err)
	case n < int64(s.opts.WaitReplicas):
		return fmt.Errorf("%w: %d of %d replicas have confirmed the change", persist.ErrUnknownOutcome, n, s.opts.WaitReplicas)
	}
	return nil
}

// tryWait finds out whether we may WAIT at all, before anything is changed.
func (s *Store) tryWait(ctx context.Context) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = waitFor(ctx, conn, 0, minWaitTimeout)
	return err
}

// waitFor is WAIT: how many replicas have what was sent before on the connection.
// The client reads as long as the server waits, and some more, whatever its read
// time-out. It cannot repeat the command elsewhere, where it would count the
// replicas of nothing: a Conn whose connection broke has no other.
func waitFor(ctx context.Context, conn *goredis.Conn, replicas int, timeout time.Duration) (int64, error) {
	return conn.Wait(ctx, replicas, timeout).Result()
}
