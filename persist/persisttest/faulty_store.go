package persisttest

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// Op names a method of a store, of a lane or of a transaction.
type Op string

// The operations of a faulty store. Those of a lane and of ProcessTx's
// transaction are named after their types.
const (
	OpEnqueue     Op = "Enqueue"
	OpLookup      Op = "Lookup"
	OpLanes       Op = "Lanes"
	OpAcquireLane Op = "AcquireLane"

	OpAnnounceRelay Op = "AnnounceRelay"
	OpTime          Op = "Time"

	OpLaneRenew       Op = "Lane.Renew"
	OpLaneNext        Op = "Lane.Next"
	OpLaneSettle      Op = "Lane.Settle"
	OpLaneAcknowledge Op = "Lane.Acknowledge"
	OpLaneRelease     Op = "Lane.Release"

	OpClaim           Op = "Claim"
	OpRenewClaims     Op = "RenewClaims"
	OpComplete        Op = "Complete"
	OpRelease         Op = "Release"
	OpExpireProcessed Op = "ExpireProcessed"
	OpForget          Op = "Forget"

	OpLoadSession Op = "LoadSession"
	OpSaveSession Op = "SaveSession"

	OpAddDeadLetters   Op = "AddDeadLetters"
	OpListDeadLetters  Op = "ListDeadLetters"
	OpRetryDeadLetters Op = "RetryDeadLetters"
	OpPurgeDeadLetters Op = "PurgeDeadLetters"

	OpStats       Op = "Stats"
	OpListOutbox  Op = "ListOutbox"
	OpGetOutbox   Op = "GetOutbox"
	OpPurgeOutbox Op = "PurgeOutbox"

	// OpEnqueueTx is the Enqueue of WithTx.
	OpEnqueueTx Op = "EnqueueTx"
	// OpProcessTx fails at the commit: the function runs in every mode.
	OpProcessTx            Op = "ProcessTx"
	OpProcessBegin         Op = "Process.Begin"
	OpProcessStep          Op = "Process.Step"
	OpProcessAddDeadLetter Op = "Process.AddDeadLetter"
)

// faultyStore is a store under faults. It holds the inner one by name, so that
// a method that is added to persist.Store does not pass by the faults unseen.
type faultyStore struct {
	inner  persist.Store
	faults *Faults
}

var _ persist.Store = (*faultyStore)(nil)

// wrap gives the wrapper those optional methods that the store has.
func (f *Faults) wrap(inner persist.Store) persist.Store {
	store := &faultyStore{inner, f}
	notifier, notifies := inner.(persist.Notifier)
	innerProcessor, processes := inner.(persist.TxProcessor[*sql.Tx])
	processor := &faultyProcessor[*sql.Tx]{innerProcessor, f}
	innerJoiner, joins := inner.(persist.TxJoiner[*sql.Tx])
	joiner := &faultyJoiner{innerJoiner, f}
	switch transacts := processes && joins; {
	case notifies && transacts:
		return struct {
			*faultyStore
			persist.Notifier
			*faultyProcessor[*sql.Tx]
			*faultyJoiner
		}{store, notifier, processor, joiner}
	case notifies:
		return struct {
			*faultyStore
			persist.Notifier
		}{store, notifier}
	case transacts:
		return struct {
			*faultyStore
			*faultyProcessor[*sql.Tx]
			*faultyJoiner
		}{store, processor, joiner}
	}
	return store
}

// ask does a call that has an answer, and drops the answer with an error.
func ask[A any](ctx context.Context, f *Faults, op Op, do func() (A, error)) (answer A, err error) {
	var none A
	err = f.call(ctx, op, func() (err error) {
		answer, err = do()
		return err
	})
	if err != nil {
		return none, err
	}
	return answer, nil
}

func (s *faultyStore) Identity() string                { return s.inner.Identity() }
func (s *faultyStore) Durability() string              { return s.inner.Durability() }
func (s *faultyStore) Close(ctx context.Context) error { return s.inner.Close(ctx) }

func (s *faultyStore) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	return ask(ctx, s.faults, OpEnqueue, func() ([]persist.Enqueued, error) { return s.inner.Enqueue(ctx, msgs) })
}

func (s *faultyStore) Lookup(ctx context.Context, refs []persist.Ref) ([]persist.Fate, error) {
	return ask(ctx, s.faults, OpLookup, func() ([]persist.Fate, error) { return s.inner.Lookup(ctx, refs) })
}

func (s *faultyStore) Lanes(ctx context.Context) ([]persist.LaneInfo, error) {
	return ask(ctx, s.faults, OpLanes, func() ([]persist.LaneInfo, error) { return s.inner.Lanes(ctx) })
}

