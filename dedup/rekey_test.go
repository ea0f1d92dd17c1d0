package dedup

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

func TestRekeyed(t *testing.T) {
	t.Parallel()
	m := persist.Message{
		ID: "a:b", Topic: "t", Payload: []byte(`{"id":7}`),
		Properties: persist.Properties{
			CorrelationData: []byte("c"),
			User:            []persist.UserProperty{{Name: "order", Value: "1"}, {Name: "source", Value: "s"}, {Name: "id", Value: "i"}, {Name: "long", Value: strings.Repeat("x", 200)}},
		},
	}
	topic := func(m *persist.Message) { m.Topic = "u" }
	set := func(name string) func(m *persist.Message) {
		return func(m *persist.Message) {
			m.Properties.User = slices.Clone(m.Properties.User)
			for i := range m.Properties.User {
				if m.Properties.User[i].Name == name {
					m.Properties.User[i].Value = "new"
				}
			}
		}
	}
	drop := func(m *persist.Message) { m.Properties.User = nil }
	for _, c := range []struct {
		name   string
		key    KeyFunc
		change func(m *persist.Message)
		want   bool
	}{
		{"id", ByMessageID, topic, false},
		{"id", ByMessageID, drop, false},
		{"property", ByProperty("order"), topic, false},
		{"property", ByProperty("order"), set("id"), false},
		{"property", ByProperty("order"), set("order"), true},
		{"property", ByProperty("order"), drop, true},
		{"hashed property", ByProperty("long"), topic, false},
		{"hashed property", ByProperty("long"), set("long"), true},
		{"cloudevents", ByCloudEvents, set("order"), false},
		{"cloudevents", ByCloudEvents, set("source"), true},
		{"json", ByJSONField("id"), drop, false},
		{"correlation", ByCorrelationData, drop, false},
		{"content", ByContent, drop, false},
		{"content", ByContent, topic, true},
		{"own", func(*persist.Message) (string, bool) { return "own", true }, drop, false},
		{"own with a colon", func(*persist.Message) (string, bool) { return "property:x", true }, drop, false},
	} {
		after := m
		c.change(&after)
		key, ok := c.key(&m)
		require.True(t, ok)
		require.Equal(t, c.want, Rekeyed(key, &m, &after), "%s: %s", c.name, key)
		if c.name != "own" && c.name != "own with a colon" && c.name != "hashed property" {
			now, _ := c.key(&after)
			require.Equal(t, c.want, now != key, "what it says of %s is true", c.name)
		}
	}
}

// A retried letter is young for the group that it is meant for, and for no other.
func TestSentTo(t *testing.T) {
	t.Parallel()
	const id = "018f2b7c-9a4e-7cc3-98c4-dc0c0c07398f"
	made, ok := timeOfID(id)
	require.True(t, ok)
	again := made.Add(100 * time.Hour)
	m := persist.Message{ID: id, Properties: persist.Properties{User: []persist.UserProperty{{Name: "x", Value: "y"}, Retried("my group", again)}}}
	for group, want := range map[string]time.Time{"my group": again, "my": made, "": made, "other": made, "group": made} {
		at, ok := SentTo(&m, group)
		require.True(t, ok)
		require.Equal(t, want.UnixMilli(), at.UnixMilli(), group)
	}
	for _, bad := range []string{"", "my group", "x my group", "-5 my group", "99999999999999999 my group"} {
		m.Properties.User[1].Value = bad
		at, ok := SentTo(&m, "my group")
		require.True(t, ok)
		require.Equal(t, made.UnixMilli(), at.UnixMilli(), "%q", bad)
	}
	m.Properties.User[1] = Retried("", again)
	m.Retain = true
	_, ok = SentTo(&m, "")
	require.False(t, ok)
}
