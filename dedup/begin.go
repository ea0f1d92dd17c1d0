package dedup

import (
	"context"

	"github.com/oncemq/oncemq/persist"
)

// Begin says that the handler of a granted delivery begins for the attempts-th time,
// and waits until the store knows: if the process dies in the handler, that attempt
// counts. It is for messages that are begun again; a first attempt is counted by its
// claim. The error is the store's, in which case the handler should not run yet, or
// ErrClaimLost. See Config.TellsBegin.
func (c *Consumer) Begin(ctx context.Context, d Delivery, attempts int) error {
	n := d.node()
	c.mu.Lock()
	if n.key == "" || n.phase != phaseGranted && n.phase != phaseAnnounced {
		c.mu.Unlock()
		return nil
	}
	n.counted = attempts
	claim, turn := n.claim(), n.turn
	c.mu.Unlock()
	held, err := call(ctx, c.limits, callBegin, func(ctx context.Context) ([]bool, error) {
		return c.cfg.Store.RenewClaims(ctx, c.cfg.Group, []persist.Claim{claim}, c.cfg.Lease)
	})
	switch {
	case err != nil:
		return err
	case len(held) != 1:
		return errAnswers("renew", 1, len(held))
	case !held[0]:
		c.foundLost(n, turn)
		return ErrClaimLost
	}
	return nil
}

// foundLost has it known that the store refused a granted claim.
func (c *Consumer) foundLost(n *Node, turn uint64) {
	var tellLost context.CancelCauseFunc
	c.mu.Lock()
	if n.turn == turn && (n.phase == phaseGranted || n.phase == phaseAnnounced) {
		n.lease.remove() // not renewed any more
		tellLost = c.markLost(n)
	}
	c.unlock()
	if tellLost != nil {
		tellLost(ErrClaimLost)
	}
}

// ReleaseUnbegun is Release for a message that was begun that often in all, this
// grant's part of it included: a handler that never ran, or gave the message back,
// is no attempt.
func (c *Consumer) ReleaseUnbegun(d Delivery, attempts int) {
	n := d.node()
	c.mu.Lock()
	if n.phase == phaseAnnounced || n.phase == phaseGranted {
		n.counted = attempts
	}
	c.mu.Unlock()
	c.release(d)
}
