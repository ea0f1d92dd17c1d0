package redis

import (
	"context"
	"fmt"

	goredis "github.com/redis/go-redis/v9"

	"github.com/oncemq/oncemq/persist"
)

// sendAndWait runs a command and waits for replicas, on one connection: WAIT
// counts what came over its own.
func (s *Store) sendAndWait(ctx context.Context, cmd goredis.Cmder) error {
	var node goredis.Cmdable = s.client
	if cluster, ok := s.client.(*goredis.ClusterClient); ok {
		master, err := cluster.MasterForKey(ctx, s.keys.meta)
		if err != nil {
			return &notSentError{err}
		}
		node = master
	}
	pipe := node.Pipeline()
	_ = pipe.Process(ctx, cmd) // its error comes with the commands
	wait := onceCommand{goredis.NewCmd(ctx, "wait", s.opts.WaitReplicas, s.opts.WaitTimeout.Milliseconds())}
	_ = pipe.Process(ctx, wait)
	_, err := pipe.Exec(ctx)
	if cmdErr := cmd.Err(); cmdErr != nil {
		if cluster, ok := s.client.(*goredis.ClusterClient); ok && goredis.HasErrorPrefix(cmdErr, "MOVED") {
			cluster.ReloadState(ctx)
		}
		return cmdErr
	}
	if err != nil {
		return err
	}
	if n := asInt(wait.Val()); n < int64(s.opts.WaitReplicas) {
		return fmt.Errorf("%w: %d of %d replicas have confirmed the change", persist.ErrUnknownOutcome, n, s.opts.WaitReplicas)
	}
	return nil
}
