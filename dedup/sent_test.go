package dedup

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

func TestSentAt(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1_795_000_000_123)
	later := at.Add(72 * time.Hour)
	ms := func(at time.Time) string { return strconv.FormatInt(at.UnixMilli(), 10) }
	v7 := idOf(at)
	for name, test := range map[string]struct {
		message persist.Message
		want    time.Time
	}{
		"nothing":                   {persist.Message{}, time.Time{}},
		"ID":                        {persist.Message{ID: v7}, at},
		"property":                  {user("message-id", v7), at},
		"ID in capitals":            {persist.Message{ID: strings.ToUpper(v7)}, at},
		"first sent later":          {user("message-id", v7, "first-sent", ms(later)), later},
		"first sent, no ID":         {user("first-sent", ms(later)), later},
		"first sent is no number":   {user("message-id", v7, "first-sent", "soon"), at},
		"first sent is negative":    {user("message-id", v7, "first-sent", "-1"), at},
		"first sent is out of time": {user("message-id", v7, "first-sent", "9223372036854775807"), at},
		"version 4":                 {persist.Message{ID: "0190f2b7-9a4e-4cc3-98c4-dc0c0c07398f"}, time.Time{}},
		"another variant":           {persist.Message{ID: "0190f2b7-9a4e-7cc3-18c4-dc0c0c07398f"}, time.Time{}},
		"not hexadecimal":           {persist.Message{ID: "0190f2b7-9a4e-7cc3-98c4-dc0c0c07398g"}, time.Time{}},
		"dashes elsewhere":          {persist.Message{ID: "0190f2b79-a4e-7cc3-98c4-dc0c0c07398f"}, time.Time{}},
		"shorter":                   {persist.Message{ID: "0190f2b7-9a4e-7cc3-98c4-dc0c0c07398"}, time.Time{}},
		"an ID of another kind":     {persist.Message{ID: "order-4711"}, time.Time{}},
		"retained":                  {persist.Message{ID: v7, Retain: true}, time.Time{}},
	} {
		got, ok := SentAt(&test.message)
		require.Equal(t, !test.want.IsZero(), ok, name)
		require.True(t, got.Equal(test.want), "%s: %s", name, got)
	}
}

// idOf is a UUID of version 7 of that time.
func idOf(at time.Time) string {
	u := uuid.Must(uuid.NewV7())
	ms := at.UnixMilli()
	for i := range 6 {
		u[i] = byte(ms >> (8 * (5 - i)))
	}
	return u.String()
}

func FuzzSentAt(f *testing.F) {
	f.Add("0190f2b7-9a4e-7cc3-98c4-dc0c0c07398f", "1795000000123")
	f.Fuzz(func(t *testing.T, id, first string) {
		m := user("message-id", id, "first-sent", first)
		at, ok := SentAt(&m)
		require.Equal(t, ok, !at.IsZero())
		if ok {
			require.GreaterOrEqual(t, at.Year(), 1969)
			require.LessOrEqual(t, at.UTC().Year(), 9999)
		}
	})
}
