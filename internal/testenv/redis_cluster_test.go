package testenv_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

func TestRedisClusterMovesASlot(t *testing.T) {
	t.Parallel()
	set := testenv.RedisCluster(t)
	require.Len(t, set.Addrs(), 3)
	slot := set.Slot("{lane}")
	from := set.Owner(slot)
	to := (from + 1) % 3
	const keys = 250 // more than are moved at once
	for i := range keys {
		set.Nodes[from].Command("SET", fmt.Sprintf("{lane}:%d", i), "v")
	}

	move := set.OpenMove(slot, to)
	move.Key("{lane}:0")
	refused := func(node int, args ...string) string {
		_, err := set.Nodes[node].TryCommand(t.Context(), args...)
		require.ErrorAs(t, err, new(testenv.RedisError))
		return err.Error()
	}
	require.Contains(t, refused(from, "GET", "{lane}:0"), "ASK ")
	require.Equal(t, "v", set.Nodes[from].Command("GET", "{lane}:1"))
	require.Contains(t, refused(from, "MGET", "{lane}:0", "{lane}:1"), "TRYAGAIN")
	move.Keys()
	move.Close()

	require.Equal(t, to, set.Owner(slot))
	require.Equal(t, fmt.Sprint(keys), set.Nodes[to].Command("DBSIZE"))
	for i := range set.Nodes {
		if i != to {
			require.Contains(t, refused(i, "GET", "{lane}:1"), "MOVED ")
		}
	}
	set.MoveSlot(slot, from)
	require.Equal(t, "v", set.Nodes[from].Command("GET", "{lane}:1"))
}

func TestRedisClusterOutlivesARestartOfANode(t *testing.T) {
	t.Parallel()
	set := testenv.RedisCluster(t)
	slot := set.Slot("k")
	node := set.Nodes[set.Owner(slot)]
	node.Command("SET", "k", "v")
	node.Kill()
	node.Start()
	set.AwaitOK()
	require.Equal(t, "v", node.Command("GET", "k"))
}
