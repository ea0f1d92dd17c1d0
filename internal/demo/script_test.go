package demo

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Whatever the options, every message is published once, one replica is killed,
// and each surge is enough for the broker to hold what it is to hold.
func TestScript(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		kills := rapid.IntRange(1, MaxKills).Draw(t, "kills")
		messages := rapid.IntRange(MinBurst*(kills+1), MaxMessages).Draw(t, "messages")
		s := newScript(messages, kills, rapid.Uint64().Draw(t, "seed"))
		require.Len(t, s.lives, kills+1)
		require.Positive(t, s.quota)
		require.Positive(t, s.holds)
		total, replicaKills := 0, 0
		for i, a := range s.lives {
			total += a.flow + a.surge
			require.GreaterOrEqual(t, a.flow-a.flow/10, a.progress, "progress must come from what is published")
			surge := a.surge
			if a.killReplica {
				replicaKills++
				require.Positive(t, surge/2)
				surge -= surge / 2
			}
			if i < kills {
				require.GreaterOrEqual(t, surge-len(replicaNames)*s.quota, s.holds)
			}
		}
		require.Equal(t, messages, total)
		require.Equal(t, 1, replicaKills)
	})
}

func TestScriptRepeats(t *testing.T) {
	t.Parallel()
	require.Equal(t, newScript(5000, 3, 7), newScript(5000, 3, 7))
	require.NotEqual(t, newScript(5000, 3, 7), newScript(5000, 3, 8))
}
