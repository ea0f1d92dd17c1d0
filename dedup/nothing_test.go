package dedup

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// nothing is a store that grants everything and keeps nothing, to measure the
// consumer alone.
type nothing struct{}

func (nothing) Claim(_ context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	claims := make([]persist.Claim, len(req.Keys))
	for i, k := range req.Keys {
		claims[i] = persist.Claim{Key: k, Epoch: 1, Attempts: 1}
	}
	return claims, nil
}

func (nothing) RenewClaims(_ context.Context, _ string, claims []persist.Claim, _ time.Duration) ([]bool, error) {
	return all(len(claims)), nil
}

func (nothing) Complete(_ context.Context, _ string, c []persist.Completion, _ time.Duration) ([]bool, error) {
	return all(len(c)), nil
}

func (nothing) Release(context.Context, string, []persist.Claim) error { return nil }

func (nothing) Time(context.Context) (time.Time, error) { return time.Now(), nil }

func (nothing) ExpireProcessed(context.Context, int) (int, error) { return 0, nil }

func (nothing) Forget(context.Context, string, []string) (int, error) { return 0, nil }

func (nothing) AddDeadLetters(context.Context, []persist.DeadLetter) error { return nil }

func all(n int) []bool {
	yes := make([]bool, n)
	for i := range yes {
		yes[i] = true
	}
	return yes
}
