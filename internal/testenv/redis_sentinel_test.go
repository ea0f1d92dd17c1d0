package testenv_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
)

func TestRedisSentinelReplacesAMasterThatIsKilledAndOneThatIsPaused(t *testing.T) {
	t.Parallel()
	set := testenv.RedisSentinel(t)
	first := set.Master()
	require.Equal(t, set.Servers[0], first)
	first.Command("SET", "k", "v")
	for _, replica := range set.Servers[1:] {
		replica.CatchUp(first)
	}

	first.Kill()
	second := set.AwaitFailover(first)
	require.NotEqual(t, first, second)
	require.Equal(t, second, set.Master())
	require.Equal(t, "v", second.Command("GET", "k"))
	second.Command("SET", "k", "w")
	first.Start()
	set.AwaitReady()
	first.CatchUp(second)
	require.Equal(t, "w", first.Command("GET", "k"))

	second.Pause()
	third := set.AwaitFailover(second)
	require.NotEqual(t, second, third)
	third.Command("SET", "k", "x")
	second.Continue()
	set.AwaitReady()
	second.CatchUp(third)
	require.Equal(t, "x", second.Command("GET", "k"))
}

func TestRedisSentinelFailsOverOnCommand(t *testing.T) {
	t.Parallel()
	set := testenv.RedisSentinel(t)
	old := set.Master()
	require.NotEqual(t, old, set.Failover())
	require.Regexp(t, `^redis://127\.0\.0\.1:\d+/0\?addr=127.*&addr=127.*&master_name=oncemq$`, set.URL())
}
