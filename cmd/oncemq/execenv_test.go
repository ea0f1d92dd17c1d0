package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCommandEnv: a command gets the environment without what is secret in it, and
// without what looks like a message.
func TestCommandEnv(t *testing.T) {
	t.Parallel()
	kept := []string{
		"PATH=/bin", "ONCEMQ_HOST=h", "ONCEMQ_BROKER=mqtt://u@h mqtt://i", "ONCEMQ_STORE=postgres://u@h/d?sslmode=require",
		"ONCEMQ_PASSWORD_FILE=/f", "ONCEMQ_PASSWORD_ENV=MINE", "ONCEMQ_PROXY=socks5h://h", "NOTHING", "PASSWORD=of the application",
	}
	gone := []string{
		"ONCEMQ_PASSWORD=x", "MINE=x", "ONCEMQ_BROKER=mqtt://h mqtts://u:x@i", "ONCEMQ_STORE=postgres://u:x@h/d", "ONCEMQ_STORE=redis://h/0?password=x",
		"ONCEMQ_BROKER=mqtt://u:%@h", "ONCEMQ_PROXY=socks5h://u:x@h", "ONCEMQ_WS_HEADER=Authorization: x", "ONCEMQ_BENCH_STORE=redis://:x@h", "MQTT_TOPIC=old",
	}
	for _, e := range gone {
		require.Equal(t, kept, commandEnv(append([]string{e}, kept...), "MINE"), e)
	}
	require.Equal(t, []string{"MINE=x"}, commandEnv([]string{"MINE=x"}, ""), "no name was given")
}
