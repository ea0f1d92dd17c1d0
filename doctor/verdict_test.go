package doctor

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVerdictOfTransactions: what a kind of store does not have is not weakened by what
// else is found there.
func TestVerdictOfTransactions(t *testing.T) {
	t.Parallel()
	for _, found := range []Severity{OK, Info, Warn, Bad} {
		var r Report
		r.add("store.transactions", Info, "no transactions with the application", "", promiseTx)
		r.add("store.appendfsync", found, "a loss of power", "appendfsync always", stored()...)
		r.judge()
		for _, p := range r.Promises {
			if p.ID == promiseTx {
				require.Equal(t, Unavailable, p.State, found)
				require.Empty(t, p.Because)
				require.Empty(t, p.Change)
			}
		}
		require.NotContains(t, r.Verdict, promiseTx)
	}
}