func (s *faultyStore) AcquireLane(ctx context.Context, number int, owner string, ttl time.Duration) (persist.Lane, error) {
	lane, err := ask(ctx, s.faults, OpAcquireLane, func() (persist.Lane, error) {
		return s.inner.AcquireLane(ctx, number, owner, ttl)
	})
	if err != nil {
		return nil, err
	}
	return &faultyLane{lane, s.faults}, nil
}

func (s *faultyStore) AnnounceRelay(ctx context.Context, owner string, ttl time.Duration) ([]string, error) {
	return ask(ctx, s.faults, OpAnnounceRelay, func() ([]string, error) { return s.inner.AnnounceRelay(ctx, owner, ttl) })
}

func (s *faultyStore) Time(ctx context.Context) (time.Time, error) {
	return ask(ctx, s.faults, OpTime, func() (time.Time, error) { return s.inner.Time(ctx) })
}

func (s *faultyStore) Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error) {
	return ask(ctx, s.faults, OpClaim, func() ([]persist.Claim, error) { return s.inner.Claim(ctx, req) })
}

func (s *faultyStore) RenewClaims(ctx context.Context, group string, claims []persist.Claim, ttl time.Duration) ([]bool, error) {
	return ask(ctx, s.faults, OpRenewClaims, func() ([]bool, error) { return s.inner.RenewClaims(ctx, group, claims, ttl) })
}

func (s *faultyStore) Complete(ctx context.Context, group string, completions []persist.Completion, window time.Duration) ([]bool, error) {
	return ask(ctx, s.faults, OpComplete, func() ([]bool, error) { return s.inner.Complete(ctx, group, completions, window) })
}

func (s *faultyStore) Release(ctx context.Context, group string, claims []persist.Claim) error {
	return s.faults.call(ctx, OpRelease, func() error { return s.inner.Release(ctx, group, claims) })
}

func (s *faultyStore) ExpireProcessed(ctx context.Context, limit int) (int, error) {
	return ask(ctx, s.faults, OpExpireProcessed, func() (int, error) { return s.inner.ExpireProcessed(ctx, limit) })
}

func (s *faultyStore) Forget(ctx context.Context, group string, keys []string) (int, error) {
	return ask(ctx, s.faults, OpForget, func() (int, error) { return s.inner.Forget(ctx, group, keys) })
}

func (s *faultyStore) LoadSession(ctx context.Context, clientID string, epoch int64) ([]persist.PacketState, error) {
	return ask(ctx, s.faults, OpLoadSession, func() ([]persist.PacketState, error) {
		return s.inner.LoadSession(ctx, clientID, epoch)
	})
}

func (s *faultyStore) SaveSession(ctx context.Context, session persist.Session) error {
	return s.faults.call(ctx, OpSaveSession, func() error { return s.inner.SaveSession(ctx, session) })
}

func (s *faultyStore) AddDeadLetters(ctx context.Context, letters []persist.DeadLetter) error {
	return s.faults.call(ctx, OpAddDeadLetters, func() error { return s.inner.AddDeadLetters(ctx, letters) })
}

func (s *faultyStore) ListDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) ([]persist.DeadLetter, error) {
	return ask(ctx, s.faults, OpListDeadLetters, func() ([]persist.DeadLetter, error) {
		return s.inner.ListDeadLetters(ctx, filter, limit)
	})
}

func (s *faultyStore) RetryDeadLetters(ctx context.Context, retries []persist.Retry) ([]persist.Retried, error) {
	return ask(ctx, s.faults, OpRetryDeadLetters, func() ([]persist.Retried, error) { return s.inner.RetryDeadLetters(ctx, retries) })
}

func (s *faultyStore) PurgeDeadLetters(ctx context.Context, filter persist.DeadLetterFilter, limit int) (int, error) {
	return ask(ctx, s.faults, OpPurgeDeadLetters, func() (int, error) { return s.inner.PurgeDeadLetters(ctx, filter, limit) })
}

func (s *faultyStore) Stats(ctx context.Context) (persist.Stats, error) {
	return ask(ctx, s.faults, OpStats, func() (persist.Stats, error) { return s.inner.Stats(ctx) })
}

func (s *faultyStore) ListOutbox(ctx context.Context, req persist.ListRequest) ([]persist.Entry, error) {
	return ask(ctx, s.faults, OpListOutbox, func() ([]persist.Entry, error) { return s.inner.ListOutbox(ctx, req) })
}

func (s *faultyStore) GetOutbox(ctx context.Context, id string) ([]persist.Entry, error) {
	return ask(ctx, s.faults, OpGetOutbox, func() ([]persist.Entry, error) { return s.inner.GetOutbox(ctx, id) })
}

func (s *faultyStore) PurgeOutbox(ctx context.Context, req persist.ListRequest) (int, error) {
	return ask(ctx, s.faults, OpPurgeOutbox, func() (int, error) { return s.inner.PurgeOutbox(ctx, req) })
}

// faultyLane is a lane under the faults of its store.
type faultyLane struct {
	inner  persist.Lane
	faults *Faults
}

