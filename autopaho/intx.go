package autopaho

import (
	"context"
	"errors"
	"reflect"
	"time"

	"github.com/oncemq/oncemq/dedup"
	"github.com/oncemq/oncemq/internal/failpoint"
	"github.com/oncemq/oncemq/persist"
)

// TxHandler is a handler whose writes through a transaction of the store's
// database commit together with the mark that the message was processed: each
// effect exactly once, whatever dies and however long a replica was paused. It is
// made by [InTx] or [BatchInTx].
type TxHandler interface {
	// transaction names the type of the transaction.
	transaction() string
	// empty tells that the function is nil, and batch that it takes many
	// messages.
	empty() bool
	batch() bool
	// fits tells whether the store has transactions of that type.
	fits(store persist.Store) bool
	// start makes the consumer that runs the handler.
	start(s *Subscription, settings txSettings) (transactional, error)
}

// txSettings are the settings of a transactional consumer.
type txSettings struct {
	store        persist.Store
	onStoreError func(error)
	onStoreBack  func()
}

// transactional is a dedup.TxConsumer of some type of transaction.
type transactional interface {
	submit(it *item, key string, sent time.Time) error
	release(it *item)
	Hasten()
	Close(ctx context.Context) error
}

// InTx makes a TxHandler. T is the type of transaction of the store's database:
// *sql.Tx of a SQLite store, pgx.Tx of a PostgreSQL store. It follows from the
// function:
//
//	autopaho.InTx(func(ctx context.Context, tx *sql.Tx, m *autopaho.Received) error {
//		_, err := tx.ExecContext(ctx, "INSERT INTO readings VALUES (?, ?)", m.Topic, m.Payload)
//		return err
//	})
//
// The function must not commit or roll back. Its errors are those of a
// [Handler]; what it wrote is undone then. It may run again after it has
// succeeded, if the transaction could not be committed, so that other effects
// than those in tx may happen more than once.
func InTx[T any](handle func(ctx context.Context, tx T, m *Received) error) TxHandler {
	return &txHandler[T]{one: handle}
}

// BatchInTx is [InTx] for many messages at once, in the order in which they came:
// what the function writes commits together with the marks of all of them. That
// is how to get telemetry into a database at full speed, exactly once. It fails
// as a [BatchHandler] does; all that it wrote is undone first. See
// SubscribeConfig.MaxBatch.
func BatchInTx[T any](handle func(ctx context.Context, tx T, msgs []*Received) error) TxHandler {
	return &txHandler[T]{many: handle, isBatch: true}
}

// txHandler is a TxHandler: one or many.
type txHandler[T any] struct {
	one     func(ctx context.Context, tx T, m *Received) error
	many    func(ctx context.Context, tx T, msgs []*Received) error
	isBatch bool
}

func (h *txHandler[T]) transaction() string { return reflect.TypeFor[T]().String() }
func (h *txHandler[T]) empty() bool         { return h.one == nil && h.many == nil }
func (h *txHandler[T]) batch() bool         { return h.isBatch }

func (h *txHandler[T]) fits(store persist.Store) bool {
	_, ok := store.(dedup.TxStore[T])
	return ok
}

