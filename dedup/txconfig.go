package dedup

import (
	"context"
	"log/slog"
	"time"

	"github.com/oncemq/oncemq/persist"
)

// TxStore is what a TxConsumer needs of a store whose transactions are a T:
// *sql.Tx of sqlite, pgx.Tx of postgres.
type TxStore[T any] interface {
	persist.TxProcessor[T]
	// ExpireProcessed is as in [persist.Processed].
	ExpireProcessed(ctx context.Context, limit int) (forgotten int, err error)
	// Time is as in [persist.Store].
	Time(ctx context.Context) (time.Time, error)
	// Claim and Release are as in [persist.Processed]. They count attempts.
	Claim(ctx context.Context, req persist.ClaimRequest) ([]persist.Claim, error)
	Release(ctx context.Context, group string, claims []persist.Claim) error
}

// TxDelivery is one delivery of a message in transactional mode. A type becomes
// one by embedding [Node]. Its methods are called one after another, but for a
// Process that was left behind: see TxConfig.HandlerTimeout.
type TxDelivery[T any] interface {
	// Process is the handler. What it writes through tx commits together with
	// the mark, or not at all; it must neither commit nor roll back. While it
	// runs, the transaction is open, and with SQLite nobody else can write: it
	// should write and return, and wait for nothing. An error or a panic undoes
	// what it wrote. ctx ends with the transaction's time limit, with the
	// HandlerTimeout and when Close gives up.
	//
	// Process may be called again after it succeeded, if the transaction could
	// not be committed: effects outside tx are not fenced.
	Process(ctx context.Context, tx T, grant Grant) error

	// Failed says what is to be done after Process failed for the attempts-th
	// time; a panic comes as a *PanicError. A *TooOldError says that Process was
	// not called, since the message came when its key may have been forgotten;
	// what is to be done with such a message is a dead letter. Failed must not
	// block, and may be called more than once for one attempt if the
	// transaction could not be committed. An *AbandonedError says that Process was
	// not called, since it was begun too often: see TxConfig.MaxAttempts.
	Failed(err error, attempts int) Verdict

	// Settled is the last word on the delivery, as in [Delivery].
	Settled(outcome Outcome)

	node() *Node
}

// txNode is the part of every TxDelivery that has nothing to do with the kind of
// transaction, so that a Node can hold it.
type txNode interface {
	Failed(err error, attempts int) Verdict
	Settled(outcome Outcome)
}

// TxGrant is one delivery of a batch.
type TxGrant[T any] struct {
	Delivery TxDelivery[T]
	Grant    Grant
}

// Verdict is what is to be done with a message whose handler failed. The zero
// Verdict tries again at once.
type Verdict struct {
	// Dead, if set, gives the message up: the letter and the mark are stored in
	// one step, and the delivery is settled with OutcomeDead. It is filled in as in
	// [Consumer.Complete].
	Dead *persist.DeadLetter
	// Release gives the delivery back: it is settled with OutcomeReleased.
	Release bool
	// After is how long to wait before the next attempt. Other deliveries go
	// on meanwhile.
	After time.Duration
}

