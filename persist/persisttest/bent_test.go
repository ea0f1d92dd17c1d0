package persisttest

import (
	"context"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// bent is a store with some of its methods replaced: a mutant.
type bent struct {
	persist.Store
	p *place

	enqueue  func(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error)
	lookup   func(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error)
	acquire  func(ctx context.Context, lane int, owner string, ttl time.Duration) (persist.Lane, error)
	lane     func(l *bentLane) // replaces methods of each lane that is acquired
	claim    func(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error)
	time     func(ctx context.Context) (time.Time, error)
	announce func(ctx context.Context, owner string, ttl time.Duration) ([]string, error)
	renew    func(ctx context.Context, group string, claims []persist.Claim, ttl time.Duration) ([]bool, error)
	complete func(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error)
	release  func(ctx context.Context, group string, claims []persist.Claim) error
	expire   func(ctx context.Context, limit int) (int, error)
	forget   func(ctx context.Context, group string, keys []string) (int, error)
	load     func(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error)
	save     func(ctx context.Context, session persist.Session) error
	add      func(ctx context.Context, letters []persist.DeadLetter) error
	letters  func(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error)
	retry    func(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error)
	discard  func(ctx context.Context, filter persist.DeadLetterFilter, limit int) (int, error)
	stats    func(ctx context.Context) (persist.Stats, error)
	list     func(ctx context.Context, req persist.ListRequest) ([]persist.Entry, error)
	get      func(ctx context.Context, id string) ([]persist.Entry, error)
	purge    func(ctx context.Context, req persist.ListRequest) (int, error)
	close    func(ctx context.Context) error
	identity func() string
}

// bend makes a mutant out of a change to the methods of a store.
func bend(change func(b *bent)) func(p *place, s persist.Store) persist.Store {
	return func(p *place, s persist.Store) persist.Store {
		b := &bent{
			Store: s, p: p,
			enqueue: s.Enqueue, lookup: s.Lookup, acquire: s.AcquireLane, lane: func(*bentLane) {},
			claim: s.Claim, renew: s.RenewClaims, complete: s.Complete, release: s.Release, expire: s.ExpireProcessed, forget: s.Forget,
			load: s.LoadSession, save: s.SaveSession,
			add: s.AddDeadLetters, letters: s.ListDeadLetters, retry: s.RetryDeadLetters, discard: s.PurgeDeadLetters,
			stats: s.Stats, list: s.ListOutbox, get: s.GetOutbox, purge: s.PurgeOutbox,
			close: s.Close, identity: s.Identity, announce: s.AnnounceRelay, time: s.Time,
		}
		change(b)
		return b
	}
}

func (b *bent) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	return b.enqueue(ctx, msgs)
}

func (b *bent) Lookup(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
	return b.lookup(ctx, refs)
}

func (b *bent) AcquireLane(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
	inner, err := b.acquire(ctx, number, owner, ttl)
	if err != nil {
		return nil, err
	}
	l := &bentLane{
		Lane: inner, b: b, epoch: inner.Epoch, renew: inner.Renew, sentUntil: inner.SentUntil, next: inner.Next,
		settle: inner.Settle, acknowledge: inner.Acknowledge, save: inner.SaveSession, release: inner.Release,
	}
	b.lane(l)
	return l, nil
}

func (b *bent) AnnounceRelay(ctx context.Context, owner string, ttl time.Duration) ([]string, error) {
	return b.announce(ctx, owner, ttl)
}

func (b *bent) Time(ctx context.Context) (time.Time, error) { return b.time(ctx) }

func (b *bent) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	return b.claim(ctx, req)
}

func (b *bent) RenewClaims(ctx context.Context, group string, claims []persist.Claim, ttl time.Duration) ([]bool, error) {
	return b.renew(ctx, group, claims, ttl)
}

func (b *bent) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	return b.complete(ctx, group, completions, window)
}

func (b *bent) Release(ctx context.Context, group string, claims []persist.Claim) error {
	return b.release(ctx, group, claims)
}

func (b *bent) ExpireProcessed(ctx context.Context, limit int) (int, error) {
	return b.expire(ctx, limit)
}

func (b *bent) Forget(ctx context.Context, group string, keys []string) (int, error) {
	return b.forget(ctx, group, keys)
}

func (b *bent) LoadSession(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
	return b.load(ctx, clientID, epoch)
}

func (b *bent) SaveSession(ctx context.Context, session persist.Session) error {
	return b.save(ctx, session)
}

func (b *bent) AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error {
	return b.add(ctx, letters)
}

func (b *bent) ListDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
	return b.letters(ctx, filter, limit)
}

func (b *bent) RetryDeadLetters(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
	return b.retry(ctx, retries)
}

func (b *bent) PurgeDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) (int, error) {
	return b.discard(ctx, filter, limit)
}

func (b *bent) Stats(ctx context.Context) (persist.Stats, error) { return b.stats(ctx) }

func (b *bent) ListOutbox(ctx context.Context, req persist.ListRequest) ([]persist.Entry, error) {
	return b.list(ctx, req)
}

func (b *bent) GetOutbox(ctx context.Context, id string) ([]persist.Entry, error) {
	return b.get(ctx, id)
}

func (b *bent) PurgeOutbox(ctx context.Context, req persist.ListRequest) (int, error) {
	return b.purge(ctx, req)
}

func (b *bent) Close(ctx context.Context) error { return b.close(ctx) }
func (b *bent) Identity() string                { return b.identity() }

// Notify passes on what the store has.
func (b *bent) Notify() (<-chan struct{}, func()) { return b.Store.(persist.Notifier).Notify() }

// bentLane is a lane with some of its methods replaced.
type bentLane struct {
	persist.Lane
	b *bent

	epoch       func() int64
	renew       func(ctx context.Context, ttl time.Duration, sending bool) error
	sentUntil   func() time.Time
	next        func(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error)
	settle      func(ctx context.Context, settlements []persist.Settlement) error
	acknowledge func(ctx context.Context, receipts []persist.Receipt) ([]bool, error)
	save        func(ctx context.Context, clientID string, states []persist.PacketState) error
	release     func(ctx context.Context) error
}

func (l *bentLane) Epoch() int64         { return l.epoch() }
func (l *bentLane) SentUntil() time.Time { return l.sentUntil() }

func (l *bentLane) Renew(ctx context.Context, ttl time.Duration, sending bool) error {
	return l.renew(ctx, ttl, sending)
}
func (l *bentLane) Release(ctx context.Context) error { return l.release(ctx) }

func (l *bentLane) SaveSession(ctx context.Context, clientID string, states []persist.PacketState) error {
	return l.save(ctx, clientID, states)
}

func (l *bentLane) Next(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
	return l.next(ctx, limit, maxBytes)
}

func (l *bentLane) Settle(ctx context.Context, settlements []persist.Settlement) error {
	return l.settle(ctx, settlements)
}

func (l *bentLane) Acknowledge(ctx context.Context, receipts []persist.Receipt) ([]bool, error) {
	return l.acknowledge(ctx, receipts)
}
