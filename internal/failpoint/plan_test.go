package failpoint_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/failpoint"
)

func TestParse(t *testing.T) {
	t.Parallel()
	p, err := failpoint.Parse("relay-after-ack:3:exit")
	require.NoError(t, err)
	require.Equal(t, failpoint.Plan{Point: failpoint.RelayAfterAck, Hit: 3, Action: failpoint.Exit}, p)
	p, err = failpoint.Parse("handler-middle:1:sleep=5s")
	require.NoError(t, err)
	require.Equal(t, failpoint.Plan{Point: failpoint.HandlerMiddle, Hit: 1, Action: failpoint.Sleep, Sleep: 5 * time.Second}, p)
	for text, want := range map[string]string{
		"":                           "point:hit:action",
		"relay-after-ack:1":          "point:hit:action",
		"relay-after-ak:1:exit":      `point "relay-after-ak" is unknown`,
		"relay-after-ack:0:exit":     `hit "0"`,
		"relay-after-ack:x:exit":     `hit "x"`,
		"relay-after-ack:1:explode":  `action "explode"`,
		"relay-after-ack:1:sleep=no": `sleep "no"`,
	} {
		_, err := failpoint.Parse(text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestParseMutant(t *testing.T) {
	t.Parallel()
	for _, r := range failpoint.Rules() {
		got, err := failpoint.ParseMutant(string(r))
		require.NoError(t, err)
		require.Equal(t, r, got)
	}
	_, err := failpoint.ParseMutant("no-such-rule")
	require.ErrorContains(t, err, "no-such-rule")
}

// In the default build nothing happens, whatever the environment says.
func TestOff(t *testing.T) {
	if failpoint.Enabled {
		t.Skip("built with the tag failpoint")
	}
	t.Setenv(failpoint.Variable, "no-such-point:1:exit")
	require.NoError(t, failpoint.Load())
	for _, p := range failpoint.Points() {
		failpoint.Hit(p)
		require.NoError(t, failpoint.Err(p))
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { failpoint.Hit(failpoint.AfterWrite) }))
}
