package redis

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/internal/testenv"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/persisttest"
)

// A lane that is behind finds many messages ahead of its cursor that became due
// meanwhile. It passes over them in few steps, and each is handed out once.
func TestManyBecomeDueAhead(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, testenv.RedisOptions{})
	b := newBackend(t, server.URL(), persisttest.Options{Lanes: 1})
	store, err := b.Open(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, store.Close(t.Context())) }()
	const many = 3000
	_, err = store.Enqueue(t.Context(), plainMessages("m", 2))
	require.NoError(t, err)
	for range 3 { // some of one time, and some of others
		delayed := plainMessages("d", many/3)
		for i := range delayed {
			delayed[i].Delay = time.Hour
		}
		_, err = store.Enqueue(t.Context(), delayed)
		require.NoError(t, err)
		b.Advance(time.Millisecond)
	}
	lane, err := store.AcquireLane(t.Context(), 0, "o", 24*time.Hour)
	require.NoError(t, err)
	next := func(limit int) []persist.Entry {
		t.Helper()
		entries, err := lane.Next(t.Context(), limit, 1<<30)
		require.NoError(t, err)
		return entries
	}
	require.Len(t, next(1), 1)
	b.Advance(2 * time.Hour)
	steps := func() int {
		n, err := strconv.Atoi("0" + calls(t, server, "zrangebyscore"))
		require.NoError(t, err)
		return n
	}
	before := steps()
	entries := next(1)
	require.Len(t, entries, 1)
	require.EqualValues(t, 2, entries[0].Position)
	require.Less(t, steps()-before, 100)
	position := int64(2)
	for range many / 10 {
		for _, e := range next(10) {
			position++
			require.Equal(t, position, e.Position)
		}
	}
	require.EqualValues(t, many+2, position)
	require.Empty(t, next(10))
}
