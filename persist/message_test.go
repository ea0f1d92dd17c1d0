package persist_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

func TestKeyOfMessage(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a/b", (&persist.Message{Topic: "a/b"}).Key())
	require.Equal(t, "k", (&persist.Message{Topic: "a/b", OrderingKey: "k"}).Key())
	require.Empty(t, (&persist.Message{}).Key())
}

func TestUserPropertyGet(t *testing.T) {
	t.Parallel()
	p := persist.Properties{User: []persist.UserProperty{{"a", "1"}, {"b", ""}, {"a", "2"}, {"", "empty"}}}
	for name, want := range map[string]string{"a": "1", "b": "", "": "empty"} {
		value, ok := p.Get(name)
		require.True(t, ok, name)
		require.Equal(t, want, value, name)
	}
	for _, name := range []string{"A", "c", "a "} {
		_, ok := p.Get(name)
		require.False(t, ok, name)
	}
	_, ok := (&persist.Properties{}).Get("a")
	require.False(t, ok)
}

func TestStateNames(t *testing.T) {
	t.Parallel()
	for i, want := range []string{"pending", "delivered", "acknowledged", "failed", "expired", "dropped", "superseded", "unknown"} {
		require.Equal(t, want, persist.State(i).String())
	}
	for i, want := range []string{"unknown", "outbox", "consumer", "unknown"} {
		require.Equal(t, want, persist.Side(i).String())
	}
}
