package persisttest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/oncemq/oncemq/persist"
)

func leaseMutants() []mutant {
	return []mutant{
		{name: "two holders of one lane", caught: []string{"LEASE-1"}, model: true, bend: func(b *bent) {
			last := make(map[int]persist.Lane)
			var mu sync.Mutex
			b.acquire = func(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
				mu.Lock()
				defer mu.Unlock()
				lane, err := b.Store.AcquireLane(ctx, number, owner, ttl)
				if errors.Is(err, persist.ErrLeaseHeld) {
					if err := last[number].Release(ctx); err != nil {
						return nil, err
					}
					lane, err = b.Store.AcquireLane(ctx, number, owner, ttl)
				}
				if err == nil {
					last[number] = lane
				}
				return lane, err
			}
		}},
		{name: "a holder gets its old lease again", caught: []string{"LEASE-1"}, model: true, bend: func(b *bent) {
			b.acquire = againBy(b, func(ctx context.Context, last persist.Lane, ttl time.Duration) (persist.Lane, error) {
				return last, last.Renew(ctx, ttl, false)
			})
		}},
		{name: "a holder's name is no exception", caught: []string{"LEASE-1"}, model: true, bend: func(b *bent) {
			b.acquire = againBy(b, func(context.Context, persist.Lane, time.Duration) (persist.Lane, error) {
				return nil, persist.ErrLeaseHeld
			})
		}},
		{name: "the nameless are one holder", caught: []string{"LEASE-1"}, model: true, bend: func(b *bent) {
			b.acquire = func(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
				if owner == "" {
					owner = "nobody"
				}
				return b.Store.AcquireLane(ctx, number, owner, ttl)
			}
		}},
		{name: "leases never end", caught: []string{"LEASE-1", "LEASE-3"}, model: true, bend: func(b *bent) {
			b.acquire = func(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
				if ttl <= 0 {
					return nil, persist.ErrInvalid
				}
				return b.Store.AcquireLane(ctx, number, owner, 1000*ttl)
			}
		}},
		{name: "a renewal does nothing", caught: []string{"LEASE-1", "LEASE-4"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.renew = func(ctx context.Context, ttl time.Duration, _ bool) error {
					_, err := l.Lane.Acknowledge(ctx, nil) // refuses what is to be refused
					return err
				}
			}
		}},
		{name: "epochs stay", caught: []string{"LEASE-2"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) { l.epoch = func() int64 { return 1 } }
		}},
		{name: "the zombie goes on", caught: []string{"LEASE-3", "OUTBOX-11"}, model: true, bend: func(b *bent) {
			latest := make(map[int]*bentLane)
			var mu sync.Mutex
			b.lane = func(l *bentLane) {
				mu.Lock()
				defer mu.Unlock()
				latest[l.Number()] = l
				l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
					err := l.Lane.Settle(ctx, settlements)
					if !errors.Is(err, persist.ErrLeaseLost) {
						return err
					}
					mu.Lock()
					holder := latest[l.Number()]
					mu.Unlock()
					if holder == l {
						return nil
					}
					return holder.Lane.Settle(ctx, settlements)
				}
			}
		}},
		{name: "the zombie renews", caught: []string{"LEASE-3", "LEASE-1"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.renew = func(ctx context.Context, ttl time.Duration, sending bool) error {
					err := l.Lane.Renew(ctx, ttl, sending)
					if errors.Is(err, persist.ErrLeaseLost) {
						return nil
					}
					return err
				}
			}
		}},
		{name: "the zombie gets nothing, and no error", caught: []string{"LEASE-3"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.next = func(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
					entries, err := l.Lane.Next(ctx, limit, maxBytes)
					if errors.Is(err, persist.ErrLeaseLost) {
						return nil, nil
					}
					return entries, err
				}
			}
		}},
		{name: "the zombie is told by no receipt", caught: []string{"LEASE-3"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.acknowledge = func(ctx context.Context, receipts []persist.Receipt) ([]bool, error) {
					known, err := l.Lane.Acknowledge(ctx, receipts)
					if errors.Is(err, persist.ErrLeaseLost) {
						return make([]bool, len(receipts)), nil
					}
					return known, err
				}
			}
		}},
		{name: "release keeps the lease", caught: []string{"LEASE-1", "LEASE-3"}, model: true, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.release = func(ctx context.Context) error {
					_, err := l.Lane.Acknowledge(ctx, nil)
					return err
				}
			}
		}},
		{name: "an ended lease is no good", caught: []string{"LEASE-4"}, model: true, bend: func(b *bent) {
			ends := make(map[int]time.Time)
			var mu sync.Mutex
			b.acquire = func(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
				lane, err := b.Store.AcquireLane(ctx, number, owner, ttl)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					ends[number] = b.p.time().Add(ttl)
				}
				return lane, err
			}
			b.lane = func(l *bentLane) {
				l.settle = func(ctx context.Context, settlements []persist.Settlement) error {
					mu.Lock()
					ended := b.p.time().After(ends[l.Number()])
					mu.Unlock()
					if ended {
						return persist.ErrLeaseLost
					}
					return l.Lane.Settle(ctx, settlements)
				}
			}
		}},
		{name: "nobody owns a lane", caught: []string{"Lanes"}, bend: func(b *bent) {
			b.acquire = func(ctx context.Context, number int, _ string, ttl time.Duration) (persist.Lane, error) {
				return b.Store.AcquireLane(ctx, number, "", ttl)
			}
		}},
	}
}

// againBy has again answer an AcquireLane by the owner that holds the lane.
func againBy(b *bent, again func(ctx context.Context, last persist.Lane, ttl time.Duration) (persist.Lane, error)) func(context.Context, int, string, time.Duration) (persist.Lane, error) {
	last := make(map[int]persist.Lane)
	var mu sync.Mutex
	return func(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
		mu.Lock()
		defer mu.Unlock()
		infos, err := b.Lanes(ctx)
		if err != nil {
			return nil, err
		}
		if number >= 0 && number < len(infos) && owner != "" && infos[number].Remaining > 0 && infos[number].Owner == owner && last[number] != nil {
			return again(ctx, last[number], ttl)
		}
		lane, err := b.Store.AcquireLane(ctx, number, owner, ttl)
		if err == nil {
			last[number] = lane
		}
		return lane, err
	}
}
