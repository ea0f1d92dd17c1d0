package persisttest

import (
	"context"
	"time"
)

func relayMutants() []mutant {
	return []mutant{
		{name: "relays live for ever", caught: []string{"LEASE-5"}, bend: func(b *bent) {
			b.announce = func(ctx context.Context, owner string, ttl time.Duration) ([]string, error) {
				if ttl > 0 {
					ttl = 1000 * lease
				}
				return b.Store.AnnounceRelay(ctx, owner, ttl)
			}
		}},
		{name: "a relay cannot leave", caught: []string{"LEASE-5"}, bend: func(b *bent) {
			b.announce = func(ctx context.Context, owner string, ttl time.Duration) ([]string, error) {
				return b.Store.AnnounceRelay(ctx, owner, max(ttl, time.Minute))
			}
		}},
		{name: "the caller's clock", caught: []string{"Time"}, bend: func(b *bent) {
			b.time = func(context.Context) (time.Time, error) { return time.Now(), nil }
		}},
		{name: "nobody ever sends", caught: []string{"LEASE-6"}, bend: func(b *bent) {
			b.lane = func(l *bentLane) { l.sentUntil = func() time.Time { return time.Time{} } }
		}},
		{name: "a lease is taken for sending", caught: []string{"LEASE-6"}, bend: func(b *bent) {
			b.lane = func(l *bentLane) {
				l.renew = func(ctx context.Context, ttl time.Duration, _ bool) error {
					return l.Lane.Renew(ctx, ttl, true)
				}
			}
		}},
		{name: "the last word decides", caught: []string{"LEASE-6"}, bend: func(b *bent) {
			quiet := make(map[int]bool)
			b.lane = func(l *bentLane) {
				l.renew = func(ctx context.Context, ttl time.Duration, sending bool) error {
					quiet[l.Number()] = !sending
					return l.Lane.Renew(ctx, ttl, sending)
				}
				if quiet[l.Number()] {
					l.sentUntil = func() time.Time { return time.Time{} }
				}
			}
		}},
	}
}