func (l *faultyLane) Number() int  { return l.inner.Number() }
func (l *faultyLane) Epoch() int64 { return l.inner.Epoch() }

func (l *faultyLane) SentUntil() time.Time { return l.inner.SentUntil() }

func (l *faultyLane) Renew(ctx context.Context, ttl time.Duration, sending bool) error {
	return l.faults.call(ctx, OpLaneRenew, func() error { return l.inner.Renew(ctx, ttl, sending) })
}

func (l *faultyLane) Next(ctx context.Context, limit, maxBytes int) ([]persist.Entry, error) {
	return ask(ctx, l.faults, OpLaneNext, func() ([]persist.Entry, error) { return l.inner.Next(ctx, limit, maxBytes) })
}

func (l *faultyLane) Settle(ctx context.Context, settlements []persist.Settlement) error {
	return l.faults.call(ctx, OpLaneSettle, func() error { return l.inner.Settle(ctx, settlements) })
}

func (l *faultyLane) Acknowledge(ctx context.Context, receipts []persist.Receipt) ([]bool, error) {
	return ask(ctx, l.faults, OpLaneAcknowledge, func() ([]bool, error) { return l.inner.Acknowledge(ctx, receipts) })
}

func (l *faultyLane) SaveSession(ctx context.Context, clientID string, states []persist.PacketState) error {
	return l.faults.call(ctx, OpSaveSession, func() error { return l.inner.SaveSession(ctx, clientID, states) })
}

func (l *faultyLane) Release(ctx context.Context) error {
	return l.faults.call(ctx, OpLaneRelease, func() error { return l.inner.Release(ctx) })
}

// faultyJoiner is WithTx under faults.
type faultyJoiner struct {
	joiner persist.TxJoiner[*sql.Tx]
	faults *Faults
}

// WithTx implements persist.TxJoiner.
func (j *faultyJoiner) WithTx(tx *sql.Tx) persist.TxOutbox {
	return &faultyOutbox{j.joiner.WithTx(tx), j.faults}
}

// faultyOutbox is the outbox of a transaction under the faults of its store.
type faultyOutbox struct {
	inner  persist.TxOutbox
	faults *Faults
}

func (o *faultyOutbox) Identity() string { return o.inner.Identity() }

func (o *faultyOutbox) Enqueue(ctx context.Context, msgs []persist.Message) ([]persist.Enqueued, error) {
	return ask(ctx, o.faults, OpEnqueueTx, func() ([]persist.Enqueued, error) { return o.inner.Enqueue(ctx, msgs) })
}

// faultyProcessor is ProcessTx under faults.
type faultyProcessor[T any] struct {
	processor persist.TxProcessor[T]
	faults    *Faults
}

// WrapTxProcessor is the ProcessTx of a store under the faults, for stores whose
// transactions are not of database/sql: those are wrapped by NewFaulty.
func WrapTxProcessor[T any](p persist.TxProcessor[T], faults *Faults) persist.TxProcessor[T] {
	return &faultyProcessor[T]{p, faults}
}

// ProcessTx implements persist.TxProcessor. A fault strikes at the commit,
// once fn has returned nil: it rolls back what is not to happen.
func (s *faultyProcessor[T]) ProcessTx(ctx context.Context, fn func(ctx context.Context, p persist.TxProcess[T]) error) error {
	ran := false
	within := func(rollback error) error {
		return s.processor.ProcessTx(ctx, func(ctx context.Context, p persist.TxProcess[T]) error {
			ran = true
			if err := fn(ctx, &faultyProcess[T]{p, s.faults}); err != nil {
				return err
			}
			return rollback
		})
	}
	err := s.faults.call(ctx, OpProcessTx, func() error { return within(nil) })
	if ran || !errors.Is(err, ErrInjected) {
		return err
	}
	return within(err)
}

// faultyProcess is a transaction under the faults of its store.
type faultyProcess[T any] struct {
	inner  persist.TxProcess[T]
	faults *Faults
}

func (p *faultyProcess[T]) Tx() T { return p.inner.Tx() }

func (p *faultyProcess[T]) Begin(ctx context.Context, group string, keys []string, window time.Duration) ([]persist.Claim, error) {
	return ask(ctx, p.faults, OpProcessBegin, func() ([]persist.Claim, error) { return p.inner.Begin(ctx, group, keys, window) })
}

func (p *faultyProcess[T]) Step(ctx context.Context, fn func() error) error {
	return p.faults.call(ctx, OpProcessStep, func() error { return p.inner.Step(ctx, fn) })
}

func (p *faultyProcess[T]) AddDeadLetter(ctx context.Context, letter persist.DeadLetter) error {
	return p.faults.call(ctx, OpProcessAddDeadLetter, func() error { return p.inner.AddDeadLetter(ctx, letter) })
}
