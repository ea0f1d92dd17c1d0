package persisttest

import (
	"context"
	"slices"
	"sync"

	"github.com/oncemq/oncemq/persist"
)

// backlogMutants are defects of what bounds a backlog.
func backlogMutants() []mutant {
	return []mutant{
		{name: "counts no bytes", caught: []string{"OUTBOX-9"}, model: true, bend: func(b *bent) {
			b.stats = func(ctx context.Context) (persist.Stats, error) {
				stats, err := b.Store.Stats(ctx)
				stats.Bytes = 0
				return stats, err
			}
		}},
		{name: "supersedes nothing", caught: []string{"OUTBOX-14", "OUTBOX-15"}, model: true, bend: enqueueing(func(m *persist.Message) {
			m.Supersede = false
		})},
		{name: "supersedes what did not ask for it", caught: []string{"OUTBOX-14"}, model: true, bend: enqueueing(func(m *persist.Message) {
			m.Supersede = !m.Receipt && !m.Droppable
		})},
		{name: "supersedes what was handed out", caught: []string{"OUTBOX-14"}, model: true, bend: func(b *bent) {
			var mu sync.Mutex // guards what follows
			handed := make(map[string]persist.Ref)
			lanes := make(map[int]persist.Lane)
			b.lane = func(l *bentLane) {
				mu.Lock()
				lanes[l.Number()] = l.Lane
				mu.Unlock()
				l.next = func(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
					entries, err := l.Lane.Next(ctx, limit, maxBytes)
					mu.Lock()
					defer mu.Unlock()
					for i := range entries {
						if entries[i].Message.Supersede {
							handed[entries[i].Message.Key()] = entries[i].Ref
						}
					}
					return entries, err
				}
			}
			b.enqueue = func(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
				places, err := b.Store.Enqueue(ctx, msgs)
				for i := range msgs {
					mu.Lock()
					ref, ok := handed[msgs[i].Key()]
					lane := lanes[ref.Lane]
					mu.Unlock()
					if ok && err == nil && msgs[i].Supersede {
						_ = lane.Settle(ctx, []persist.Settlement{{Position: ref.Position, Outcome: persist.OutcomeSuperseded}})
					}
				}
				return places, err
			}
		}},
		{name: "takes what gave way for delivered", caught: []string{"OUTBOX-15"}, model: true, bend: func(b *bent) {
			b.lookup = func(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
				fates, err := b.Store.Lookup(ctx, refs)
				for i := range fates {
					if fates[i].State >= persist.StateDropped {
						fates[i] = persist.Fate{State: persist.StateDelivered, Gone: true}
					}
				}
				return fates, err
			}
		}},
		{name: "takes what is superseded for delivered", caught: []string{"OUTBOX-16"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
					settlements = slices.Clone(settlements)
					for i := range settlements {
						if settlements[i].Outcome == persist.OutcomeSuperseded {
							settlements[i].Outcome = persist.OutcomeDelivered
						}
					}
					return l.Lane.Settle(ctx, settlements)
				}
			}
		}},
		{name: "knows no age", caught: []string{"OUTBOX-17"}, model: true, bend: handing(func(_ *bentLane, entries []persist.Entry) []persist.Entry {
			for i := range entries {
				entries[i].AgeLeft = 0
			}
			return entries
		})},
	}
}
