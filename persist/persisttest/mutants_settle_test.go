package persisttest

import (
	"context"
	"slices"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// settling is a mutant that changes settlements on their way in.
func settling(f func(l *bentLane, st *persist.Settlement)) func(b *bent) {
	return func(b *bent) {
		b.lane = func(l *bentLane) {
			l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
				settlements = slices.Clone(settlements)
				for i := range settlements {
					f(l, &settlements[i])
				}
				return l.Lane.Settle(ctx, settlements)
			}
		}
	}
}

func settleMutants() []mutant {
	return []mutant{
		{name: "loses failed messages", caught: []string{"OUTBOX-11", "Lookup", "Admin"}, model: true, bend: settling(func(_ *bentLane, st *persist.Settlement) {
			if st.Outcome == persist.OutcomeFailed {
				st.Outcome = persist.OutcomeDelivered
			}
		})},
		{name: "takes expired for failed", caught: []string{"OUTBOX-11", "Lookup", "Admin"}, model: true, bend: settling(func(_ *bentLane, st *persist.Settlement) {
			if st.Outcome == persist.OutcomeExpired {
				st.Outcome = persist.OutcomeFailed
			}
		})},
		{name: "loses the reason", caught: []string{"OUTBOX-11", "OUTBOX-6", "Lookup"}, model: true, bend: settling(func(_ *bentLane, st *persist.Settlement) {
			st.Reason = ""
		})},
		{name: "takes a retry for returned", caught: []string{"OUTBOX-6"}, model: true, bend: settling(func(_ *bentLane, st *persist.Settlement) {
			if st.Outcome == persist.OutcomeRetry {
				st.Outcome = persist.OutcomeReturned
			}
		})},
		{name: "takes returned for a retry", caught: []string{"OUTBOX-6"}, model: true, bend: settling(func(_ *bentLane, st *persist.Settlement) {
			if st.Outcome == persist.OutcomeReturned {
				st.Outcome = persist.OutcomeRetry
			}
		})},
		{name: "never misses a receipt", caught: []string{"OUTBOX-6"}, model: true, bend: settling(func(_ *bentLane, st *persist.Settlement) {
			st.ReceiptTimeout = 0
		})},
		{name: "awaits no receipt for ever", caught: []string{"OUTBOX-6"}, model: true, bend: settling(func(_ *bentLane, st *persist.Settlement) {
			if st.ReceiptTimeout == 0 {
				st.ReceiptTimeout = time.Minute
			}
		})},
		{name: "deletes at delivery what awaits a receipt", caught: []string{"OUTBOX-12", "OUTBOX-4", "OUTBOX-6", "Admin"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
					if err := l.Lane.Settle(ctx, settlements); err != nil {
						return err
					}
					_, err := b.Store.PurgeOutbox(ctx, persist.ListRequest{Lane: l.Number(), Limit: 1000, States: []persist.State{persist.StateDelivered}})
					return err
				}
			}
		}},
		{name: "deletes a range of positions", caught: []string{"Settle"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
					if err := l.Lane.Settle(ctx, settlements); err != nil || len(settlements) < 2 {
						return err
					}
					var positions []int64
					for _, st := range settlements {
						positions = append(positions, st.Position)
					}
					for position := slices.Min(positions); position < slices.Max(positions); position++ {
						if err := l.Lane.Settle(ctx, []persist.Settlement{{Position: position}}); err != nil {
							return err
						}
					}
					return nil
				}
			}
		}},
		{name: "settles all but the first", caught: []string{"Settle", "OUTBOX-10"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
					return l.Lane.Settle(ctx, settlements[min(1, len(settlements)):])
				}
			}
		}},
		{name: "settles one by one", caught: []string{"OUTBOX-11"}, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
					for i := range settlements {
						if err := l.Lane.Settle(ctx, settlements[i:i+1]); err != nil {
							return err
						}
					}
					return l.Lane.Settle(ctx, nil)
				}
			}
		}},
		{name: "refuses to settle what is gone", caught: []string{"OUTBOX-10", "OUTBOX-9", "OUTBOX-12"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
					entries, err := b.Store.ListOutbox(ctx, persist.ListRequest{Lane: l.Number(), Limit: 1 << 20})
					if err != nil {
						return l.Lane.Settle(ctx, settlements)
					}
					for _, st := range settlements {
						if !slices.ContainsFunc(entries, func(e persist.Entry) bool { return e.Position == st.Position }) {
							return persist.ErrNotFound
						}
					}
					return l.Lane.Settle(ctx, settlements)
				}
			}
		}},
		{name: "a failure of what is gone makes a dead letter", caught: []string{"OUTBOX-10"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
					before, _ := b.Store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 1<<20)
					err := l.Lane.Settle(ctx, settlements)
					after, _ := b.Store.ListDeadLetters(ctx, persist.DeadLetterFilter{}, 1<<20)
					for _, st := range settlements {
						if err == nil && st.Outcome == persist.OutcomeFailed && len(before) == len(after) {
							return b.Store.AddDeadLetters(ctx, []persist.DeadLetter{{Side: persist.SideOutbox, State: persist.StateFailed}})
						}
					}
					return err
				}
			}
		}},
		{name: "knows every receipt", caught: []string{"OUTBOX-12"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.acknowledge = func(ctx context.Context, receipts []persist.Receipt) ([]bool, error) {
					known, err := l.Lane.Acknowledge(ctx, receipts)
					for i := range known {
						known[i] = true
					}
					return known, err
				}
			}
		}},
		{name: "takes a failed receipt for a good one", caught: []string{"OUTBOX-12"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.acknowledge = func(ctx context.Context, receipts []persist.Receipt) ([]bool, error) {
					receipts = slices.Clone(receipts)
					for i := range receipts {
						receipts[i].Failed = false
					}
					return l.Lane.Acknowledge(ctx, receipts)
				}
			}
		}},
		{name: "acknowledges only what was delivered", caught: []string{"OUTBOX-12"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.acknowledge = func(ctx context.Context, receipts []persist.Receipt) ([]bool, error) {
					receipts = slices.Clone(receipts)
					for i := range receipts {
						if found, err := b.Store.GetOutbox(ctx, receipts[i].ID); err == nil && found[0].State == persist.StatePending {
							receipts[i].ID = "\x00nobody"
						}
					}
					return l.Lane.Acknowledge(ctx, receipts)
				}
			}
		}},
		{name: "tells pending of all", caught: []string{"Lookup", "OUTBOX-12"}, model: true, bend: func(b *bent) {
			b.lookup = func(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
				if _, err := b.Store.Lookup(ctx, refs); err != nil {
					return nil, err
				}
				return make([]persist.Fate, len(refs)), nil
			}
		}},
		{name: "takes failed for gone", caught: []string{"Lookup", "OUTBOX-12"}, model: true, bend: func(b *bent) {
			b.lookup = func(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
				fates, err := b.Store.Lookup(ctx, refs)
				for i := range fates {
					if fates[i].State > persist.StateDelivered {
						fates[i] = persist.Fate{State: persist.StateDelivered}
					}
				}
				return fates, err
			}
		}},
	}
}
