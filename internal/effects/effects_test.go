package effects

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
		want    Tally
	}{
		"each once":         {[]string{"c", "a", "b", "d"}, Tally{Effects: 4}},
		"none":              {nil, Tally{Lost: 4}},
		"one lost":          {[]string{"a", "b", "c"}, Tally{Effects: 3, Lost: 1}},
		"one doubled":       {[]string{"a", "b", "c", "d", "b"}, Tally{Effects: 5, Doubled: 1}},
		"one tripled":       {[]string{"b", "a", "b", "c", "d", "b"}, Tally{Effects: 6, Doubled: 2}},
		"lost and doubled":  {[]string{"a", "a", "b", "c"}, Tally{Effects: 4, Lost: 1, Doubled: 1}},
		"unknown":           {[]string{"a", "b", "c", "d", "e"}, Tally{Effects: 5, Unknown: 1}},
		"unknown, not lost": {[]string{"e", "e", "e", "e"}, Tally{Effects: 4, Lost: 4, Unknown: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			table, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "effects.db"))
			require.NoError(t, err)
			defer func() { require.NoError(t, table.Close()) }()
			for _, id := range c.effects {
				require.NoError(t, table.Add(t.Context(), id, "replica-1"))
			}
			n, err := table.Count(t.Context())
			require.NoError(t, err)
			require.Equal(t, len(c.effects), n)
			ids, err := table.IDs(t.Context())
			require.NoError(t, err)
			require.Equal(t, c.want, Judge(enqueued, ids))
		})
	}
}

func TestAnyEffect(t *testing.T) {
	t.Parallel()
	table, err := OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "effects.db"))
	require.NoError(t, err)
	defer func() { require.NoError(t, table.Close()) }()
	require.NoError(t, table.Add(t.Context(), "a", "replica-1"))
	for _, c := range []struct {
		ids  []string
		want bool
	}{{nil, false}, {[]string{"b"}, false}, {[]string{"b", "a"}, true}} {
		got, err := table.Any(t.Context(), c.ids)
		require.NoError(t, err)
		require.Equal(t, c.want, got, "%v", c.ids)
	}
}
