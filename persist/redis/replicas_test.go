package redis

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
)

// calls is how often the server has carried out a command.
func calls(t *testing.T, server *testenv.RedisServer, command string) string {
	t.Helper()
	for line := range strings.Lines(server.Command("INFO", "commandstats")) {
		if rest, found := strings.CutPrefix(line, "cmdstat_"+command+":calls="); found {
			n, _, _ := strings.Cut(rest, ",")
			return n
		}
	}
	return "0"
}

// A change that too few replicas confirm is not said to be done.
func TestReplicasMissing(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	s := openStore(t, server.URL(), Options{WaitReplicas: 1, WaitTimeout: 50 * time.Millisecond})
	_, err := s.Enqueue(t.Context(), plainMessages("m", 1))
	require.ErrorIs(t, err, persist.ErrUnknownOutcome)
	require.ErrorContains(t, err, "0 of 1 replicas")
	server.Replica(t)
	until(t, func(ctx context.Context) error {
		_, err := s.Enqueue(ctx, plainMessages("n", 1))
		return err
	})
	require.Contains(t, s.Durability(), "1 replicas confirm")
}

// What is found may be a change that no replica has, since its caller gave up the wait:
// who finds it waits too, for something that was written just then.
func TestFoundIsOnReplica(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	replica := server.Replica(t)
	s := openStore(t, server.URL(), Options{WaitReplicas: 1, WaitTimeout: 300 * time.Millisecond})
	once := plainMessages("once", 1)
	once[0].Idempotent = true
	until(t, func(ctx context.Context) error {
		_, err := s.Enqueue(ctx, plainMessages("m", 1))
		return err
	})
	replica.Pause()
	defer replica.Continue()
	_, err := s.Enqueue(t.Context(), once)
	require.ErrorIs(t, err, persist.ErrUnknownOutcome)
	changes := func() string {
		_, after, found := strings.Cut(server.Command("INFO", "persistence"), "rdb_changes_since_last_save:")
		require.True(t, found)
		n, _, _ := strings.Cut(after, "\r")
		return n
	}
	before := changes()
	_, err = s.Enqueue(t.Context(), once)
	require.ErrorIs(t, err, persist.ErrUnknownOutcome)
	require.NotEqual(t, before, changes(), "there is nothing to wait for")
}

// In a Cluster it is the node of the store's slot whose replicas count.
func TestReplicasMissingInCluster(t *testing.T) {
	t.Parallel()
	s := openStore(t, clusterURL(testenv.RedisCluster(t)), Options{WaitReplicas: 1, WaitTimeout: 50 * time.Millisecond})
	_, err := s.Enqueue(t.Context(), plainMessages("m", 1))
	require.ErrorIs(t, err, persist.ErrUnknownOutcome)
	require.ErrorContains(t, err, "0 of 1 replicas")
}

// An Enqueue that had stored its messages was said to have done nothing, when it
// was the WAIT after it that the server refused: its caller enqueued them a second
// time. The right to WAIT is asked for by Open now, and if it goes away later the
// outcome is unknown.
func TestWaitRefused(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{User: "app", Password: "secret", ACL: "~* &* +@all -wait"})
	refused(t, server.URL(), Options{WaitReplicas: 1}, persist.ErrUnavailable, "NOPERM")
	require.Equal(t, "0", server.Command("DBSIZE"), "nothing was made")
	openStore(t, server.URL(), Options{})

	server.Command("ACL", "SETUSER", "app", "+wait")
	s := openStore(t, server.URL(), Options{WaitReplicas: 1, WaitTimeout: 10 * time.Millisecond})
	server.Command("ACL", "SETUSER", "app", "-wait")
	_, err := s.Enqueue(t.Context(), plainMessages("m", 1))
	require.ErrorIs(t, err, persist.ErrUnknownOutcome)
	require.ErrorContains(t, err, "NOPERM")
	require.NotErrorIs(t, err, persist.ErrUnavailable)
	stats, err := s.Stats(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, stats.Pending)
}

// replyError is an error as servers answer it.
type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}

// A change that was made is not made again because the server became a replica
// while it waited.
func TestWaitIsNotRepeated(t *testing.T) {
	t.Parallel()
	err := error(replyError("READONLY You can't write against a read only replica."))
	require.True(t, again(err))
	require.False(t, again(fmt.Errorf("%w: %w", persist.ErrUnknownOutcome, err)))
}

// To wait for replicas longer than the client otherwise reads once looked like a
// connection that broke.
func TestWaitLongerThanReads(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	s := openStore(t, server.URL()+"?read_timeout=200ms", Options{WaitReplicas: 1, WaitTimeout: 500 * time.Millisecond})
	_, err := s.Enqueue(t.Context(), plainMessages("m", 1))
	require.ErrorIs(t, err, persist.ErrUnknownOutcome)
	require.ErrorContains(t, err, "0 of 1 replicas")
}

// A script that the server did not know has changed nothing that replicas could
// confirm, and yet WAIT once followed it: a store without replicas waited twice.
func TestNoWaitWithoutChange(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	s := openStore(t, server.URL(), Options{WaitReplicas: 1, WaitTimeout: 10 * time.Millisecond})
	require.Equal(t, "1", calls(t, server, "wait"), "that of Open")
	server.Command("SCRIPT", "FLUSH")
	_, err := s.Enqueue(t.Context(), plainMessages("m", 1))
	require.ErrorIs(t, err, persist.ErrUnknownOutcome)
	require.Equal(t, "2", calls(t, server, "wait"))
	_, err = s.Stats(t.Context())
	require.NoError(t, err)
	require.Equal(t, "2", calls(t, server, "wait"), "reads do not wait")
}
