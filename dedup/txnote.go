package dedup

import (
	"context"
	"log/slog"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// A transaction that dies with its process leaves nothing, so that a message that
// kills would be run for ever. Its attempts are counted outside of the transaction,
// before it: by a claim that is released at once, whose row remembers how often that
// was.
//
//	deliver      run, killed
//	redeliver    note 1, run together with the others that came again, killed
//	redeliver    note 2, run alone, killed
//	...
//	redeliver    as many as may be: a dead letter
//
// The first delivery is not noted, for the sake of all those that do not kill; its
// redelivery tells of it. From the second note on a message has a transaction of its
// own, and is noted right before, so that what waits behind one that kills does not
// count as begun.

// noteTTL is for how long the claim of a note lasts if its process dies before it is
// released. If the answer to either call is lost, the note is taken again meanwhile: it
// names its owner, and counts once, unless the store is away for longer than this.
const noteTTL = 10 * time.Second

// noteAttempts counts the attempts of those deliveries in w that are seen again.
// Those that are to run alone leave w, unless it is their turn.
func (c *TxConsumer[T]) noteAttempts(ctx context.Context, w *transaction[T]) error {
	if c.cfg.MaxAttempts == 0 {
		return nil
	}
	if err := c.releaseNotes(ctx, w); err != nil {
		return err
	}
	var keys []string
	places := make(map[string]*Node)
	for _, n := range w.nodes {
		if n.key == "" || n.dead != nil || n.noted || !n.again && n.attempts == 0 {
			continue
		}
		if _, twice := places[n.key]; !twice {
			places[n.key] = n
			keys = append(keys, n.key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	claims, err := call(ctx, c.limits, callClaim, func(ctx context.Context) ([]persist.Claim, error) {
		return c.cfg.Store.Claim(ctx, persist.ClaimRequest{Group: c.cfg.Group, Owner: c.owner, TTL: noteTTL, Keys: keys})
	})
	if err == nil && len(claims) != len(keys) {
		err = errAnswers("claim", len(keys), len(claims))
	}
	if err != nil {
		return err
	}
	single := len(w.nodes) == 1
	for i := range claims {
		n := places[keys[i]]
		if claims[i].State != persist.ClaimGranted && (claims[i].State != persist.ClaimBusy ||
			claims[i].Owner != c.owner || claims[i].Epoch == 0) {
			continue // Begin will see to it
		}
		// With the one that was not noted.
		n.attempts = max(n.attempts, claims[i].Attempts)
		switch {
		case n.attempts >= c.cfg.MaxAttempts:
			c.abandon(n)
		case claims[i].Attempts > 1 && !single:
			n.suspect = true
			claims[i].Attempts--
		default:
			n.noted = true
		}
		w.notes = append(w.notes, claims[i])
	}
	c.setSuspectsAside(w)
	return c.releaseNotes(ctx, w)
}

// releaseNotes releases the claims of notes. Before that a transaction would find its
// own keys busy.
func (c *TxConsumer[T]) releaseNotes(ctx context.Context, w *transaction[T]) error {
	if len(w.notes) == 0 {
		return nil
	}
	_, err := call(ctx, c.limits, callRelease, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, c.cfg.Store.Release(ctx, c.cfg.Group, w.notes)
	})
	if isRefusal(err) { // they end by themselves
		c.cfg.Logger.LogAttrs(ctx, slog.LevelError, "dedup store refuses to release notes", slog.Any("error", err))
		err = nil
	}
	if err == nil {
		w.notes = nil
	}
	return err
}

// abandon gives a message up that was begun too often.
func (c *TxConsumer[T]) abandon(n *Node) {
	verdict := n.txDelivery.Failed(&AbandonedError{Attempts: n.attempts}, n.attempts)
	if verdict.Dead != nil {
		n.dead = c.letter(verdict.Dead, n, n.attempts)
	}
}

// setSuspectsAside puts those back that are to have a transaction of their own.
func (c *TxConsumer[T]) setSuspectsAside(w *transaction[T]) {
	if len(w.nodes) == 1 {
		return
	}
	c.mu.Lock()
	kept := w.nodes[:0]
	for _, n := range w.nodes {
		if !n.suspect || n.dead != nil {
			kept = append(kept, n)
			continue
		}
		c.working--
		if c.closing || n.unwanted {
			w.out = c.settle(n, OutcomeReleased, w.out)
			continue
		}
		n.phase = phaseQueued
		c.queue.pushBack(&n.place)
	}
	clear(w.nodes[len(kept):])
	w.nodes = kept
	c.unlock()
	w.tellOut()
}