// TxConfig sets a TxConsumer up. Store and Group are required.
type TxConfig[T any] struct {
	// Store keeps the marks, in the database that the handlers write to. It is
	// not closed by the consumer.
	Store TxStore[T]

	// Group, Window, ClockSkew, PollInterval, SweepInterval, StoreTimeout,
	// Logger, OnStoreError and OnStoreBack are as in [Config]; StoreTimeout
	// bounds the beginning and the commit of a transaction as well, but not what is
	// between them: see Timeout.
	Group         string
	Window        time.Duration
	ClockSkew     time.Duration
	PollInterval  time.Duration
	SweepInterval time.Duration
	StoreTimeout  time.Duration
	Logger        *slog.Logger
	OnStoreError  func(err error)
	OnStoreBack   func()

	// Batch, if set, is called in place of Process, once for many deliveries: for
	// an insert of many rows, say. What it writes commits together with the
	// marks of all of them. It sees each key once, in the order of the
	// submissions, and none that is a duplicate, too old or busy elsewhere. The
	// slice is only its own until it returns. If it fails or panics, all is
	// undone, and it is called for each delivery alone; whoever fails then is
	// judged by its Failed. All that is said of Process holds for it.
	Batch func(ctx context.Context, tx T, batch []TxGrant[T]) error

	// MaxWait is for how long a transaction that has fewer than MaxBatch
	// deliveries waits for more before it begins. Zero begins at once with what
	// there is: the commit of the one before is a wait already.
	MaxWait time.Duration

	// MaxBatch is how many deliveries share a transaction, and with it the cost
	// of a commit: 1 to 10,000. If the transaction cannot be committed, the
	// handlers of all of them run again. Zero means DefaultMaxBatch.
	MaxBatch int

	// MaxAttempts is how often a message with a key may be begun before Failed gets
	// an *AbandonedError in place of another attempt. Attempts are counted in the
	// store, so that a message that kills its process is stopped by the next one: a
	// message that is seen again, redelivered or after a failure, has its attempt
	// noted before its transaction begins. A first delivery costs nothing. At least
	// 2; zero counts in this process alone, without end.
	MaxAttempts int

	// MaxHold is for how long a transaction takes in further deliveries: it
	// commits after the first handler that ends later than that. With SQLite
	// every other writer waits that long. Zero means DefaultMaxHold.
	MaxHold time.Duration

	// Timeout bounds a transaction from begin to commit, handlers included. A
	// handler that is still running then fails; it must heed its context, unless
	// there is a HandlerTimeout. At least MaxHold; zero means DefaultTxTimeout, or
	// MaxHold if that is more.
	//
	// A transaction that takes longer than half a second is given up before, and done
	// again, if the store was silent meanwhile and answers again: its connection may
	// be one that has died without a word. To know, the store is asked for its time
	// about twice a second, on another connection. If a connection dies alone, or in a
	// silence of less than a second, while a handler is in work, it is Timeout, or
	// HandlerTimeout, that ends the wait.
	Timeout time.Duration

	// HandlerTimeout ends the context of one call of Process or Batch. A handler
	// that has not returned HandlerGrace later, or as long after the end of Timeout
	// or a Close that gives up, is left behind: its transaction is rolled back from
	// outside, Failed gets ErrHandlerTimeout, other deliveries go on, and what it
	// does with the transaction or returns later changes nothing. So what it got
	// must be its own. Handlers then run on another goroutine than the consumer's.
	// Zero waits for every handler.
	HandlerTimeout time.Duration

	// OnStuck is told that a handler was left behind (1), and that such a one has
	// returned after all (-1). It must not block.
	OnStuck func(change int)
}

// Validate reports all faults at once. Every error wraps [persist.ErrInvalid].
func (cfg TxConfig[T]) Validate() error {
	var f faults
	f.check(cfg.Store != nil, "Store is missing")
	f.group(cfg.Group)
	f.window(cfg.Window, cfg.ClockSkew)
	f.batch(cfg.MaxBatch)
	f.notNegative("PollInterval", cfg.PollInterval)
	f.notNegative("SweepInterval", cfg.SweepInterval)
	f.notNegative("StoreTimeout", cfg.StoreTimeout)
	f.notNegative("MaxHold", cfg.MaxHold)
	f.notNegative("HandlerTimeout", cfg.HandlerTimeout)
	f.check(cfg.MaxAttempts == 0 || cfg.MaxAttempts >= 2, "MaxAttempts is %d; the least is 2, or 0 for no limit", cfg.MaxAttempts)
	f.notNegative("MaxWait", cfg.MaxWait)
	f.atLeast("Timeout", cfg.Timeout, max(cfg.MaxHold, 1))
	return f.join()
}

// withDefaults is a copy without zeros.
func (cfg TxConfig[T]) withDefaults() TxConfig[T] {
	orDefault(&cfg.Window, DefaultWindow)
	orDefault(&cfg.ClockSkew, min(DefaultClockSkew, cfg.Window))
	orDefault(&cfg.MaxBatch, DefaultMaxBatch)
	orDefault(&cfg.PollInterval, DefaultPollInterval)
	orDefault(&cfg.SweepInterval, DefaultSweepInterval)
	orDefault(&cfg.StoreTimeout, DefaultStoreTimeout)
	orDefault(&cfg.MaxHold, DefaultMaxHold)
	orDefault(&cfg.Timeout, max(DefaultTxTimeout, cfg.MaxHold))
	if cfg.OnStuck == nil {
		cfg.OnStuck = func(int) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return cfg
}
