package persist_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

func TestLimitsSet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		option, value string
		want          persist.Limits
	}{
		{"max_messages", "0", persist.Limits{}},
		{"max_messages", "100000", persist.Limits{Messages: 100_000}},
		{"max_bytes", "0", persist.Limits{}},
		{"max_bytes", "1000000", persist.Limits{Bytes: 1_000_000}},
		{"max_bytes", "64KiB", persist.Limits{Bytes: 64 << 10}},
		{"max_bytes", "64MiB", persist.Limits{Bytes: 64 << 20}},
		{"max_bytes", "2GiB", persist.Limits{Bytes: 2 << 30}},
		{"max_age", "0", persist.Limits{}},
		{"max_age", "1ms", persist.Limits{Age: time.Millisecond}},
		{"max_age", "24h", persist.Limits{Age: 24 * time.Hour}},
	} {
		var l persist.Limits
		require.NoError(t, l.Set(c.option, c.value), c.value)
		require.Equal(t, c.want, l, c.value)
		require.Empty(t, l.Faults())
	}
	for option, values := range map[string][]string{
		"max_messages": {"", "-1", "1e6", "many", "99999999999999999999"},
		"max_bytes":    {"", "-1", "1MB", "1.5MiB", "MiB", "9999999999GiB", "8388608TiB"},
		"max_age":      {"", "-1s", "7", "7d", "1us"},
	} {
		for _, value := range values {
			l := persist.Limits{Messages: 1, Bytes: 1, Age: time.Second}
			require.Error(t, l.Set(option, value), "%s=%s", option, value)
			require.Equal(t, persist.Limits{Messages: 1, Bytes: 1, Age: time.Second}, l)
		}
	}
}

func TestLimitsFaults(t *testing.T) {
	t.Parallel()
	faults := persist.Limits{Messages: -1, Bytes: -1, Age: time.Microsecond}.Faults()
	require.Len(t, faults, 3)
	for i, option := range []string{"max_messages", "max_bytes", "max_age"} {
		require.True(t, strings.HasPrefix(faults[i], option+" is "), faults[i])
	}
}

func TestLimitsLeft(t *testing.T) {
	t.Parallel()
	require.Zero(t, persist.Limits{}.Left(time.Hour))
	l := persist.Limits{Age: time.Hour}
	require.Equal(t, 59*time.Minute, l.Left(time.Minute))
	require.Negative(t, l.Left(time.Hour), "zero would mean that there is no limit")
	require.Equal(t, -time.Minute, l.Left(61*time.Minute))
}

func TestLimitsString(t *testing.T) {
	t.Parallel()
	require.Equal(t, "none", persist.Limits{}.String())
	require.Equal(t, "5 messages, 1024 bytes, 24h0m0s of age", persist.Limits{Messages: 5, Bytes: 1024, Age: 24 * time.Hour}.String())
}

func TestRoom(t *testing.T) {
	t.Parallel()
	r := persist.Room{Limits: persist.Limits{Messages: 10, Bytes: 100}, Messages: 9, Bytes: 80, AddMessages: 2, AddBytes: 15}
	require.False(t, r.Fits())
	require.EqualError(t, r.Full(), "at most 10 messages are allowed, 9 are stored, and 2 were to be added")
	share := persist.Share{Messages: 1, Bytes: 15}
	require.True(t, r.Wants(share))
	r.Take(&share, 30)
	require.True(t, r.Fits())
	require.False(t, r.Wants(share))

	r = persist.Room{Limits: persist.Limits{Bytes: 100}, Messages: 1000, Bytes: 80, AddMessages: 1, AddBytes: 25}
	require.EqualError(t, r.Full(), "at most 100 bytes are allowed, 80 are stored, and 25 were to be added")

	// A limit that was lowered below what is there refuses what adds, and nothing
	// else.
	r = persist.Room{Limits: persist.Limits{Messages: 5, Bytes: 50}, Messages: 9, Bytes: 80}
	require.True(t, r.Fits())
	r.AddBytes = 1
	require.False(t, r.Fits())
}