func (h *txHandler[T]) start(s *Subscription, settings txSettings) (transactional, error) {
	store, _ := settings.store.(dedup.TxStore[T]) // validated
	cfg := dedup.TxConfig[T]{
		Store: store, Group: s.cfg.Group, Window: s.cfg.Window, ClockSkew: s.cfg.ClockSkew,
		MaxAttempts: s.mostBegun(), HandlerTimeout: s.cfg.HandlerTimeout,
		OnStuck: func(change int) { s.client.status.counters.stuck.Add(int64(change)) },
		Logger:  s.client.cfg.Logger, OnStoreError: settings.onStoreError, OnStoreBack: settings.onStoreBack,
	}
	if h.isBatch {
		cfg.MaxBatch, cfg.MaxWait = s.cfg.MaxBatch, s.cfg.MaxWait
		var spareItems []*item // of the one call that there is at a time
		var spareMsgs []*Received
		cfg.Batch = func(ctx context.Context, tx T, batch []dedup.TxGrant[T]) error {
			items, msgs := spareItems[:0], spareMsgs[:0]
			for _, g := range batch {
				t, _ := g.Delivery.(txItem[T]) // nothing else is submitted
				t.begun(g.Grant)
				items, msgs = append(items, t.item), append(msgs, s.handed(t.item))
			}
			if s.cfg.HandlerTimeout == 0 { // else the handler may be left behind with them
				spareItems, spareMsgs = items, msgs
			}
			defer clear(items)
			defer clear(msgs)
			if len(items) == 1 && items[0].given {
				return ErrRelease
			}
			for _, it := range items {
				if it.spoilt != nil {
					return it.spoilt // the others are handled alone
				}
			}
			failpoint.Hit(failpoint.ConsumerAfterClaim)
			within, run := s.handling(ctx, items...)
			err := errPanicked
			defer func() { run.end(err) }()
			err = h.many(within, tx, msgs)
			failpoint.Hit(failpoint.ConsumerAfterEffect)
			if errors.Is(err, ErrRelease) && ctx.Err() == nil {
				// Each of them is asked for alone now, to be given back.
				for _, it := range items {
					it.given = true
				}
			}
			return err
		}
	}
	consumer, err := dedup.NewTx(cfg)
	if err != nil {
		return nil, err
	}
	return &txWork[T]{consumer}, nil
}

// txWork is the consumer of a subscription in transactional mode.
type txWork[T any] struct{ *dedup.TxConsumer[T] }

func (w *txWork[T]) submit(it *item, key string, sent time.Time) error {
	if it.del.Dup {
		return w.SubmitAgain(txItem[T]{it}, key, sent)
	}
	return w.Submit(txItem[T]{it}, key, sent)
}

func (w *txWork[T]) release(it *item) { w.Release(txItem[T]{it}) }

// txItem is an item in transactional mode.
type txItem[T any] struct{ *item }

// Process runs the handler in the transaction.
func (t txItem[T]) Process(ctx context.Context, tx T, g dedup.Grant) error {
	t.begun(g)
	if t.spoilt != nil {
		return t.spoilt
	}
	h, _ := t.sub.cfg.TxHandler.(*txHandler[T]) // it has made this item
	failpoint.Hit(failpoint.ConsumerAfterClaim)
	within, run := t.sub.handling(ctx, t.item)
	err := errPanicked
	defer func() { run.end(err) }()
	err = h.one(within, tx, t.sub.handed(t.item))
	failpoint.Hit(failpoint.ConsumerAfterEffect)
	return err
}

// Failed decides what a handler's error leads to.
func (t txItem[T]) Failed(err error, attempts int) dedup.Verdict {
	s := t.sub
	if s.ctx.Err() != nil || errors.Is(err, ErrRelease) {
		return dedup.Verdict{Release: true}
	}
	var abandoned *dedup.AbandonedError
	if errors.As(err, &t.tooOld) || errors.As(err, &abandoned) {
		t.dead = s.letter(t.item, err, attempts)
		return dedup.Verdict{Dead: t.dead}
	}
	if t.spoilt != nil && errors.Is(err, t.spoilt) {
		t.failed(err)
		t.dead = s.letter(t.item, err, attempts)
		return dedup.Verdict{Dead: t.dead}
	}
	s.client.status.counters.handlerErrors.Add(1)
	t.failed(err)
	if final(err) || attempts >= s.cfg.Attempts {
		t.dead = s.letter(t.item, err, attempts)
		return dedup.Verdict{Dead: t.dead}
	}
	t.by.retried.Add(1)
	return dedup.Verdict{After: s.cfg.Backoff.Delay(attempts)}
}
