package demo

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// The table of effects is made up by hand, so that the counts can be seen to
// tell what is lost and what is doubled.
func TestJudge(t *testing.T) {
	t.Parallel()
	enqueued := []string{"a", "b", "c", "d"}
	for name, c := range map[string]struct {
		effects []string
		want    tally
	}{
		"each once":         {[]string{"c", "a", "b", "d"}, tally{effects: 4}},
		"none":              {nil, tally{lost: 4}},
		"one lost":          {[]string{"a", "b", "c"}, tally{effects: 3, lost: 1}},
		"one doubled":       {[]string{"a", "b", "c", "d", "b"}, tally{effects: 5, doubled: 1}},
		"one tripled":       {[]string{"b", "a", "b", "c", "d", "b"}, tally{effects: 6, doubled: 2}},
		"lost and doubled":  {[]string{"a", "a", "b", "c"}, tally{effects: 4, lost: 1, doubled: 1}},
		"unknown":           {[]string{"a", "b", "c", "d", "e"}, tally{effects: 5, unknown: 1}},
		"unknown, not lost": {[]string{"e", "e", "e", "e"}, tally{effects: 4, lost: 4, unknown: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, err := openEffects(t.Context(), filepath.Join(t.TempDir(), "effects.db"))
			require.NoError(t, err)
			defer func() { require.NoError(t, table.close()) }()
			for _, id := range c.effects {
				require.NoError(t, table.add(t.Context(), id, "replica-1"))
			}
			n, err := table.count(t.Context())
			require.NoError(t, err)
			require.Equal(t, len(c.effects), n)
			ids, err := table.ids(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.want, judge(enqueued, ids))
		})
	}
}

func TestAnyEffect(t *testing.T) {
	t.Parallel()
	table, err := openEffects(t.Context(), filepath.Join(t.TempDir(), "effects.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, table.close()) }()
	require.NoError(t, table.add(t.Context(), "a", "replica-1"))
	for _, c := range []struct {
		ids  []string
		want bool
	}{{nil, false}, {[]string{"b"}, false}, {[]string{"b", "a"}, true}} {
		got, err := table.any(t.Context(), c.ids)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%v", c.ids)
	}
}
