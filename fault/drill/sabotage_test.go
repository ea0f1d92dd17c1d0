package drill

import (
	"encoding/json"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseSabotage(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"none", "receipts", "dedup", "both"} {
		got, err := ParseSabotage(s)
		require.NoError(t, err)
		text, err := json.Marshal(got)
		require.NoError(t, err)
		require.Equal(t, strconv.Quote(s), string(text))
		var read Sabotage
		require.NoError(t, json.Unmarshal(text, &read))
		require.Equal(t, got, read)
	}
	_, err := ParseSabotage("broker")
	require.ErrorIs(t, err, ErrOptions)
}
