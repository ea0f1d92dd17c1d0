package autopaho

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/persist"
)

// timedStore is a store of claims whose calls are measured.
type timedStore struct {
	dedup.Store
	metrics *metrics
}

// claims is the store of a subscription's claims.
func (c *Client) claims() dedup.Store {
	if c.metrics == nil {
		return c.cfg.Store
	}
	return &timedStore{c.cfg.Store, c.metrics}
}

// Claim is the store's.
func (s *timedStore) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	start := s.metrics.timed()
	claims, err := s.Store.Claim(ctx, req)
	s.metrics.called(ctx, callClaim, start, err)
	return claims, err
}

// Complete is the store's.
func (s *timedStore) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	start := s.metrics.timed()
	done, err := s.Store.Complete(ctx, group, completions, window)
	s.metrics.called(ctx, callComplete, start, err)
	return done, err
}
