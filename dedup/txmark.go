package dedup

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// mark marks n's key as completed within the step, or tells that it is another's
// and sets r to what that means.
func (c *TxConsumer[T]) mark(
	ctx context.Context, w *transaction[T], p persist.TxProcess[T], n *Node, r *result, grant *Grant,
) (ours bool, err error) {
	if n.key == "" {
		return true, nil
	}
	w.keys = append(w.keys[:0], n.key)
	claims, err := c.begin(ctx, w, p, n.sent)
	if err != nil {
		return false, err
	}
	return c.decide(&claims[0], n, r, grant), nil
}

// begin marks the keys of w, none of which was sent later than newest.
func (c *TxConsumer[T]) begin(
	ctx context.Context, w *transaction[T], p persist.TxProcess[T], newest time.Time,
) ([]persist.Claim, error) {
	// A store may count from the beginning of the transaction.
	claims, err := p.Begin(ctx, c.cfg.Group, w.keys, c.admission.retention(newest, w.began))
	if err == nil && len(claims) != len(w.keys) {
		err = errAnswers("begin", len(w.keys), len(claims))
	}
	return claims, err
}

// decide tells whether n's key is marked, or sets r to what that means.
func (c *TxConsumer[T]) decide(claim *persist.Claim, n *Node, r *result, grant *Grant) (ours bool) {
	switch claim.State {
	case persist.ClaimGranted:
		grant.Epoch, grant.Attempts = claim.Epoch, max(grant.Attempts, claim.Attempts)
		return true
	case persist.ClaimCompleted:
		*r = result{outcome: duplicate(claim)}
	case persist.ClaimBusy:
		*r = result{until: askAgain(c.now(), claim.Remaining, c.cfg.PollInterval), attempts: n.attempts}
	}
	return false
}

// tooOld tells that n's key, which nobody has completed, may have been
// completed and forgotten.
func (c *TxConsumer[T]) tooOld(n *Node) *TooOldError {
	if n.key == "" {
		return nil
	}
	return c.admission.check(n.sent, c.now())
}
