package dedup

import (
	"context"
	"database/sql"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/oncemq/oncemq/persist"
)

// notingStore says of each key that it was begun before, and refuses a release.
type notingStore struct {
	*txStore
	releases atomic.Int32
}

func (s *notingStore) Claim(_ context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	claims := make([]persist.Claim, len(req.Keys))
	for i, key := range req.Keys {
		claims[i] = persist.Claim{Key: key, State: persist.ClaimGranted, Epoch: 1, Attempts: 2}
	}
	return claims, nil
}

func (s *notingStore) Release(context.Context, string, []persist.Claim) error {
	if s.releases.Add(1) == 1 {
		return &persist.Error{Op: "release", Kind: persist.ErrInvalid}
	}
	return nil
}

// All deliveries of a transaction were set aside, to have one each, and then the store
// refused what they had noted: there was none left to blame, and the process panicked.
func TestNoteIsRefusedOfWhatWasSetAside(t *testing.T) {
	t.Parallel()
	store := &notingStore{txStore: newTxStore(t)}
	cfg := txConfig(store)
	cfg.MaxAttempts = 10
	c := startTx(t, cfg)
	first := newTxInbound("first")
	running, goOn := make(chan struct{}), make(chan struct{})
	first.process = func(context.Context, *sql.Tx, Grant) error {
		close(running)
		<-goOn
		return nil
	}
	require.NoError(t, c.Submit(first, "first", time.Time{}))
	<-running
	one, two := newTxInbound("one"), newTxInbound("two")
	for _, d := range []*txInbound{one, two} { // into one transaction
		require.NoError(t, c.SubmitAgain(d, d.key, time.Time{}))
	}
	close(goOn)
	for _, d := range []*txInbound{first, one, two} {
		require.Equal(t, OutcomeProcessed, d.outcome(t))
	}
	require.Greater(t, store.releases.Load(), int32(1))
}
