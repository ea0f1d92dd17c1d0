package dedup

import (
	"time"

	"github.com/oncemq/oncemq/persist"
)

// letter completes a copy of a dead letter with what the consumer knows.
func (c *Consumer) letter(dead *persist.DeadLetter, n *Node) *persist.DeadLetter {
	return c.admission.fillLetter(dead, c.cfg.Group, n.key, n.attempts, c.started)
}

// fillLetter returns a copy of dead, or nil for nil. started is the zero of the
// consumer's own time.
func (a *admission) fillLetter(
	dead *persist.DeadLetter, group, key string, attempts int, started time.Time,
) *persist.DeadLetter {
	if dead == nil {
		return nil
	}
	filled := *dead
	orDefault(&filled.Side, persist.SideConsumer)
	orDefault(&filled.State, persist.StateFailed)
	orDefault(&filled.Group, group)
	orDefault(&filled.Key, key)
	orDefault(&filled.Attempts, attempts)
	if filled.Last.At.IsZero() {
		filled.Last = persist.Failure{Error: filled.Reason, At: time.Now()}
	}
	if filled.First.At.IsZero() {
		filled.First = filled.Last
	}
	filled.First.At = a.clock.at(filled.First.At, started)
	filled.Last.At = a.clock.at(filled.Last.At, started)
	return &filled
}
